"""Sessions with a label key answer as the original does."""

import errno
import json
import pickle

import numpy as np
import onnx
import onnxruntime
import onnxseal
import pytest
from catalog import EXIT_CODES, MODELS, files_below
from digits import held_out
from test_labels import FLOATS, digits, run, vendor  # noqa: F401


def session(path, key, **more):
    more.setdefault("allow_plain", True)
    return onnxseal.InferenceSession(path, providers=["CPUExecutionProvider"], label_key=key, **more)


def check(opened, model, feed, name):
    original = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    described = [(output.name, output.type) for output in original.get_outputs()]
    assert [(output.name, output.type) for output in opened.get_outputs()] == described
    if name != "sklearn_mlp":
        assert list(opened.get_outputs()[0].shape)[1:] == [10]
    given = {opened.get_inputs()[0].name: feed}
    wanted, got = original.run(None, given), opened.run(None, given)
    for want, have in zip(wanted, got, strict=True):
        assert want.shape == have.shape and want.dtype == have.dtype
        if want.dtype.kind == "f":
            scale = np.abs(want.astype(np.float64)).max()
            assert np.abs(want.astype(np.float64) - have).max() <= {"cnn_fp16": 1e-3, "cnn_bf16": 1e-3}.get(name, 2e-6) * scale
            assert (want.argmax(1) == have.argmax(1)).all()
        else:
            assert (want == have).all()
    last = described[-1][0]
    assert (opened.run([last], given)[0] == got[-1]).all()
    with pytest.raises(onnxseal.UsageError):
        opened.run(["nothing"], given)


@pytest.mark.parametrize("name", FLOATS)
def test_outputs_are_those_of_the_original(vendor, tool, tmp_path, name):  # noqa: F811
    model, feed, _ = digits(name)
    protected = vendor.protect(model)
    check(session(protected, vendor.key), model, feed, name)
    (tmp_path / "sealed").mkdir()
    sealed = tmp_path / "sealed" / protected.name
    tool.protect(protected, sealed)
    check(session(sealed, vendor.key, identity=tool.identity_file), model, feed, name)


def test_keys_that_do_not_fit(vendor, tool, tmp_path):  # noqa: F811
    model, feed, _ = digits("cnn")
    protected = vendor.protect(model)
    text = vendor.key.read_bytes()
    (tmp_path / "other" / "out").mkdir(parents=True)
    other = type(vendor)(tool, tmp_path / "other")
    with pytest.raises(onnxseal.NoMatchingKeyError):
        session(protected, other.key)
    with pytest.raises(onnxseal.MalformedError):
        session(protected, text.replace(b"acme", b"acmf"))
    with pytest.raises(onnxseal.UsageError):
        session(model, text)
    with pytest.raises(onnxseal.IoError) as absent:
        session(protected, tmp_path / "absent.key")
    assert absent.value.errno == errno.ENOENT
    labelled = MODELS.parent / "labels"
    with pytest.raises(onnxseal.NoMatchingKeyError, match="revoked"):
        session(labelled / "digits_cnn.onnx", labelled / "gone.key")
    # Of bytes, nobody could tell whether the table belongs to the rows.
    with pytest.raises(onnxseal.UsageError):
        session(protected.read_bytes(), text)
    # Encrypted keys open with an identity.
    encrypted = tmp_path / "acme.age"
    keygen = ["labels", "keygen", "--authority", vendor.authority, "--user", "acme", "-o", encrypted, "-r", tool.recipient]
    tool(*keygen)
    check(session(protected, encrypted, identity=tool.identity_file), model, feed, "cnn")
    # Without a key the answers are shares.
    plain = onnxseal.InferenceSession(protected, providers=["CPUExecutionProvider"], allow_plain=True)
    assert plain.run(None, {plain.get_inputs()[0].name: feed})[0].shape == (200, 80)


def test_a_decoder_alone(vendor):  # noqa: F811
    model, feed, _ = digits("cnn")
    protected = vendor.protect(model)
    metadata = onnxruntime.InferenceSession(str(protected)).get_modelmeta().custom_metadata_map
    decoder = onnxseal.LabelDecoder(metadata["onnxseal-labels"], vendor.key)
    logits = decoder.decode(run(protected, feed)[0])
    assert (logits.argmax(1) == run(model, feed)[0].argmax(1)).all() and len(logits) == len(held_out()[1])
    classes, probabilities = decoder.classify(run(protected, feed)[0])
    assert (classes == logits.argmax(1)).all() and np.abs(probabilities.sum(1) - 1).max() < 1e-6
    assert (probabilities.argmax(1) == classes).all() and probabilities.dtype == np.float32
    for path in protected, str(protected):
        by_path = onnxseal.LabelDecoder(path, vendor.key)
        assert (by_path.decode(run(protected, feed)[0]) == logits).all()
    assert decoder.user == "acme" and "secrets" not in repr(decoder)
    with pytest.raises(TypeError):
        pickle.dumps(decoder)
    with pytest.raises(onnxseal.UsageError):
        decoder.decode(np.zeros((1, 79), np.float32))
    assert decoder.decode(np.zeros((0, 80), np.float32)).shape == (0, 10)


def test_the_model_of_the_reference():
    labelled = MODELS.parent / "labels"
    model, feed, _ = digits("cnn")
    for key in ["acme.key", "mueller.key"]:
        check(session(labelled / "digits_cnn.onnx", labelled / key), model, feed, "cnn")


def test_tables_that_are_not_the_models(vendor, tmp_path):  # noqa: F811
    protected = vendor.protect(digits("tensorflow")[0])

    def changed(edit):
        model = onnx.load(protected)
        edit(model)
        onnx.save(model, tmp_path / "changed.onnx")
        return tmp_path / "changed.onnx"

    def table(model):
        return next(prop for prop in model.metadata_props if prop.key == "onnxseal-labels")

    def swap(model):
        table(model).value = table(onnx.load(MODELS.parent / "labels" / "digits_cnn.onnx")).value

    def rename(model):
        model.graph.output[0].name = model.graph.node[-1].output[0] = "other"

    with pytest.raises(onnxseal.NoMatchingKeyError):
        session(changed(swap), vendor.key)
    with pytest.raises((onnxseal.MalformedError, onnxseal.UsageError)):
        session(changed(rename), vendor.key)

    def sign(model):
        text = table(model).value
        at = len(text) - 20
        table(model).value = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]

    with pytest.raises(onnxseal.AuthenticationError):
        session(changed(sign), vendor.key)


def test_an_input_key_and_a_label_key(vendor, tool, tmp_path):  # noqa: F811
    """A model that takes keyed images and answers with shares gives for plain images what the original gives."""
    model = MODELS.parent / "inputs" / "convmixer.onnx"
    key = tmp_path / "images.txt"
    tool("inputs", "keygen", "-o", key, "--block", "4", "--channels", "3", "--range", "0..1", "-q")
    tool("inputs", "rewrite", model, "--key", key, "-o", tmp_path / "keyed.onnx", "-q")
    protected = vendor.protect(tmp_path / "keyed.onnx")
    original = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    described = original.get_inputs()[0]
    shape = [size if isinstance(size, int) else 2 for size in described.shape]
    images = np.random.default_rng(1).random(shape, np.float32)
    wanted = original.run(None, {described.name: images})[0]
    both = session(protected, vendor.key, input_key=onnxseal.InputKey.open(key))
    found = both.run(None, {described.name: images})[0]
    assert found.shape == wanted.shape and np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    sealed = tmp_path / "sealed.onnx"
    tool.protect(protected, sealed)
    opened = session(sealed, vendor.key, input_key=onnxseal.InputKey.open(key), identity=tool.identity_file)
    assert np.array_equal(opened.run(None, {described.name: images})[0], found)
