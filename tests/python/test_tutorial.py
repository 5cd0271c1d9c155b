"""docs/TUTORIAL.md and docs/CUSTOMERS.md, run as they are printed."""

import os
import shutil
import subprocess
import sys

import numpy as np
import printed
import pytest
from catalog import MODELS, ROOT
from store import free_port

PAGE = (ROOT / "docs" / "TUTORIAL.md").read_text()
CUSTOMERS = (ROOT / "docs" / "CUSTOMERS.md").read_text()


def trained_elsewhere(folder):
    """What train.py makes, from the fixtures: a model of the same layers, and its test images."""
    public = MODELS.parent / "public"
    shutil.copy(public / "victim.onnx", folder / "digits.onnx")
    samples = np.load(public / "samples.npz")
    np.savez(folder / "test.npz", input=samples["input"].astype(np.float32) / 255, labels=samples["labels"].astype(np.int64))


def torch_python():
    """A Python that has what train.py needs. torch is large, so it may be another one than that of the tests."""
    python = os.environ.get("ONNXSEAL_TORCH_PYTHON", sys.executable)
    needs = "import numpy, onnxscript, sklearn, torch"
    found = subprocess.run([python, "-c", needs], capture_output=True, text=True)
    if found.returncode != 0:
        assert "ONNXSEAL_TORCH_PYTHON" not in os.environ, found.stderr
        pytest.skip("no torch here: ONNXSEAL_TORCH_PYTHON may name a Python that has torch, onnxscript and scikit-learn")
    return python


@pytest.mark.parametrize("model", ["trained before", "trained by train.py"])
def test_tutorial_runs_as_it_is_printed(model, tool, tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    if model == "trained before":
        trained_elsewhere(folder)
        train = "true"
    else:
        train = f"{torch_python()} train.py"
    # The port of the page may be taken.
    replaced = {"python train.py": train, "8000": str(free_port())}
    printed.run(PAGE, folder, printed.shell(tool, tmp_path), replaced)
    assert (folder / "report.html").exists()


def test_the_walk_with_two_customers_runs_as_it_is_printed(tool, tmp_path):
    folder = tmp_path / "customers"
    folder.mkdir()
    printed.run(CUSTOMERS, folder, printed.shell(tool, tmp_path), {"../fixtures": str(ROOT / "fixtures")})
