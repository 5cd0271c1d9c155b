"""The reference of keyed inputs against its vectors: what FFX's authors and others publish, and that nothing has changed.
And the models of fixtures/inputs: they do as well as their record says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from measure_inputs import MODELS, fed_to, key_of

FIXTURES = Path(__file__).parents[2] / "fixtures"
sys.path.insert(0, str(FIXTURES / "reference"))
import onnxseal_inputs  # noqa: E402


def test_the_script_makes_the_vectors(tmp_path):
    # It checks the reference by loops over pixels on the way.
    assert makes_again("inputs", tmp_path)


def makes_again(name, folder):
    """Whether `fixtures/vectors/make_NAME.py` makes the vectors that are kept, now in another folder."""
    script = folder / f"make_{name}.py"
    script.write_text((FIXTURES / "vectors" / script.name).read_text())
    environment = os.environ | {"PYTHONPATH": str(FIXTURES / "reference")}
    subprocess.run([sys.executable, script], check=True, env=environment)
    made, kept = (json.loads((of / f"{name}.json").read_text()) for of in (folder, FIXTURES / "vectors"))
    return same(made, kept)


def same(a, b):
    """Other processors add in other orders: floats may differ in the last places."""
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-7 * max(1, abs(a))
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_ffx():
    assert onnxseal_inputs.ffx(b"secret-key", 1234, 4) == 6103
    table = onnxseal_inputs.ffx_table(b"password").tolist()
    assert table[:16] == [355, 522, 858, 133, 916, 326, 747, 930, 444, 760, 203, 17, 565, 473, 31, 756]
    assert (table[255], max(table)) == (757, 996)
    assert len(set(table)) == 256


def test_draws_are_even():
    # Numbers evenly over all 2^32.
    drawn = [onnxseal_inputs.draw(iter([number, 1]), 12) for number in range(0, 2**32, 2**32 // 1200 + 1)]
    counts = [drawn.count(value) for value in range(12)]
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("name", MODELS)
def test_models_do_as_well_as_is_said(name):
    facts = MODELS[name]
    images, labels = fed_to(facts)
    wanted = facts["accuracy"] if "accuracy" in facts else facts["accuracy_with_key"]
    if "key" in facts:
        images = onnxseal_inputs.apply(key_of(facts["key"]), images)
    session = onnxruntime.InferenceSession(FIXTURES / "inputs" / name, providers=["CPUExecutionProvider"])
    scores = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(images)})[facts["output"]]
    assert abs((scores.argmax(1) == labels).mean() - wanted) <= 0.02


@pytest.mark.parametrize("name", [name for name in MODELS if "keyed" in MODELS[name]])
def test_keys_fit_what_the_models_take(name):
    facts = MODELS[name]
    images, _ = fed_to(facts)
    for keyed in facts["keyed"].values():
        key = key_of(keyed["key"])
        assert (key.block, key.layout, list(key.range)) == (facts["block"], facts["layout"], facts["range"])
        made = onnxseal_inputs.apply(key, images[:2])
        assert (made != images[:2]).any()
        back = onnxseal_inputs.invert(key, made).astype(np.float64)
        assert np.abs(back - images[:2]).max() <= (1e-3 if facts["dtype"] == "float16" else 1e-6)
