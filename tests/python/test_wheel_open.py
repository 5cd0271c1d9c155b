"""The Python package: opening models in memory, without copies, and what is refused."""

import gc
import os

import numpy as np
import onnx
import onnxruntime
import onnxseal
import pytest
from catalog import MODELS, fixture_models, shared_models
from onnx import numpy_helper
from wheel import layers, saved

MODEL = MODELS / "digits_cnn.onnx"
EXTERNAL = MODELS / "digits_cnn_dynamo.onnx"
DATA = "digits_cnn_dynamo.onnx.data"


@pytest.fixture(scope="module")
def identity():
    return onnxseal.generate_identity()


@pytest.fixture
def sealed(tmp_path, identity):
    path = tmp_path / "sealed.onnx"
    onnxseal.protect(MODEL, path, recipients=identity, preset="full", claims={"customer": "acme"})
    return path


@pytest.fixture
def external(tmp_path, identity):
    path = tmp_path / "external" / EXTERNAL.name
    onnxseal.protect(EXTERNAL, path, recipients=identity, preset="full")
    return path


@pytest.mark.parametrize("model", fixture_models() + shared_models(), ids=lambda path: path.stem)
def test_tensors_are_those_of_the_original(model, tmp_path, identity):
    protected = tmp_path / model.name
    onnxseal.protect(model, protected, recipients=identity, preset="full", allow_clear=["*"])
    opened = onnxseal.open(protected, identity)
    assert bytes(opened.model_bytes) == model.read_bytes()
    for path, content in opened.external_files.items():
        assert bytes(content) == (model.parent / path).read_bytes()
    graph = onnx.load(model).graph
    # The first of its name in the file; in the graph itself, and larger than nothing.
    expected = {tensor.name: tensor for tensor in reversed(graph.initializer) if tensor.HasField("raw_data")}
    assert len(expected) == 0 or set(expected) <= set(opened.tensors)
    for name, tensor in expected.items():
        found, wanted = opened.tensors[name], numpy_helper.to_array(tensor)
        assert not found.flags.writeable and not found.flags.owndata
        if found.dtype == wanted.dtype:
            assert found.shape == wanted.shape and np.array_equal(found, wanted, equal_nan=found.dtype.kind in "fc")
        else:
            assert found.tobytes() == tensor.raw_data
    with pytest.raises(KeyError):
        opened.tensors["no such tensor"]


def test_arrays_are_views_that_keep_the_memory(sealed, identity):
    opened = onnxseal.open(sealed, identity)
    whole = np.frombuffer(opened.model_bytes, np.uint8)
    expected = {t.name: numpy_helper.to_array(t) for t in onnx.load(MODEL).graph.initializer}
    arrays = dict(opened.tensors)
    for name, array in arrays.items():
        assert np.shares_memory(array, whole) and np.shares_memory(array, opened.tensors[name])
        # ONNX Runtime takes them where they lie, aligned or not.
        assert onnxruntime.OrtValue.ortvalue_from_numpy(array).data_ptr() == array.ctypes.data
    assert any(not array.flags.aligned for array in arrays.values())
    with pytest.raises(ValueError, match="read-only"):
        arrays["8.weight"][0] = 0
    with pytest.raises(TypeError):
        opened.model_bytes[0] = 0
    del opened, whole
    gc.collect()
    churn = [bytearray(os.urandom(1 << 16)) for _ in range(64)]
    for name, array in arrays.items():
        assert np.array_equal(array, expected[name])
    del churn


def test_models_from_everywhere(tmp_path, sealed, external, identity):
    data = sealed.read_bytes()
    with open(sealed, "rb") as file:
        for model in (str(sealed), sealed.as_uri(), data, bytearray(data), memoryview(data), file):
            opened = onnxseal.open(model, identity)
            assert bytes(opened.model_bytes) == MODEL.read_bytes()
            assert opened.claims == {"customer": "acme"}
    files = {DATA: (external.parent / DATA).read_bytes()}
    opened = onnxseal.open(external.read_bytes(), identity, external_files=files)
    assert bytes(opened.external_files[DATA]) == (MODELS / DATA).read_bytes()
    for wrong, raised in [({}, onnxseal.IoError), ({DATA: "text"}, TypeError)]:
        with pytest.raises(raised, match=DATA):
            onnxseal.open(external.read_bytes(), identity, external_files=wrong)
    with pytest.raises(onnxseal.UsageError):
        onnxseal.open(external, identity, external_files=files)
    with open(sealed) as text, pytest.raises((TypeError, UnicodeDecodeError)):
        onnxseal.open(text, identity)


def test_claims_that_are_required(sealed, identity):
    for met in (["customer=acme"], ["customer"], [], None):
        onnxseal.open(sealed, identity, require_claims=met)
    for unmet in (["customer=other"], ["not-after"], ["customer=acme", "region"]):
        with pytest.raises(onnxseal.PolicyNotMetError):
            onnxseal.open(sealed, identity, require_claims=unmet)
    with pytest.raises(onnxseal.UsageError):
        onnxseal.open(sealed, identity, require_claims=["=acme"])


def test_what_happens_to_the_file_changes_nothing_that_is_open(tmp_path, identity):
    model, sealed = saved(layers(), tmp_path / "layers.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(model, sealed, recipients=identity, coefficients={"MatMul": 0.001, "Conv": 0.001})
    opened = onnxseal.open(sealed, identity)
    sealed.write_bytes(bytes(len(sealed.read_bytes())))
    assert bytes(opened.model_bytes) == model.read_bytes()
    os.truncate(sealed, 0)
    assert bytes(opened.model_bytes) == model.read_bytes()
    onnxseal.InferenceSession(opened, providers=["CPUExecutionProvider"])


def faults(path, data):
    """Ways to change a protected model, and what they are called."""
    model, weights = path.read_bytes(), data.read_bytes()
    return {
        "renamed operator": (path, model.replace(b"Relu", b"Tanh", 1)),
        "clear bytes": (path, model[:40] + bytes([model[40] ^ 1]) + model[41:]),
        "cut model": (path, model[:-100]),
        "no tail": (path, model[: model.index(b"onnxseal.manifest") - 20]),
        "external weight": (data, weights[:100] + bytes([weights[100] ^ 1]) + weights[101:]),
        "external file cut": (data, weights[:-1]),
        "external file grown": (data, weights + b"\0"),
        "external file of the original": (data, (MODELS / DATA).read_bytes()),
        "external file missing": (data, None),
    }


@pytest.mark.parametrize("fault", [
    "renamed operator", "clear bytes", "cut model", "no tail", "external weight", "external file cut",
    "external file grown", "external file of the original", "external file missing",
])  # fmt: skip
def test_what_was_changed_is_not_opened(fault, external, identity):
    data = external.parent / DATA
    onnxseal.verify(external, identity=identity)
    target, content = faults(external, data)[fault]
    assert content != target.read_bytes()
    if content is None:
        target.unlink()
    else:
        target.write_bytes(content)
    expected = {
        "cut model": (onnxseal.MalformedError, onnxseal.AuthenticationError),
        "no tail": (onnxseal.UsageError, onnxseal.MalformedError),
        "external file missing": onnxseal.IoError,
    }.get(fault, onnxseal.AuthenticationError)
    for call in (onnxseal.open, lambda path, identity: onnxseal.InferenceSession(path, identity=identity)):
        with pytest.raises(expected):
            call(external, identity)


def test_a_clear_weight_that_was_changed(tmp_path, identity):
    # What is not encrypted is authenticated all the same.
    sealed = tmp_path / "part.onnx"
    onnxseal.protect(MODEL, sealed, recipients=identity, preset="balanced")
    original, data = MODEL.read_bytes(), bytearray(sealed.read_bytes())
    # A part of it is encrypted: the message names no tensor that is in clear as a whole.
    weight = next(t for t in onnx.load(MODEL).graph.initializer if t.name == "3.weight").raw_data
    start = original.index(weight)
    at = next(at for at in range(start, start + len(weight)) if original[at : at + 64] == data[at : at + 64])
    data[at] ^= 1
    sealed.write_bytes(data)
    with pytest.raises(onnxseal.AuthenticationError, match="3.weight"):
        onnxseal.open(sealed, identity)


def test_an_output_that_would_print_a_weight(sealed, identity, tmp_path):
    tampered = tmp_path / "tampered.onnx"
    model = onnx.load(sealed)
    weight = next(t for t in model.graph.initializer if t.name == "8.weight")
    for lock in (model.opset_import, model.graph.node, model.graph.output):
        lock.pop()
    model.graph.output.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    onnx.save(model, tampered)
    # The attack works on what does not authenticate the graph.
    session = onnxruntime.InferenceSession(tampered, providers=["CPUExecutionProvider"])
    assert weight.name in [output.name for output in session.get_outputs()]
    for model in (tampered, tampered.read_bytes()):
        with pytest.raises((onnxseal.AuthenticationError, onnxseal.MalformedError)):
            onnxseal.InferenceSession(model, identity=identity)
