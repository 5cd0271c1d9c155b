"""The Python package: files that change while they are read, other people's models, and programs that start others."""

import subprocess
import sys

import numpy as np
import onnxseal
import pytest
import runtime
from catalog import MODELS, SHARED, files_of
from onnx import helper
from wheel import made, plain, saved, session

MODEL = MODELS / "digits_cnn.onnx"
EXTERNAL = MODELS / "digits_cnn_dynamo.onnx"


@pytest.fixture(scope="module")
def identity():
    return onnxseal.generate_identity()


def cache(model, folder):
    """The files of a model as links to blobs, as the cache of Hugging Face has them."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "1" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, (path, content) in enumerate(files_of(model).items()):
        (blobs / str(number)).write_bytes(content)
        (snapshot / (path or "model.onnx")).symlink_to(f"../../../blobs/{number}")
    return snapshot / "model.onnx"


def test_the_cache_of_hugging_face(identity, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "sealed").mkdir()
    model = cache(EXTERNAL, tmp_path / "plain")
    onnxseal.protect(model, tmp_path / "out" / "model.onnx", recipients=identity)
    sealed = cache(tmp_path / "out" / "model.onnx", tmp_path / "sealed")
    onnxseal.verify(sealed, identity=identity)
    expected = plain(EXTERNAL)
    given = runtime.made_up_feed(expected)
    assert np.array_equal(session(sealed, identity).run(None, given)[0], expected.run(None, given)[0])
    onnxseal.unprotect(sealed, tmp_path / "back" / "model.onnx", identity=identity)
    assert files_of(tmp_path / "back" / "model.onnx") == files_of(EXTERNAL)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_an_external_length_of_0_is_none(identity, tmp_path):
    model, sealed = SHARED / "reports" / "length_zero" / "m.onnx", tmp_path / "sealed" / "m.onnx"
    onnxseal.protect(model, sealed, recipients=identity)
    onnxseal.unprotect(sealed, tmp_path / "back" / "m.onnx", identity=identity)
    assert files_of(tmp_path / "back" / "m.onnx") == files_of(model)
    expected = plain(model)
    given = runtime.made_up_feed(expected)
    assert np.array_equal(session(sealed, identity).run(None, given)[0], expected.run(None, given)[0])


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_packed_copies_stay_only_where_that_is_allowed(identity, tmp_path):
    model = SHARED / "reports" / "prepacked" / "m.onnx"
    expected = plain(model)
    given = runtime.made_up_feed(expected)
    with pytest.raises(onnxseal.PolicyNotMetError, match="262144 bytes of"):
        onnxseal.protect(model, tmp_path / "m.onnx", recipients=identity)
    for options, stay in ({"allow_clear": ["m.bin"]}, True), ({"repack": True}, False):
        sealed, back = tmp_path / f"{stay}" / "m.onnx", tmp_path / f"back {stay}" / "m.onnx"
        onnxseal.protect(model, sealed, recipients=identity, **options)
        onnxseal.unprotect(sealed, back, identity=identity)
        assert (files_of(back) == files_of(model)) == stay
        assert (b"prepacked" in sealed.read_bytes()) == stay
        assert np.array_equal(session(sealed, identity).run(None, given)[0], expected.run(None, given)[0])


def test_a_model_in_memory_says_that_it_has_no_folder(identity, tmp_path):
    with pytest.raises(onnxseal.Error, match="is in memory and has no folder"):
        onnxseal.protect(EXTERNAL.read_bytes(), tmp_path / "out.onnx", recipients=identity)


def test_no_output_takes_the_place_of_a_file_that_a_command_reads(identity, tmp_path):
    sealed, key = tmp_path / "sealed.onnx", tmp_path / "id.txt"
    identity.save(key)
    onnxseal.protect(MODEL, sealed, recipients=identity)
    before = key.read_bytes()
    for command in ["cat", str(key)], f"sh -c 'cat <{key}'":
        with pytest.raises(onnxseal.UsageError, match="which is read"):
            onnxseal.unprotect(sealed, key, identity=onnxseal.IdentityCommand(command), replace=True)
        assert key.read_bytes() == before


def test_a_command_ends_while_others_wait_for_children(identity, tmp_path):
    """A thread that waits for any child, and a process that ignores them: nobody can tell how the command ended."""
    sealed, key = tmp_path / "sealed.onnx", tmp_path / "id.txt"
    identity.save(key)
    onnxseal.protect(MODEL, sealed, recipients=identity)
    script = """
import os, signal, sys, threading, time
import onnxseal
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0)
if sys.argv[3] == "ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
else:
    threading.Thread(target=reap, daemon=True).start()
command = onnxseal.IdentityCommand(["cat", sys.argv[2]])
for _ in range(30):
    onnxseal.open(sys.argv[1], command)
try:
    onnxseal.open(sys.argv[1], onnxseal.IdentityCommand("false"))
except OSError as error:
    assert "false" in str(error)
else:
    sys.exit("a command that prints nothing gives no identity")
"""
    for how in "ignored", "reaped":
        done = subprocess.run([sys.executable, "-c", script, sealed, key, how], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("what", ["plain", "sealed"])
def test_a_file_that_is_cut_while_it_is_opened_is_an_error(what, identity, tmp_path):
    """`cp new.onnx live.onnx` during a reload: SIGBUS would end the process."""
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], doc_string="x" * 200) for i in range(20_000)]
    nodes.append(helper.make_node("MatMul", ["v20000", "w"], ["y"]))
    model = made(nodes, {"w": np.eye(4, dtype=np.float32)}, {"v0": [1, 4]}, {"y": [1, 4]})
    path = saved(model, tmp_path / "model.onnx")
    if what == "sealed":
        onnxseal.protect(path, tmp_path / "sealed.onnx", recipients=identity)
        path = tmp_path / "sealed.onnx"
    content = path.read_bytes()
    script = """
import sys, time
import onnxseal
identity, path = open(sys.argv[1]).read(), sys.argv[2]
n_failed, end = 0, time.monotonic() + 3
while time.monotonic() < end:
    for call in (onnxseal.is_protected, onnxseal.inspect, lambda path: onnxseal.open(path, identity)):
        try:
            call(path)
        except (onnxseal.Error, OSError):
            n_failed += 1
print(n_failed)
"""
    key = tmp_path / "id.txt"
    identity.save(key)
    command = [sys.executable, "-c", script, key, path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        with open(path, "r+b") as file:
            file.truncate(len(content) // 3)
            file.seek(0)
            file.write(content)
    output, error = process.communicate()
    assert process.returncode == 0, error
    assert int(output) > 0


def test_a_program_that_is_missing_has_the_code_that_python_gives(tmp_path):
    command = [sys.executable, "-m", "onnxseal", "run", tmp_path / "absent.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    plain = subprocess.run([sys.executable, tmp_path / "absent.py"], capture_output=True)
    assert done.returncode == plain.returncode == 2 and "absent.py" in done.stderr
