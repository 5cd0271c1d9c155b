"""The Python package: sessions of ONNX Runtime on protected models compute what they compute on the plain ones."""

import gc
import subprocess
import sys
import textwrap
import weakref

import numpy as np
import onnx
import onnxruntime
import onnxruntime_extensions
import onnxseal
import pytest
import runtime
from catalog import MODELS, SHARED, digits_models, fixture_models, shared_models
from digits import feed_of, held_out
from onnx import helper
from wheel import OPTIONS, feed, folded, layers, made, numbers, options, plain, saved, session

CASES = [(path, preset) for path in fixture_models() + shared_models() for preset in ("balanced", "full")]
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason=f"{SHARED} is absent: its models are not tested"))]


@pytest.fixture(scope="module")
def identity():
    return onnxseal.generate_identity()


@pytest.mark.parametrize(
    "case", CASES + ([] if shared_models() else ABSENT), ids=lambda case: case and f"{case[0].stem}-{case[1]}"
)
def test_outputs_are_those_of_the_plain_model(case, tmp_path, identity):
    model, preset = case
    expected = runtime.session(model)
    if expected is None:
        pytest.skip("ONNX Runtime does not open the original")
    sealed = tmp_path / model.name
    onnxseal.protect(model, sealed, recipients=identity, preset=preset)
    facts = digits_models().get(model.name)
    if facts:
        given = {expected.get_inputs()[0].name: feed_of(facts["input"], held_out()[0])}
    else:
        given = runtime.made_up_feed(expected)
    for sess_options in (options, options()):
        found = session(sealed, identity, sess_options)
        assert isinstance(found, onnxruntime.InferenceSession)
        described = [
            [(value.name, value.type, value.shape) for value in some.get_inputs() + some.get_outputs()]
            for some in (expected, found)
        ]
        assert described[0] == described[1]
        if given is not None:
            assert runtime.same(runtime.run(expected, given), runtime.run(found, given))


@pytest.fixture
def model(tmp_path, identity):
    path = saved(layers(), tmp_path / "layers.onnx")
    onnxseal.protect(path, tmp_path / "sealed.onnx", recipients=identity)
    return path, tmp_path / "sealed.onnx"


def assert_same(found, expected):
    given = feed(expected)
    assert runtime.same(found.run(None, given), expected.run(None, given))


def test_weights_are_used_where_they_lie_as_long_as_the_session_lives(model, identity):
    path, sealed = model
    expected = plain(path)
    opened = onnxseal.open(sealed, identity)
    found = session(opened, None)
    _, values = found._onnxseal_shared
    assert sorted(name for name, _ in values) == ["first", "second"]
    for name, value in values:
        assert value.data_ptr() == opened.tensors[name].ctypes.data
    kept = weakref.ref(values[0][1])
    del opened, values, value
    for _ in range(3):
        gc.collect()
        churn = [np.full(1 << 20, np.nan, np.float32) for _ in range(8)]
        assert_same(found, expected)
        del churn
    assert kept() is not None
    del found
    gc.collect()
    assert kept() is None


def test_all_methods_work(model, identity):
    path, sealed = model
    expected, found = plain(path), session(sealed, identity)
    given = feed(expected)
    assert runtime.same(found.run(["y"], given), expected.run(["y"], given))
    binding = found.io_binding()
    binding.bind_cpu_input("x", given["x"])
    binding.bind_output("y")
    found.run_with_iobinding(binding)
    assert runtime.same(binding.copy_outputs_to_cpu(), expected.run(None, given))
    values = {"x": onnxruntime.OrtValue.ortvalue_from_numpy(given["x"])}
    assert runtime.same([found.run_with_ort_values(None, values)[0].numpy()], expected.run(None, given))
    assert found.get_providers() == ["CPUExecutionProvider"]
    assert found.get_modelmeta().producer_name == expected.get_modelmeta().producer_name
    assert found.get_session_options().intra_op_num_threads == 1
    with pytest.raises(onnxseal.UsageError, match="make a new one"):
        found.set_providers(["CPUExecutionProvider"])
    assert_same(found, expected)
    assert_same(onnxseal.InferenceSession(sealed, identity=identity, **OPTIONS), plain(path))


def test_what_cannot_be_shared_after_all_is_copied(tmp_path, identity):
    path, sealed = saved(folded(), tmp_path / "folded.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity)
    calls = []

    def make():
        calls.append(options())
        return calls[-1]

    opened = onnxseal.open(sealed, identity)
    _, _, shared, _ = opened._prepare(True)
    assert [name for name, *_ in shared] == ["table"]
    before = sys.getrefcount(opened)
    found = session(opened, None, make)
    assert len(calls) == 2 and found._onnxseal_shared is None
    # Then nothing of it is kept.
    assert sys.getrefcount(opened) == before
    assert_same(found, plain(path))


def test_options_that_are_given(model, tmp_path, identity):
    path, sealed = model
    opened = onnxseal.open(sealed, identity)
    before = sys.getrefcount(opened)
    given = options()
    found = session(opened, None, given)
    assert found._onnxseal_shared is None
    assert_same(found, plain(path))
    # ONNX Runtime's options refer to the weights without keeping them.
    assert sys.getrefcount(opened) == before + 1
    other = tmp_path / "other.onnx"
    onnxseal.protect(MODELS / "digits_cnn.onnx", other, recipients=identity)
    with pytest.raises(onnxseal.UsageError, match="another protected model"):
        session(other, identity, given)
    kept = weakref.ref(given)
    del given
    gc.collect()
    # The session does not keep them alive.
    assert kept() is None and sys.getrefcount(opened) == before
    assert_same(found, plain(path))
    with pytest.raises(TypeError, match="SessionOptions"):
        session(sealed, identity, 3)


def test_what_opening_refuses_makes_no_session(model, tmp_path, identity):
    _, sealed = model
    with pytest.raises(onnxseal.NoMatchingKeyError):
        session(sealed, onnxseal.generate_identity())
    with pytest.raises(onnxseal.PolicyNotMetError):
        session(sealed, identity, require=["customer=acme"])
    with pytest.raises(onnxseal.UsageError, match="not protected"):
        session(MODELS / "digits_cnn.onnx", identity)
    # A model that takes the place of one that was verified.
    onnxseal.verify(sealed, identity=identity)
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "new").write_bytes(data)
    (tmp_path / "new").replace(sealed)
    with pytest.raises(onnxseal.AuthenticationError):
        session(sealed, identity)


def test_models_in_memory_with_external_files(tmp_path, identity):
    name, data = "digits_cnn_dynamo.onnx", "digits_cnn_dynamo.onnx.data"
    sealed = tmp_path / name
    onnxseal.protect(MODELS / name, sealed, recipients=identity)
    found = session(sealed.read_bytes(), identity, external_files={data: (tmp_path / data).read_bytes()}, memory="own")
    expected = plain(MODELS / name)
    pixels, _ = held_out()
    given = {expected.get_inputs()[0].name: feed_of(digits_models()[name]["input"], pixels)}
    assert runtime.same(found.run(None, given), expected.run(None, given))


def with_custom_operator(domain, op_type):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node(op_type, ["m"], ["y"], domain=domain),
    ]
    opsets = [("", 17), (domain, 1)]
    return made(nodes, {"w": numbers(128, 128)}, {"x": [1, 128]}, {"y": [1, 128]}, opsets)


def test_operators_that_nobody_knows_are_onnx_runtime_s_own_error(tmp_path, identity):
    path, sealed = saved(with_custom_operator("com.example", "Odd"), tmp_path / "m.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity)
    with pytest.raises(Exception, match="com.example") as expected:
        plain(path)
    for sess_options in (options, options()):
        with pytest.raises(Exception, match="com.example") as found:
            session(sealed, identity, sess_options)
        assert type(found.value) is type(expected.value)


def test_operators_of_a_library(tmp_path, identity):
    path, sealed = tmp_path / "m.onnx", tmp_path / "sealed.onnx"
    onnx.save(with_custom_operator("ai.onnx.contrib", "NegPos"), path)
    model = onnx.load(path)
    model.graph.node[1].output[:] = ["y", "z"]
    saved(model, path)
    onnxseal.protect(path, sealed, recipients=identity)

    def with_library():
        made = options()
        made.register_custom_ops_library(onnxruntime_extensions.get_library_path())
        return made

    expected = onnxruntime.InferenceSession(path, with_library(), **OPTIONS)
    for sess_options in (with_library, with_library()):
        assert_same(session(sealed, identity, sess_options), expected)


@pytest.mark.parametrize(
    "stub, said",
    [("raise ImportError('no such thing')", "needs ONNX Runtime"), ("__version__ = '1.10.0'", "not 1.10.0")],
)
def test_without_onnx_runtime_the_rest_works(stub, said, model, tmp_path, identity):
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "onnxruntime.py").write_text(stub)
    identity.save(tmp_path / "id.txt")
    program = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import onnxseal
        model = onnxseal.open(sys.argv[2], sys.argv[3])
        assert model.tensors["first"].shape == (8192, 256)
        try:
            onnxseal.InferenceSession
        except ImportError as error:
            assert isinstance(error, onnxseal.OnnxRuntimeError) and error.kind == "runtime"
            print(error)
        try:
            from onnxseal import InferenceSession
        except ImportError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), tmp_path / "stub", model[1], tmp_path / "id.txt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(said) == 2 and done.stdout.count("pip install 'onnxruntime>=") == 2
