"""examples/triton/serve.sh with a stand-in for Triton: what it serves, and where plaintext and identity never are."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import digits
import numpy as np
import onnx
import pytest
import requests
import runtime
import yaml
from catalog import EXIT_CODES, MODELS, ROOT, files_below
from store import free_port, wait_for

EXAMPLE = ROOT / "examples" / "triton"
SCRIPT = EXAMPLE / "serve.sh"
SERVER = Path(__file__).with_name("model_server.py")
PLAIN = MODELS / "digits_lstm.onnx"
ORIGINALS = {"digits": MODELS / "digits_cnn.onnx", "external": MODELS / "digits_cnn_dynamo.onnx"}


def may(*command):
    """Whether this machine lets the tests run a command, which mounts something in a namespace of its own."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


mounts = pytest.mark.skipif(
    not may("unshare", "--mount", "mount", "-t", "ramfs", "none", "/mnt"),
    reason="no right to mount in a namespace of its own (CAP_SYS_ADMIN)",
)
user_namespaces = pytest.mark.skipif(
    not may("unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "ramfs", "none", "/mnt"),
    reason="no right to make user namespaces that mount",
)
memory = pytest.mark.skipif(
    not may("sh", "-c", "test -w /dev/shm && test $(stat -f -c %T /dev/shm) = tmpfs"),
    reason="/dev/shm is no tmpfs that may be written to",
)


class Served:
    """A model repository with protected models, and what is started on it."""

    def __init__(self, tool, folder):
        self.tool, self.port, self.processes = tool, free_port(), []
        self.repository, self.folder, self.temporary = (folder / name for name in ("models", "opened", "tmp"))
        self.folder.mkdir()
        self.temporary.mkdir()
        shutil.copytree(EXAMPLE / "models", self.repository, dirs_exist_ok=True)
        for name, original in ORIGINALS.items():
            (self.repository / name / "1").mkdir(parents=True)
            tool.protect(original, self.model(name))
        # Both models have the weights in which it is found.
        self.secret = needle(ORIGINALS["digits"], self.model("digits"))
        self.identity = folder / "identity.txt"
        shutil.copy(tool.identity_file, self.identity)
        self.server = [sys.executable, SERVER, "{}", str(self.port)]

    def model(self, name):
        return self.repository / name / "1" / "model.onnx"

    def start(self, *options, folder=None, command=None, before=(), environment=(), **rest):
        """Starts the script; `before` is what it is run by."""
        command = self.server if command is None else command
        command = [*before, SCRIPT, *options, self.repository, folder or self.folder, *command]
        variables = {"ONNXSEAL_BIN": str(self.tool.binary), "TMPDIR": str(self.temporary)} | dict(environment)
        process = subprocess.Popen(
            [str(part) for part in command],
            env=os.environ | variables,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            **{"stdin": subprocess.DEVNULL} | rest,
        )
        self.processes.append(process)
        return process

    def serve(self, *options, **rest):
        """Starts the script, and returns once the server answers."""
        process = self.start(*options, **rest)
        try:
            wait_for(f"http://127.0.0.1:{self.port}/v2/health/ready", process)
        except AssertionError:
            raise AssertionError(process.stderr.read()) from None
        return process

    def fails(self, code, *options, **rest):
        """The script ends with that code before the server is started."""
        mark = self.temporary / "server-was-started"
        process = self.start(*options, command=["touch", mark], **rest)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code, error
        assert list(self.temporary.iterdir()) == []
        self.leaves_nothing()
        return error

    def infer(self, name, kind="nchw"):
        feed = digits.feed_of(kind, digits.held_out()[0])
        tensor = {"name": "input", "shape": feed.shape, "datatype": "FP32", "data": feed.ravel().tolist()}
        url = f"http://127.0.0.1:{self.port}/v2/models/{name}/infer"
        answer = requests.post(url, json={"inputs": [tensor]}, timeout=60)
        answer.raise_for_status()
        (output,) = answer.json()["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    def is_right(self):
        """The server computes what the originals do, to the bit."""
        for name, original in ORIGINALS.items():
            expected = digits.outputs(original, {"input": "nchw", "output": 0})
            assert np.array_equal(self.infer(name), expected)

    def leaves_nothing(self):
        assert list(self.folder.iterdir()) == []
        assert files_with(self.secret, self.repository.parent) == []
        eventually(lambda: not namespaces_with(self.folder))

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stderr.close()


@pytest.fixture
def served(tool, tmp_path):
    served = Served(tool, tmp_path)
    yield served
    served.stop()


@pytest.fixture
def shm():
    """A folder in memory that is not the script's own."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="onnxseal-test-"))
    yield folder
    shutil.rmtree(folder)


def eventually(true):
    """What the kernel does when a process has ended, it does soon."""
    for _ in range(300):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def namespaces_with(folder):
    """Processes that have something mounted over a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines = (process / "mountinfo").read_text().splitlines()
        except OSError:
            continue
        found += [int(process.name) for line in lines if line.split()[4] == str(folder)]
    return found


def needle(model, protected):
    """Bytes of a model that are encrypted in the protected one, as many as a search for them needs."""
    plain = np.frombuffer(model.read_bytes(), np.uint8)
    sealed = np.frombuffer(protected.read_bytes()[: len(plain)], np.uint8)
    at = int(np.flatnonzero(plain != sealed)[0])
    found = plain[at : at + 32].tobytes()
    assert len(set(found)) > 16 and found not in protected.read_bytes()
    return found


def files_with(content, *folders):
    files = (path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    return [path for path in files if content in path.read_bytes()]


def memory_has(pid, content):
    """Whether anything that a process may write to has these bytes."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            start, end, rights = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
            if rights.startswith("rw"):
                memory.seek(int(start, 16))
                try:
                    if content in memory.read(int(end, 16) - int(start, 16)):
                        return True
                except OSError:  # [vvar] and the like
                    continue
    return False


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


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


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
def test_leave_for_plain_models_is_none_for_others(served, stranger):
    shutil.copy(PLAIN, served.model("digits"))
    other = served.repository.parent / "other.txt"
    other.write_text(f"{stranger}\n")
    # One is not protected, the other opens for somebody else: two failures of two classes.
    served.fails(1, "-i", other, "--allow-plain")


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
    shutil.copy(SERVER, served.temporary / "model_server.py")
    for folder in [served.temporary, *served.temporary.parents]:
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o001)
    command = [sys.executable, served.temporary / "model_server.py", "{}", str(served.port)]
    if not may("setpriv", "--reuid", "nobody", "--clear-groups", sys.executable, "-c", "import onnxruntime"):
        pytest.skip("nobody may not run this Python")
    process = served.serve("-i", served.identity, "--user", "nobody", command=command)
    served.is_right()
    status = Path(f"/proc/{process.pid}/status").read_text()
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


def test_folders_on_a_disk_are_refused(served):
    if may("sh", "-c", f"test $(stat -f -c %T {served.folder}) = tmpfs"):
        pytest.skip(f"{served.folder} is in memory")
    assert "is not in memory" in served.fails(2, "-i", served.identity, "--given")


def test_odd_requests_are_refused(served):
    served.fails(2, "-i", served.identity, "--open-only")
    served.fails(2, "-i", served.identity, "--no-such-option")
    inside = served.repository / "digits" / "1"
    assert "is in" in served.fails(2, "-i", served.identity, folder=inside)
    process = served.start("-i", served.identity, command=["no-such-server"])
    assert "no-such-server is not installed" in process.communicate()[1] and process.returncode == 2


@memory
def test_given_memory(served, shm):
    process = served.serve("-i", served.identity, "--given", "--allow-swap", folder=shm)
    served.is_right()
    assert shm / "onnxseal-opened/digits/1/model.onnx" in files_with(served.secret, shm)
    assert (shm / "onnxseal-opened").stat().st_mode & 0o077 == 0
    assert files_with(served.secret, served.repository.parent) == []
    _, error = served.start("-i", served.identity, "--given", "--allow-swap", folder=shm).communicate(timeout=60)
    assert "in use by another" in error
    served.is_right()
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert files_below(shm) == []


@memory
def test_given_memory_after_a_kill_is_emptied_by_the_next(served, shm):
    """Nothing can remove files when it is killed. The server ends with the script, though."""
    first = served.serve("-i", served.identity, "--given", "--allow-swap", folder=shm)
    first.kill()
    first.wait(timeout=60)
    url = f"http://127.0.0.1:{served.port}/v2/health/ready"
    eventually(lambda: not answers(url))
    left = shm / "onnxseal-opened" / "gone" / "model.onnx"
    left.parent.mkdir()
    left.write_text("of a model that the repository no longer has")

    second = served.serve("-i", served.identity, "--given", "--allow-swap", folder=shm)
    served.is_right()
    assert not left.exists()
    second.send_signal(signal.SIGINT)
    assert second.wait(timeout=60) == 128 + signal.SIGTERM
    assert files_below(shm) == []


def answers(url):
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


@memory
def test_given_memory_is_left_filled_if_asked_for(served, shm):
    demand = ["-i", served.identity, "--given", "--allow-swap"]
    for _ in range(2):
        done = served.start(*demand, "--open-only", folder=shm, command=[])
        assert done.wait(timeout=60) == 0, done.stderr.read()
        opened = shm / "onnxseal-opened"
        assert (opened / "digits/1/model.onnx").read_bytes() == ORIGINALS["digits"].read_bytes()
    changed = bytearray(served.model("external").read_bytes())
    changed[5_000] ^= 1
    served.model("external").write_bytes(changed)
    assert served.start(*demand, "--open-only", folder=shm, command=[]).wait(timeout=60) != 0
    assert files_below(shm) == [], "plaintext is left where the next one failed"


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
    """The kernel's list of swap devices is another one in the namespace that the script is started in."""
    swaps = served.repository.parent / "swaps"
    swaps.write_text(SWAPS + SWAP[swap])
    device = f"""
        mount --bind {swaps} /proc/swaps
        mount -t tmpfs none /sys/class/block && mkdir -p /sys/class/block/dm-7/dm /sys/class/block/sda2
        echo CRYPT-PLAIN-swap > /sys/class/block/dm-7/dm/uuid
        exec "$@"
    """
    before = ["unshare", "--mount", "sh", "-ec", device, "sh"]
    options = ["-i", served.identity, "--given", *options]
    if allowed:
        served.serve(*options, folder=shm, before=before)
        served.is_right()
    else:
        assert "may be swapped out" in served.fails(2, *options, folder=shm, before=before)
    assert allowed or files_below(shm) == []


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
    assert runtime.session(ORIGINALS["digits"]) is not None
