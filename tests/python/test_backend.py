"""The round trip of every model in ONNX's own backend tests: each operator, most with nothing to encrypt."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import onnxseal_open
import pytest
from onnx.backend.test.case.node import collect_testcases

WORKERS = 2


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of all of them: those the wheel carries as files, and one per operator test, which it makes on demand."""
    carried = Path(onnx.__file__).parent / "backend" / "test" / "data"
    folder = tmp_path_factory.mktemp("node")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = [(folder / f"{case.name}.onnx", case.model) for case in collect_testcases(None)]
    for path, model in made:
        path.write_bytes(model.SerializeToString())
    return sorted(carried.rglob("*.onnx")) + [path for path, _ in made]


@pytest.mark.parametrize("preset", ["balanced", "full"])
def test_round_trip(models, preset, tool, tmp_path):
    assert len(models) > 1500

    def fault(numbered):
        """What is wrong with one model's round trip, or `None`; whether anything was encrypted."""
        number, model = numbered
        protected, restored = tmp_path / f"{number}.onnx", tmp_path / f"{number}.restored.onnx"
        done = tool.run("protect", model, "-o", protected, "-r", tool.recipient, "--preset", preset, "-q", "--allow-clear", "*")
        if done.returncode != 0:
            return f"{model.name}: protect: {done.stderr}", False
        done = tool.run("unprotect", protected, "-i", tool.identity_file, "-o", restored)
        if done.returncode != 0:
            return f"{model.name}: unprotect: {done.stderr}", False
        original, content = model.read_bytes(), protected.read_bytes()
        if restored.read_bytes() != original:
            return f"{model.name}: the restored model is another", False
        if onnxseal_open.open_model(protected, [tool.identity]) != {"": original}:
            return f"{model.name}: the second implementation restores another", False
        if checks(original) and not checks(content):
            return f"{model.name}: the checker refuses the protected model", False
        protected.unlink()
        restored.unlink()
        return None, not content.startswith(original)

    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(fault, enumerate(models)))
    faults = [fault for fault, _ in results if fault]
    assert not faults, f"{len(faults)} of {len(models)}:\n" + "\n".join(faults[:20])
    encrypted = sum(has_targets for _, has_targets in results)
    print(f"{len(models)} models, {encrypted} with encrypted weights")
    assert encrypted > 20


def checks(model):
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        if not isinstance(error, (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
            raise
        return False
    return True
