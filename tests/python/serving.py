"""`onnxseal run` under test: what it is started on, and where to look for plaintext and identity."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import digits
import numpy as np
import pytest
import requests
from catalog import MODELS, ROOT
from store import free_port, wait_for

EXAMPLE = ROOT / "examples" / "triton"
SERVER = Path(__file__).with_name("model_server.py")
PLAIN = MODELS / "digits_lstm.onnx"
ORIGINALS = {"digits": MODELS / "digits_cnn.onnx", "external": MODELS / "digits_cnn_dynamo.onnx"}


# Programs inherit what is ignored, and under nohup that is this signal.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def may(*command):
    """Whether this machine lets the tests run a command, which mounts something in a namespace of its own."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]


def python_of_nobody():
    """The start of a command by which the user nobody runs Python with ONNX Runtime, if there is one."""
    packages = "PYTHONPATH=" + os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    for python in [sys.executable], [packages, "/usr/bin/python3"]:
        command = ["env", *python]
        if may(*NOBODY, *command, "-c", "import onnxruntime, numpy"):
            return command
    pytest.skip("nobody may run no Python that has ONNX Runtime")


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
        self.repository, self.temporary = folder / "models", folder / "tmp"
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

    def start(self, *options, command=None, before=(), environment=(), models=None, **rest):
        """Starts `onnxseal run`; `before` is what it is run by."""
        command = self.server if command is None else command
        program = ["--", *command] if command else []
        models = [self.repository] if models is None else models
        command = [*before, self.tool.binary, "run", *options, *models, *program]
        process = subprocess.Popen(
            [os.fspath(part) for part in command],
            env=os.environ | {"TMPDIR": str(self.temporary)} | dict(environment),
            stderr=subprocess.PIPE,
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | rest,
        )
        self.processes.append(process)
        return process

    def output(self, *options, code=0, **rest):
        """What a program prints that ends by itself, with that code."""
        process = self.start(*options, stdout=subprocess.PIPE, **rest)
        output, error = process.communicate(timeout=60)
        assert process.returncode == code, error
        return output

    def serve(self, *options, **rest):
        """Starts it, and returns once the server answers."""
        process = self.start(*options, **rest)
        try:
            wait_for(f"http://127.0.0.1:{self.port}/v2/health/ready", process)
        except AssertionError:
            raise AssertionError(process.stderr.read()) from None
        return process

    def fails(self, code, *options, **rest):
        """It ends with that code before the server is started."""
        mark = self.temporary / "server-was-started"
        process = self.start(*options, command=["touch", mark], **rest)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code, error
        assert list(self.temporary.iterdir()) == []
        self.leaves_nothing()
        return error

    def fails_with(self, code, *options, command=("true",), **rest):
        """What a program, or onnxseal for it, says of its failure; any code but 0 where that is None."""
        process = self.start(*options, command=command, **rest)
        _, error = process.communicate(timeout=60)
        assert process.returncode == code or (code is None and process.returncode > 0), error
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
        assert files_with(self.secret, self.repository.parent) == []
        eventually(lambda: not namespaces_with(self.repository.parent))

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()


def eventually(true):
    """What the kernel does when a process has ended, it does soon."""
    for _ in range(300):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def namespaces_with(folder):
    """Processes that have something mounted over a folder, or in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            lines = (process / "mountinfo").read_text().splitlines()
        except OSError:
            continue
        if any(Path(line.split()[4]).is_relative_to(folder) for line in lines):
            found.append(int(process.name))
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
    """The files below the folders that have these bytes."""
    found = []
    # `os.walk` passes over folders that other tests remove meanwhile.
    for path in (Path(top, name) for folder in folders for top, _, names in os.walk(folder) for name in names):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and content in path.read_bytes():
                found.append(path)
    return found


def opened_by(pid):
    """What the descriptors of a process refer to, without those that it closes meanwhile, as a server does all the time."""
    opened = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            opened.add(os.readlink(link))
    return opened


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


def answers(url):
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False
