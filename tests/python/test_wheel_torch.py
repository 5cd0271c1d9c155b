"""The Python package's example, from a torch module to predictions, in a Python that has torch."""

import os
import subprocess
import sys
from pathlib import Path

import onnxseal
import pytest
from catalog import ROOT

EXAMPLE = ROOT / "crates" / "python" / "examples" / "torch_to_predictions.py"


def test_the_example_runs(tmp_path):
    # torch is large: another Python than the one of the tests may have it.
    python = os.environ.get("ONNXSEAL_TORCH_PYTHON", sys.executable)
    (tmp_path / "onnxseal").symlink_to(Path(onnxseal.__file__).parent)
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    found = subprocess.run([python, "-c", "import torch, onnxruntime"], env=env, capture_output=True, text=True)
    if found.returncode != 0:
        assert "ONNXSEAL_TORCH_PYTHON" not in os.environ, found.stderr
        pytest.skip("no torch here: ONNXSEAL_TORCH_PYTHON may name a Python that has torch and onnxruntime")
    done = subprocess.run([python, EXAMPLE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "same as torch" in done.stdout and "without the key" in done.stdout
