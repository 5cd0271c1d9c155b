"""What a trained model computes as it is, without the key, and that all of its accuracy comes back.

Nobody attacks here: that a protected model guesses as it is does not say what somebody gets who fills the gaps.
docs/STRENGTH.md and `onnxseal assess` say that.
"""

import digits
import numpy as np
import pytest
import runtime
from catalog import MODELS, SHARED, digits_models

# Chance is 10 %. Ciphertext is random, so each protected model guesses in its own way; most give NaN and so the first
# digit's share.
NEAR_CHANCE = 0.3


@pytest.mark.parametrize("name", digits_models())
def test_digits_as_they_are_and_restored(name, tool, tmp_path, record_property):
    facts = digits_models()[name]
    protected, restored = tmp_path / "protected" / name, tmp_path / "restored" / name
    protected.parent.mkdir()
    restored.parent.mkdir()
    tool.protect(MODELS / name, protected, "--preset", "balanced", "--runnable")
    tool.unprotect(protected, restored)

    original = digits.outputs(MODELS / name, facts)
    before = digits.accuracy(original)
    after = digits.accuracy(digits.outputs(protected, facts))
    record_property("accuracy", (name, before, after))
    # A processor that rounds otherwise may tell one image in 200 otherwise.
    assert before == pytest.approx(facts["accuracy"], abs=0.0051)
    assert np.array_equal(original, digits.outputs(restored, facts))
    if name == "digits_cnn.onnx":
        assert before >= 0.97
    assert after <= NEAR_CHANCE, "as it is, the protected model does better than guessing"


@pytest.mark.parametrize(
    "name, scale",
    [
        ("mnist_cntk.onnx", lambda x: x),
        ("mnist_simplified.onnx", lambda x: x),
        ("mnist_pytorch.onnx", lambda x: (x / 255 - 0.1307) / 0.3081),
    ],
    ids=["cntk", "simplified", "pytorch"],
)
def test_mnist_as_it_is_and_restored(name, scale, tool, tmp_path, record_property):
    model, data = SHARED / "real" / name, digits.mnist(1000)
    if data is None or not model.exists():
        pytest.skip(f"{model} or its data is absent")
    images, labels = data
    protected, restored = tmp_path / name, tmp_path / f"restored_{name}"
    tool.protect(model, protected, "--preset", "balanced", "--runnable")
    tool.unprotect(protected, restored)

    def scores(path):
        session = runtime.session(path)
        feed = session.get_inputs()[0].name
        one_by_one = (session.run(None, {feed: scale(image[None]).astype(np.float32)})[0] for image in images)
        return np.concatenate([score.reshape(1, 10) for score in one_by_one])

    original = scores(model)
    before, after = (float((s.argmax(1) == labels).mean()) for s in (original, scores(protected)))
    record_property("accuracy", (name, before, after))
    assert before >= 0.97
    assert after <= NEAR_CHANCE, "as it is, the protected model does better than guessing"
    assert np.array_equal(original, scores(restored))
