"""`onnxseal run` with a stand-in for Triton: what it serves, and where plaintext and identity never are.

Tests look for plaintext in all of /dev/shm, where others have some: they are in one file, so in one process."""

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
import onnxruntime
import pytest
import yaml
from catalog import EXIT_CODES, ROOT, files_below
from serving import (
    EXAMPLE,
    ORIGINALS,
    PLAIN,
    SERVER,
    answers,
    eventually,
    files_with,
    may,
    memory,
    memory_has,
    mounts,
    namespaces_with,
    opened_by,
    python_of_nobody,
    user_namespaces,
)
from store import wait_for


@mounts
def test_serves_what_the_originals_compute_and_shows_nobody(served):
    process = served.serve("-i", served.identity)
    served.is_right()

    inside = Path(f"/proc/{process.pid}/root{served.repository}")
    assert inside / "digits/1/model.onnx" in files_with(served.secret, inside), "the search does not find plaintext"
    assert files_with(served.secret, served.repository.parent, "/dev/shm") == []
    assert str(served.repository) not in Path("/proc/self/mountinfo").read_text()
    assert namespaces_with(served.repository) == [process.pid]
    assert inside.stat().st_mode & 0o077 == 0 and (inside / "digits/1/model.onnx").stat().st_mode & 0o077 == 0
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
    mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
    mount = next(m for m in mounts if m.split()[4] == str(served.repository))
    assert " ramfs " in mount or "noswap" in mount.rpartition(" ")[2].split(",")
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(mount.split()[5].split(","))
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert re.search(r"^Max core file size +0 +0 ", limits, re.M)
    assert int(Path(f"/proc/{process.pid}/coredump_filter").read_text(), 16) == 0


@mounts
def test_too_little_memory_is_an_error_of_the_tool(served):
    served.fails(EXIT_CODES["io"], "-i", served.identity, "--size", "64K")


@mounts
@pytest.mark.parametrize(
    "by", ["descriptor", "descriptor of the file", "substitution", "standard input", "file", "variable"]
)
def test_the_server_does_not_get_the_identity(by, served):
    secret = served.identity.read_bytes()
    reading, writing = os.pipe()
    os.write(writing, secret)
    os.close(writing)
    pipe = os.readlink(f"/proc/self/fd/{reading}")
    file = os.open(served.identity, os.O_RDONLY)
    given = {
        "descriptor of the file": dict(environment={"ONNXSEAL_IDENTITY": f"fd:{file}"}, pass_fds=[file]),
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
    os.close(file)
    served.is_right()

    of_server = Path(f"/proc/{process.pid}")
    assert b"ONNXSEAL_IDENTITY" not in (of_server / "environ").read_bytes()
    opened = opened_by(process.pid)
    assert opened and not opened & {pipe, str(served.identity)}
    key = re.search(rb"AGE-SECRET-KEY-\w+", secret)[0]
    assert not memory_has(process.pid, key) and memory_has(process.pid, b"/v2/health/ready")
    if by in ("file", "variable", "descriptor of the file"):
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
    """It waits for an identity that never comes."""
    reading, writing = os.pipe()
    mark = served.temporary / "server-was-started"
    process = served.start("-i", f"/dev/fd/{reading}", command=["touch", mark], pass_fds=[reading])
    os.close(reading)
    own = os.readlink("/proc/self/ns/mnt")
    eventually(lambda: os.readlink(f"/proc/{process.pid}/ns/mnt") != own)
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    served.leaves_nothing()
    assert not mark.exists()
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
    # One is not protected, the other opens for somebody else.
    served.fails(EXIT_CODES["no_matching_key"], "-i", other, "--allow-plain")
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
    python = python_of_nobody()
    # Folders of tests are closed to others.
    with tempfile.TemporaryDirectory() as public:
        public = Path(public)
        public.chmod(0o755)
        models = shutil.copytree(served.repository, public / "models")
        command = [*python, shutil.copy(SERVER, public), "{}", str(served.port)]
        process = served.serve("-i", served.identity, "--user", "nobody", command=command, models=[models])
        served.is_right()
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
        process.wait(timeout=60)
        eventually(lambda: not namespaces_with(public))
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert not re.search(r"^Uid:.*\t0(\t|$)", status, re.M)


@user_namespaces
def test_without_root_in_a_user_namespace(served):
    process = served.serve("-i", served.identity, before=["unshare", "--user", "--map-root-user"])
    served.is_right()
    assert namespaces_with(served.repository) == [process.pid]
    assert files_with(served.secret, served.repository.parent, "/dev/shm") == []
    process.kill()
    process.wait(timeout=60)
    served.leaves_nothing()


@user_namespaces
def test_without_the_right_to_mount_nothing_is_opened(served):
    none = """
        echo 0 > /proc/sys/user/max_mnt_namespaces
        echo 0 > /proc/sys/user/max_user_namespaces
        exec "$@"
    """
    before = ["unshare", "--user", "--map-root-user", "sh", "-ec", none, "sh"]
    error = served.fails(2, "-i", served.identity, before=before)
    assert "the system allows no private mounts" in error and "--into" in error


def test_odd_requests_are_refused(served):
    served.fails(2, "-i", served.identity, "--no-such-option")
    inside = served.repository / "digits" / "1"
    assert "lie one in the other" in served.fails(2, "-i", served.identity, "--into", inside)
    assert "one model or folder" in served.fails(
        2, "-i", served.identity, "--into", served.temporary, models=[served.repository, inside]
    )
    process = served.start("-i", served.identity, command=[])
    assert "PROGRAM" in process.communicate(timeout=60)[1] and process.returncode == 2


@mounts
def test_links_give_the_server_what_they_give_outside(served, tmp_path):
    """Whoever writes to the repository gets the server nothing by a link that it cannot read by itself."""
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("the server's own rights decide")
    labels = served.repository / "digits" / "labels.txt"
    labels.symlink_to(elsewhere)
    (served.repository / "digits" / "identity.txt").symlink_to(served.identity)
    process = served.serve("-i", served.identity)
    served.is_right()
    opened = Path(f"/proc/{process.pid}/root{served.repository}")
    assert files_with(served.secret, opened) != []
    assert os.readlink(opened / "digits" / "labels.txt") == str(elsewhere)
    read = served.output("-i", served.identity, command=["cat", labels, labels.with_name("identity.txt")])
    assert read == elsewhere.read_text()


@memory
def test_links_that_lead_out_of_the_repository_are_not_copied(served, tmp_path, shm):
    """Else whoever writes to it gets the server all that root can read."""
    demand = ["-i", served.identity, "--into", shm, "--allow-swap"]
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("not for the server")
    labels = served.repository / "digits" / "labels.txt"
    for target in elsewhere, elsewhere.parent:
        labels.symlink_to(target)
        assert "leads out of the folder" in served.fails(2, *demand)
        assert files_below(shm) == []
        labels.unlink()
    # Nor is the identity, wherever it lies, by whatever name.
    (served.repository / "again").symlink_to("digits")
    (served.repository / "upwards").symlink_to("..")
    assert "leads out of the folder" in served.fails(2, *demand)
    (served.repository / "upwards").unlink()
    (served.repository / "digits" / "upwards").symlink_to("..")
    labels.symlink_to(served.identity)
    names = served.output(*demand, command=["find", "{}", "-name", "*.txt"])
    assert names == ""
    assert served.output(*demand, command=["ls", "{}/again/1"]) == "model.onnx\n"


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


# --- on memory that it is given, as in containers that may not mount ---------------------------------


@memory
def test_given_memory(served, shm):
    process = served.serve("-i", served.identity, "--into", shm, "--allow-swap")
    served.is_right()
    assert shm / "onnxseal-opened/digits/1/model.onnx" in files_with(served.secret, shm)
    assert (shm / "onnxseal-opened").stat().st_mode & 0o077 == 0
    assert files_with(served.secret, served.repository.parent) == []
    _, error = served.start("-i", served.identity, "--into", shm, "--allow-swap").communicate(timeout=60)
    assert "in use by another" in error
    served.is_right()
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert files_below(shm) == []


@memory
def test_given_memory_after_a_kill_is_emptied_by_the_next(served, shm):
    """Nothing can remove files when it is killed. The server ends with it, though."""
    first = served.serve("-i", served.identity, "--into", shm, "--allow-swap")
    first.kill()
    first.wait(timeout=60)
    url = f"http://127.0.0.1:{served.port}/v2/health/ready"
    eventually(lambda: not answers(url))
    left = shm / "onnxseal-opened" / "gone" / "model.onnx"
    left.parent.mkdir()
    left.write_text("of a model that the repository no longer has")

    second = served.serve("-i", served.identity, "--into", shm, "--allow-swap")
    served.is_right()
    assert not left.exists()
    second.send_signal(signal.SIGHUP)
    assert second.wait(timeout=60) == 128 + signal.SIGHUP
    assert files_below(shm) == []


@memory
def test_given_memory_is_left_filled_if_asked_for(served, shm):
    demand = ["-i", served.identity, "--into", shm, "--allow-swap"]
    for _ in range(2):
        done = served.start(*demand, command=[])
        assert done.wait(timeout=60) == 0, done.stderr.read()
        opened = shm / "onnxseal-opened"
        assert (opened / "digits/1/model.onnx").read_bytes() == ORIGINALS["digits"].read_bytes()
    changed = bytearray(served.model("external").read_bytes())
    changed[5_000] ^= 1
    served.model("external").write_bytes(changed)
    assert served.start(*demand, command=[]).wait(timeout=60) != 0
    assert files_below(shm) == [], "plaintext is left where the next one failed"


@memory
def test_the_pod_of_the_documentation(served, shm):
    """The commands of its containers, one after the other as Kubernetes runs them, on the folders that it mounts."""
    manifest = (ROOT / "examples" / "kubernetes" / "serve.yaml").read_text()
    pod = yaml.safe_load(manifest)["spec"]
    (init,), (container,) = pod["initContainers"], pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["opened"]["emptyDir"]["medium"] == "Memory"
    assert "identity" not in [mount["name"] for mount in container["volumeMounts"]]

    keys = served.repository.parent / "identity"
    keys.mkdir()
    shutil.copy(served.identity, keys / "key")
    folders = {"models": served.repository, "identity": keys, "opened": shm, "tmp": served.temporary}
    assert folders.keys() == volumes.keys()

    def here(of):
        command = of["command"]
        for mount in of["volumeMounts"]:
            path = re.compile(rf"(^|=){mount['mountPath']}\b")
            command = [path.sub(rf"\1{folders[mount['name']]}", part) for part in command]
        return command

    name, subcommand, *arguments = here(init)
    assert (name, subcommand) == ("/onnxseal", "run")
    subprocess.run([served.tool.binary, "run", "--allow-swap", *arguments], check=True, timeout=60)
    name, repository = here(container)
    assert name == "tritonserver"
    command = [sys.executable, SERVER, repository.removeprefix("--model-repository="), str(served.port)]
    server = subprocess.Popen(command)
    served.processes.append(server)
    wait_for(f"http://127.0.0.1:{served.port}/v2/health/ready", server)
    served.is_right()


SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
SWAP = {
    "none": "",
    "disk": "/dev/sda2                               partition\t8388604\t\t0\t\t-2\n",
    "encrypted": "/dev/dm-7                               partition\t8388604\t\t0\t\t-2\n",
    "both": "/dev/dm-7 partition 8388604 0 -2\n/swapfile file 8388604 0 -3\n",
}


@mounts
@memory
@pytest.mark.parametrize("swap, options, allowed", [
    ("none", [], True),
    ("disk", [], False),
    ("disk", ["--allow-swap"], True),
    ("encrypted", [], True),
    ("both", [], False),
])  # fmt: skip
def test_given_memory_that_may_be_swapped_out(swap, options, allowed, served, shm):
    """The kernel's list of swap devices is another one in the namespace that it is started in."""
    swaps = served.repository.parent / "swaps"
    swaps.write_text(SWAPS + SWAP[swap])
    device = f"""
        mount --bind {swaps} /proc/swaps
        mount -t tmpfs none /sys/class/block && mkdir -p /sys/class/block/dm-7/dm /sys/class/block/sda2
        echo CRYPT-PLAIN-swap > /sys/class/block/dm-7/dm/uuid
        exec "$@"
    """
    before = ["unshare", "--mount", "sh", "-ec", device, "sh"]
    options = ["-i", served.identity, "--into", shm, *options]
    if allowed:
        served.serve(*options, before=before)
        served.is_right()
    else:
        assert "may be swapped out" in served.fails(2, *options, before=before)
    assert allowed or files_below(shm) == []


def test_folders_on_a_disk_are_refused(served, tmp_path):
    disk = tmp_path / "opened"
    disk.mkdir()
    if may("sh", "-c", f"test $(stat -f -c %T {disk}) = tmpfs"):
        pytest.skip(f"{disk} is in memory")
    assert "is not in memory" in served.fails(2, "-i", served.identity, "--into", disk)
    assert list(disk.iterdir()) == []


def test_the_service_of_the_page_answers(tool, tmp_path):
    """examples/fastapi/service.py, which the page shows, with paths of this test."""
    source = (ROOT / "examples" / "fastapi" / "service.py").read_text()
    shown = re.search(r"```python\n(app = FastAPI.*?)```", (ROOT / "docs" / "SERVING.md").read_text(), re.S)[1]
    assert source.endswith(shown)
    model = ROOT / "fixtures" / "models" / "digits_cnn.onnx"
    tool.protect(model, tmp_path / "digits.onnx")
    for there, here in [("/models/digits.onnx", tmp_path / "digits.onnx"), ("/run/secrets/identity", tool.identity_file)]:
        assert there in source
        source = source.replace(there, str(here))
    service = {}
    exec(compile(source, "service.py", "exec"), service)
    pixels = np.linspace(0, 1, 3 * 64, dtype=np.float32).reshape(3, 64)
    plain = onnxruntime.InferenceSession(model)
    (scores,) = plain.run(None, {"input": pixels.reshape(-1, 1, 8, 8)})
    assert service["digits"](pixels.tolist()) == scores.argmax(1).tolist()
    assert [route.path for route in service["app"].routes if "digits" in route.path] == ["/digits"]
