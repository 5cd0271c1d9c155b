"""examples/triton/serve.sh with a stand-in for Triton: what it serves, and where plaintext and identity never are."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import digits
import numpy as np
import onnx
import pytest
from catalog import EXIT_CODES
from serving import (
    EXAMPLE,
    ORIGINALS,
    PLAIN,
    SERVER,
    command_line,
    eventually,
    files_with,
    may,
    memory_has,
    mounts,
    namespaces_with,
    user_namespaces,
)


@mounts
def test_serves_what_the_originals_compute_and_shows_nobody(served):
    process = served.serve("-i", served.identity)
    served.is_right()

    inside = Path(f"/proc/{process.pid}/root{served.folder}/opened")
    assert inside / "digits/1/model.onnx" in files_with(served.secret, inside), "the search does not find plaintext"
    assert files_with(served.secret, served.repository.parent, "/dev/shm") == []
    assert list(served.folder.iterdir()) == [] and str(served.folder) not in Path("/proc/self/mountinfo").read_text()
    assert namespaces_with(served.folder) == [process.pid]
    assert inside.stat().st_mode & 0o077 == 0
    assert (inside / "digits" / "config.pbtxt").read_bytes() == (EXAMPLE / "models/digits/config.pbtxt").read_bytes()


@mounts
def test_writes_to_memory_alone(served):
    """It works where nothing else can be written to."""
    read_only = """
        for folder in / $(findmnt -rno TARGET -t tmpfs,ext4,xfs,btrfs,overlay); do
            mount -o remount,bind,ro "$folder" 2>/dev/null || true
        done
        ! touch "$TMPDIR/x" /dev/shm/x 2>/dev/null || exit 99
        exec "$@"
    """
    served.serve("-i", served.identity, before=["unshare", "--mount", "sh", "-c", read_only, "sh"])
    served.is_right()


@mounts
def test_memory_is_never_swapped_out_nor_dumped(served):
    process = served.serve("-i", served.identity, "--size", "64M")
    mount = next(m for m in Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines() if str(served.folder) in m)
    assert " ramfs " in mount or "noswap" in mount.rpartition(" ")[2].split(",")
    assert {"nosuid", "nodev", "noexec"} <= set(mount.split()[5].split(","))
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M)
    assert int(Path(f"/proc/{process.pid}/coredump_filter").read_text(), 16) == 0


@mounts
def test_too_little_memory_is_an_error_of_the_tool(served):
    served.fails(EXIT_CODES["io"], "-i", served.identity, "--size", "64K")


@mounts
@pytest.mark.parametrize("by", ["descriptor", "substitution", "standard input", "file", "variable"])
def test_the_server_does_not_get_the_identity(by, served):
    secret = served.identity.read_bytes()
    reading, writing = os.pipe()
    os.write(writing, secret)
    os.close(writing)
    pipe = os.readlink(f"/proc/self/fd/{reading}")
    given = {
        "descriptor": dict(environment={"ONNXSEAL_IDENTITY": f"fd:{reading}"}, pass_fds=[reading]),
        "substitution": dict(pass_fds=[reading]),
        "standard input": dict(stdin=reading),
        "file": dict(),
        "variable": dict(environment={"ONNXSEAL_IDENTITY": str(served.identity)}),
    }[by]
    options = {
        "substitution": ["-i", f"/dev/fd/{reading}"],
        "standard input": ["-i", "-"],
        "file": ["-i", served.identity],
    }.get(by, [])
    process = served.serve(*options, **given)
    os.close(reading)
    served.is_right()

    of_server = Path(f"/proc/{process.pid}")
    assert b"ONNXSEAL_IDENTITY" not in (of_server / "environ").read_bytes()
    opened = {os.readlink(link) for link in (of_server / "fd").iterdir()}
    assert opened and not opened & {pipe, str(served.identity)}
    key = re.search(rb"AGE-SECRET-KEY-\w+", secret)[0]
    assert not memory_has(process.pid, key) and memory_has(process.pid, b"/v2/health/ready")
    if by in ("file", "variable"):
        assert (of_server / f"root{served.identity}").read_bytes() == b""
    assert served.identity.read_bytes() == secret


@mounts
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_the_server_ends(number, served):
    process = served.serve("-i", served.identity)
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    served.leaves_nothing()


@mounts
def test_the_exit_code_is_the_servers(served):
    assert served.start("-i", served.identity, command=["sh", "-c", "exit 42"]).wait(timeout=60) == 42
    served.leaves_nothing()


@mounts
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended_before_the_server_starts(number, served):
    """The tool waits for an identity that never comes."""
    reading, writing = os.pipe()
    mark = served.temporary / "server-was-started"
    process = served.start("-i", f"/dev/fd/{reading}", command=["touch", mark], pass_fds=[reading])
    os.close(reading)
    waits = lambda: [p for p in namespaces_with(served.folder) if b"unprotect" in command_line(p)]  # noqa: E731
    eventually(waits)
    process.send_signal(number)
    assert process.wait(timeout=60) in (143, -number)
    served.leaves_nothing()
    os.close(writing)


@mounts
def test_models_that_cannot_be_opened(served, stranger):
    other = served.repository.parent / "other.txt"
    other.write_text(f"{stranger}\n")
    served.fails(EXIT_CODES["no_matching_key"], "-i", other)

    model = served.model("digits")
    sound = model.read_bytes()
    changed = bytearray(sound)
    changed[20_000] ^= 1
    model.write_bytes(changed)
    served.fails(EXIT_CODES["authentication"], "-i", served.identity)
    model.write_bytes(sound[:30_000])
    served.fails(EXIT_CODES["malformed"], "-i", served.identity)
    model.write_bytes(sound)

    (weights,) = served.repository.glob("external/1/*.data")
    weights.rename(weights.with_suffix(".away"))
    served.fails(EXIT_CODES["io"], "-i", served.identity)


@mounts
def test_models_that_are_not_protected(served):
    plain = served.repository / "plain" / "1" / "model.onnx"
    plain.parent.mkdir(parents=True)
    shutil.copy(PLAIN, plain)
    served.fails(EXIT_CODES["policy"], "-i", served.identity)
    served.serve("-i", served.identity, "--allow-plain")
    served.is_right()
    assert np.array_equal(served.infer("plain", "rows"), digits.outputs(PLAIN, {"input": "rows", "output": 0}))


@mounts
def test_models_in_onnx_runtime_s_own_format(served):
    """They cannot be protected, so they are plain ones."""
    ort = served.repository / "ort" / "1" / "model.ort"
    ort.parent.mkdir(parents=True)
    ort.write_bytes(b"\x38\0\0\0ORTM" + bytes(100))
    served.fails(EXIT_CODES["policy"], "-i", served.identity)
    served.serve("-i", served.identity, "--allow-plain")
    served.is_right()


@mounts
def test_leave_for_plain_models_is_none_for_others(served, stranger):
    shutil.copy(PLAIN, served.model("digits"))
    other = served.repository.parent / "other.txt"
    other.write_text(f"{stranger}\n")
    # One is not protected, the other opens for somebody else: two failures of two classes.
    served.fails(1, "-i", other, "--allow-plain")
    # Nor is it one for what the tool refuses as a whole.
    served.fails(2, "-i", served.identity, "--allow-plain", "--signer", "nobody@example.com")


@mounts
def test_tiers(served, tiers):
    """A lower tier is served only if it is named."""
    trial, both = ["-i", tiers.trial], ["-i", tiers.trial, "-i", served.identity]
    shutil.copy(tiers.protected, served.model("digits"))
    # The other model has no tiers.
    served.fails(EXIT_CODES["policy"], *both, "--tier", "trial")
    other = served.repository / "external"
    other.rename(served.repository.parent / "external")
    assert "which is not the original" in served.fails(EXIT_CODES["no_matching_key"], *trial)
    served.fails(EXIT_CODES["no_matching_key"], *trial, "--tier", "full")
    served.fails(EXIT_CODES["policy"], *trial, "--tier", "gold")

    def answer(*options):
        process = served.serve(*options)
        found = served.infer("digits")
        process.terminate()
        process.wait(timeout=60)
        return found

    facts = {"input": "nchw", "output": 0}
    lower, whole = (digits.outputs(path, facts) for path in (tiers.unprotected, tiers.original))
    assert not np.allclose(lower, whole)
    for options in ([*trial, "--tier", "trial"], [*both, "--tier", "trial"], [*trial, "--tier", "any"]):
        assert np.array_equal(answer(*options), lower)
    assert np.array_equal(answer(*both), whole)
    (served.repository.parent / "external").rename(other)
    served.serve(*both, "--tier", "any")
    served.is_right()


@mounts
def test_signers(served, tool, tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    signers = tmp_path / "signers"
    signers.write_text(f'release@example.com namespaces="onnxseal" {key.with_suffix(".pub").read_text()}')
    demand = ["-i", served.identity, "--allowed-signers", signers, "--signer"]
    served.fails(EXIT_CODES["authentication"], *demand, "release@example.com")
    for name in ORIGINALS:
        tool("sign", served.model(name), "--key", key)
    served.fails(EXIT_CODES["authentication"], *demand, "other@example.com")
    served.serve(*demand, "release@example.com")
    served.is_right()


@mounts
def test_the_server_may_be_another_user(served):
    if not may("setpriv", "--reuid", "nobody", "--clear-groups", sys.executable, "-c", "import onnxruntime"):
        pytest.skip("nobody may not run this Python")
    # Folders of tests are closed to others.
    with tempfile.TemporaryDirectory() as public:
        public = Path(public)
        public.chmod(0o755)
        (public / "opened").mkdir()
        command = [sys.executable, shutil.copy(SERVER, public), "{}", str(served.port)]
        process = served.serve("-i", served.identity, "--user", "nobody", command=command, folder=public / "opened")
        served.is_right()
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
        process.wait(timeout=60)
        eventually(lambda: not namespaces_with(public / "opened"))
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert not re.search(r"^Uid:.*\t0(\t|$)", status, re.M)


@user_namespaces
def test_without_root_in_a_user_namespace(served):
    process = served.serve("-i", served.identity, before=["unshare", "--user", "--map-root-user"])
    served.is_right()
    assert f" {served.folder} " in Path(f"/proc/{process.pid}/mountinfo").read_text()
    assert files_with(served.secret, served.repository.parent, "/dev/shm") == []
    process.kill()
    process.wait(timeout=60)
    served.leaves_nothing()


@mounts
def test_without_the_right_to_mount_nothing_is_opened(served):
    deprived = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    if not may(*deprived, "true"):
        pytest.skip("no right to give up rights (CAP_SETPCAP)")
    error = served.fails(2, "-i", served.identity, before=deprived)
    assert "no right to mount memory" in error and "--given" in error


def test_odd_requests_are_refused(served):
    served.fails(2, "-i", served.identity, "--open-only")
    served.fails(2, "-i", served.identity, "--no-such-option")
    inside = served.repository / "digits" / "1"
    assert "is in" in served.fails(2, "-i", served.identity, folder=inside)
    process = served.start("-i", served.identity, command=["no-such-server"])
    assert "no-such-server is not installed" in process.communicate()[1] and process.returncode == 2


@mounts
def test_links_that_lead_out_of_the_repository_give_nothing(served, tmp_path):
    """Else whoever writes to it gets the server all that root can read, the identity for one."""
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("not for the server")
    labels = served.repository / "digits" / "labels.txt"
    labels.symlink_to(elsewhere)
    assert "leads out of the repository" in served.fails(2, "-i", served.identity)
    labels.unlink()
    labels.symlink_to(served.identity)
    process = served.serve("-i", served.identity)
    opened = Path(f"/proc/{process.pid}/root{served.folder}/opened")
    assert files_with(served.secret, opened) != []
    assert files_with(served.identity.read_bytes(), opened) == []


def test_the_configuration_is_that_of_the_model():
    text = (EXAMPLE / "models" / "digits" / "config.pbtxt").read_text()
    graph = onnx.load(ORIGINALS["digits"]).graph
    for kind, values in [("input", graph.input), ("output", graph.output)]:
        section = re.search(rf"^{kind} \[(.*?)^\]", text, re.S | re.M)[1]
        assert re.findall(r'name: "(\w+)"', section) == [value.name for value in values]
        dims = [[int(n) for n in found.split(",")] for found in re.findall(r"dims: \[([\d, ]+)\]", section)]
        # The first dimension is the batch, which max_batch_size stands for.
        shapes = [value.type.tensor_type.shape.dim[1:] for value in values]
        assert dims == [[dim.dim_value for dim in shape] for shape in shapes]
    assert 'backend: "onnxruntime"' in text and int(re.search(r"max_batch_size: (\d+)", text)[1]) > 0
