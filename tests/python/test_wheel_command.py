"""The command that the Python package brings, which is held against the binary."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import onnxseal
import pytest
from catalog import EXIT_CODES, MODELS, SEALED, files_below
from onnxseal import _onnxseal
from serving import memory, mounts

MODEL = MODELS / "digits_cnn.onnx"
SCRIPT = Path(sys.executable).parent / "onnxseal"


@pytest.fixture(params=["binary", "script"])
def program(request, tool):
    return tool.binary if request.param == "binary" else SCRIPT


def run(program, *arguments, **more):
    return subprocess.run([program, *arguments], capture_output=True, timeout=300, **more)


def writer(fifo):
    """The open end of a pipe, once a program waits at the other one."""
    for _ in range(3000):
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO
            time.sleep(0.01)
    raise AssertionError("nobody reads")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        [],
        ["help", "protect"],
        ["protect", "--no-such-option"],
        ["keygen", "--passphrase", "hunter2"],
        ["inspect", MODEL],
        ["plan", MODEL, "--json"],
        ["verify", MODEL, "--require-protected"],
        ["verify", SEALED / "invalid", "--sarif"],
        ["inspect", "missing.onnx"],
    ],
    ids=lambda arguments: " ".join(str(argument) for argument in arguments[:2]) or "nothing",
)
def test_both_say_the_same(arguments, tool):
    ours, theirs = (run(program, *arguments) for program in (SCRIPT, tool.binary))
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_exit_codes_are_the_binary_s(tool, stranger, tmp_path):
    sealed, changed, bad, key = (tmp_path / name for name in ("sealed.onnx", "changed", "bad", "other.txt"))
    tool.protect(MODEL, sealed, "--preset", "balanced")
    content = bytearray(sealed.read_bytes())
    content[20_000] ^= 1
    changed.write_bytes(content)
    bad.write_bytes(b"no model")
    key.write_text(str(stranger))
    for code, arguments in [
        (0, [sealed, "-i", tool.identity_file]),
        (EXIT_CODES["usage"], [sealed, "--tier", "a"]),
        (EXIT_CODES["malformed"], [bad]),
        (EXIT_CODES["authentication"], [changed, "-i", tool.identity_file]),
        (EXIT_CODES["no_matching_key"], [sealed, "-i", key]),
        (EXIT_CODES["policy"], [sealed, "--preset", "full"]),
        (EXIT_CODES["io"], ["missing.onnx"]),
    ]:
        codes = [run(program, "verify", *arguments).returncode for program in (SCRIPT, tool.binary)]
        assert codes == [code, code], arguments


def test_names_of_files_are_bytes(program, tool, tmp_path):
    out = os.fsencode(tmp_path / "sealed-") + b"\xff\xfe.onnx"
    run(program, "protect", MODEL, "-o", out, "-r", tool.recipient, check=True)
    back = os.fsencode(tmp_path / "back-") + b"\xe4.onnx"
    run(program, "unprotect", out, "-i", tool.identity_file, "-o", back, check=True, env={"LC_ALL": "C"})
    assert Path(os.fsdecode(back)).read_bytes() == MODEL.read_bytes()


def test_a_reader_that_goes_is_no_error(program):
    started = subprocess.Popen([program, "help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    started.stdout.close()
    assert (started.wait(60), started.stderr.read()) == (0, b"")


def test_no_file_becomes_standard_output(program, tool, tmp_path):
    """Opened files get the lowest free number, and notes are written to number 2."""
    sealed, fifo = tmp_path / "sealed.onnx", tmp_path / "identity"
    tool.protect(MODEL, sealed)
    os.mkfifo(fifo)
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", program, "verify", sealed, "-i", fifo]
    started = subprocess.Popen(command)
    held = writer(fifo)
    folder = Path("/proc") / str(started.pid) / "fd"
    assert [os.readlink(folder / str(number)) for number in range(3)] == [os.devnull] * 3
    os.write(held, tool.identity_file.read_bytes())
    os.close(held)
    assert started.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_at_once(program, tool, tmp_path, number):
    sealed, fifo = tmp_path / "sealed.onnx", tmp_path / "identity"
    tool.protect(MODEL, sealed)
    os.mkfifo(fifo)
    command = [program, "unprotect", sealed, "-i", fifo, "-o", tmp_path / "out.onnx"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE)
    held = writer(fifo)
    started.send_signal(number)
    assert (started.wait(60), started.stderr.read()) == (-number, b"")
    os.close(held)
    assert files_below(tmp_path) == ["sealed.onnx"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_a_batch_end(program, tool, tmp_path, number):
    fifo, report = tmp_path / "list", tmp_path / "report.json"
    os.mkfifo(fifo)
    command = [program, "batch", "verify", "--list", fifo, "--report", report]

    def started():
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    batch = started()
    held = writer(fifo)
    batch.send_signal(number)
    # The batch must have heard of it before it has anything to do.
    time.sleep(0.2)
    os.write(held, f"{MODEL}\n".encode())
    os.close(held)
    assert batch.wait(60) == 128 + number
    assert "stopped before 1 of 1 models" in batch.stderr.read().decode()
    assert json.loads(report.read_text())["stopped"]

    batch = started()
    held = writer(fifo)
    batch.send_signal(number)
    time.sleep(0.2)
    batch.send_signal(number)
    assert batch.wait(60) == -number
    os.close(held)


def test_ignored_signals_stay_ignored(program, tool, tmp_path):
    """As those of jobs that a shell began in the background."""
    fifo = tmp_path / "identity"
    os.mkfifo(fifo)
    ignore = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    sealed = tmp_path / "sealed.onnx"
    tool.protect(MODEL, sealed)
    command = [program, "verify", sealed, "-i", fifo]
    started = subprocess.Popen(command, preexec_fn=ignore, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    held = writer(fifo)
    started.send_signal(signal.SIGINT)
    time.sleep(0.2)
    os.write(held, tool.identity_file.read_bytes())
    os.close(held)
    assert started.wait(60) == 0


def test_onnx_runtime_is_found_where_the_interpreter_has_it(tmp_path):
    """Whatever environment is active, and with no Python on the path."""
    other = tmp_path / "lib" / "python3.12" / "site-packages" / "onnxruntime" / "capi"
    other.mkdir(parents=True)
    (other / "libonnxruntime.so.1.0.0").write_text("no library")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DYLIB_PATH"}
    environment |= {"VIRTUAL_ENV": str(tmp_path), "PATH": "/nowhere", "HOME": "/nowhere"}
    command = [SCRIPT, "assess", MODEL, "--preset", "full", "--no-public-base", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    library = Path(json.loads(done.stdout)["engine"]["library"])
    assert library.is_relative_to(sys.prefix) and library.is_file()


def test_nothing_is_imported_that_takes_time():
    """What the interpreter has loaded already where it starts does not count."""
    code = "import sys; before = set(sys.modules); import onnxseal._command; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "onnxseal" in loaded and not loaded & {"numpy", "onnxruntime", "typing", "json", "pathlib"}, loaded


def test_other_threads_run_meanwhile(tool, tmp_path):
    sealed, fifo = tmp_path / "sealed.onnx", tmp_path / "identity"
    tool.protect(MODEL, sealed)
    os.mkfifo(fifo)
    threading.Thread(target=lambda: fifo.write_bytes(tool.identity_file.read_bytes())).start()
    command = ["onnxseal", "--quiet", "verify", str(sealed), "-i", str(fifo)]
    assert _onnxseal._run_command(command, []) == 0


@mounts
def test_programs_run_on_opened_models(program, tool, tmp_path):
    sealed = tmp_path / "sealed.onnx"
    tool.protect(MODEL, sealed)
    command = [program, "run", "-i", tool.identity_file, sealed, "--", "cat", "{}"]
    assert run(*command).stdout == MODEL.read_bytes()


@memory
def test_programs_run_on_copies(program, tool, tmp_path):
    """The command starts itself anew, by its own name."""
    sealed = tmp_path / "sealed.onnx"
    tool.protect(MODEL, sealed)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        into = ["--into", folder, "--allow-swap"]
        done = run(program, "run", "-i", tool.identity_file, *into, sealed, "--", "cat", "{}")
    assert (done.returncode, done.stdout) == (0, MODEL.read_bytes()), done.stderr


def test_the_package_names_its_command():
    assert shutil.which("onnxseal", path=SCRIPT.parent) == str(SCRIPT)
    assert run(SCRIPT, "--version").stdout.decode().split() == ["onnxseal", onnxseal.__version__]
