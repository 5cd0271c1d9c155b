"""The Python package: where results go, what they never replace, how reports show themselves."""

import stat
import subprocess
import sys
import textwrap

import onnxseal
import pytest
from catalog import MODELS

MODEL = MODELS / "digits_cnn.onnx"


@pytest.fixture(scope="module")
def identity():
    return onnxseal.generate_identity()


@pytest.fixture
def sealed(tmp_path, identity):
    path = tmp_path / "sealed.onnx"
    onnxseal.protect(MODEL, path, recipients=identity)
    return path


# --- permissions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_results_of_bytes_are_files_as_others_are(umask, tmp_path, identity):
    program = """
        import os, sys
        import onnxseal
        os.umask(int(sys.argv[3]))
        identity = onnxseal.generate_identity()
        with open(sys.argv[1], "rb") as file:
            model = file.read()
        os.chdir(sys.argv[2])
        open("usual", "w").close()
        onnxseal.protect(model, "new.onnx", recipients=identity)
        for _ in range(2):
            onnxseal.protect(model, "bytes.onnx", recipients=identity, replace=True)
        sealed = open("bytes.onnx", "rb").read()
        onnxseal.unprotect(sealed, "back.onnx", identity=identity)
        onnxseal.rekey(sealed, "rekeyed.onnx", identity=identity, recipients=identity)
        onnxseal.rotate(sealed, "rotated.onnx", identity=identity, recipients=identity)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), MODEL, tmp_path, str(umask)]
    subprocess.run(command, check=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 6 and set(modes.values()) == {0o666 & ~umask}, modes
