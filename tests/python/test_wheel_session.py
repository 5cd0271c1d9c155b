"""The Python package: sessions of ONNX Runtime on protected models compute what they compute on the plain ones."""

import gc
import inspect
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from functools import partial

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
from wheel import OPTIONS, feed, layers, made, numbers, options, plain, saved, session, wanted

CASES = [(path, preset) for path in fixture_models() + shared_models() for preset in ("balanced", "full")]
# Earlier versions do not tell of providers, so that their options are not copied.
COPIES = hasattr(onnxruntime.SessionOptions, "has_providers")
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
    onnxseal.protect(model, sealed, recipients=identity, preset=preset, allow_clear=["*"])
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


def test_a_session_stays_while_a_call_is_running(model, identity):
    path, sealed = model
    expected, calls = plain(path), []
    given = feed(expected)
    wrong = {name: value.astype(np.int8) for name, value in given.items()}
    for fed in [given] * 20 + [wrong]:
        ended = threading.Event()

        def callback(results, data, error, ended=ended):
            calls.append((results, error))
            data.append(seen())
            ended.set()

        found, data = onnxseal.InferenceSession(sealed, identity=identity, providers=["CPUExecutionProvider"]), []
        assert found._onnxseal_shared
        seen = weakref.ref(found)
        found.run_async(None, fed, callback, data)
        del found
        gc.collect()
        assert ended.wait(60)
        assert data.pop() is not None
    *good, (results, error) = calls
    assert results == [] and "int8" in error
    for results, error in good:
        assert not error and runtime.same(results, expected.run(None, given))
    with pytest.raises(ValueError, match="missing from input feed"):
        onnxseal.InferenceSession(sealed, identity=identity).run_async(None, {}, print, None)


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


def test_what_cannot_be_shared_after_all_is_copied(model, identity, monkeypatch):
    """No optimization is known that would refuse a weight that is shared: it is done here for one."""
    real, calls = onnxruntime.InferenceSession.__init__, 0

    def make():
        nonlocal calls
        calls += 1
        return options()

    def refusing(self, *arguments, **more):
        if self._onnxseal_shared is not None:
            raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("a weight cannot be read")
        real(self, *arguments, **more)

    path, sealed = model
    expected, opened = plain(path), onnxseal.open(sealed, identity)
    before = sys.getrefcount(opened)
    monkeypatch.setattr(onnxruntime.InferenceSession, "__init__", refusing)
    found = session(opened, None, make)
    assert calls == 2 and found._onnxseal_shared is None
    # Then nothing of it is kept.
    assert sys.getrefcount(opened) == before
    assert_same(found, expected)


def loud():
    """Options of which a session shows what it warns of, whatever the process shows by default."""
    made = options()
    made.log_severity_level = 2
    return made


@pytest.mark.parametrize("kind", wanted())
def test_weights_that_optimizations_read_are_known_before(kind, tmp_path, identity, capfd):
    path, sealed = saved(wanted()[kind], tmp_path / "model.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity)
    opened, calls = onnxseal.open(sealed, identity), 0

    def make():
        nonlocal calls
        calls += 1
        return loud()

    shared, injected = ([name for name, *_ in some] for some in opened._prepare("share")[2:])
    assert "w" in injected and "w" not in shared
    found = session(opened, None, make)
    assert capfd.readouterr() == ("", "") and calls == 1
    expected = plain(path)
    given = feed(expected)
    # Attention as one operator rounds otherwise.
    assert np.allclose(found.run(None, given)[0], expected.run(None, given)[0], rtol=1e-4, atol=1e-5)


def test_nothing_is_logged_for_models_that_are_all_right(model, identity, capfd):
    given = loud()
    for sess_options in (loud, lambda: given, given, given):
        session(model[1], identity, sess_options)
    assert capfd.readouterr() == ("", "")


def test_weights_are_shared_with_processors_alone(model, identity):
    def is_shared(providers, make=options):
        made = onnxseal.InferenceSession(model[1], make, identity=identity, providers=providers)
        return made._onnxseal_shared is not None

    assert is_shared(["CPUExecutionProvider"]) and is_shared([("CPUExecutionProvider", {})])
    from onnxseal import _session

    assert _session._is_for_processors(options(), ["AzureExecutionProvider", "CPUExecutionProvider"])
    for name in ("CUDAExecutionProvider", ("CoreMLExecutionProvider", {})):
        assert not _session._is_for_processors(options(), [name, "CPUExecutionProvider"])


def test_keywords_that_nobody_knows_are_refused(model, identity):
    opening = partial(onnxseal.InferenceSession, model[1])
    calls = [opening, onnxseal.open, onnxseal.patch, lambda **named: onnxseal.patched(**named).__enter__()]
    calls += [partial(onnxseal.verify, model[1]), partial(onnxseal.batch.verify, model[1])]
    for call in calls:
        for wrong, right in [
            ("allowed_signer", "allowed_signers"),
            ("signed_by", "allowed_signers"),
            ("signers", "allowed_signers"),
            ("require", "require_claims"),
            ("edition", "tier"),
            ("identities", "identity"),
        ]:
            with pytest.raises(TypeError, match=f"'{wrong}': did you mean '{right}'"):
                call(**{wrong: "value"})
        with pytest.raises(TypeError, match="'zzz'$"):
            call(zzz=1)
    with pytest.raises(TypeError, match=r"^protect\(\) .* 'claim': did you mean 'claims'"):
        onnxseal.protect(model[0], recipients=identity, claim={"customer": "acme"})

    def progress(done, total):
        raise TypeError("progress() got an unexpected keyword argument 'signed_by'")

    # An error of the caller's own stays as it is.
    with pytest.raises(TypeError, match="'signed_by'$"):
        onnxseal.verify(model[1], identity=identity, progress=progress)
    # They are found by their names, as processes need them.
    assert pickle.loads(pickle.dumps(onnxseal.protect)) is onnxseal.protect
    assert inspect.signature(onnxseal.open).parameters["require_claims"].default is None
    assert onnxseal.InferenceSession(model[1], identity=identity, enable_fallback=0).get_inputs()


def test_an_empty_variable_is_no_missing_identity(model, monkeypatch):
    monkeypatch.setenv("ONNXSEAL_IDENTITY", "")
    with pytest.raises(onnxseal.UsageError, match="ONNXSEAL_IDENTITY is empty"):
        onnxseal.InferenceSession(model[1])
    with pytest.raises(onnxseal.UsageError, match="ONNXSEAL_IDENTITY is empty"):
        onnxseal.verify(model[1])


def test_options_that_are_given(model, tmp_path, identity):
    path, sealed = model
    opened = onnxseal.open(sealed, identity)
    before = sys.getrefcount(opened)
    given = options()
    found = session(opened, None, given)
    # A copy has the weights, which ONNX Runtime uses where they lie.
    shared = found._onnxseal_shared[1] if COPIES else []
    assert sorted(name for name, _ in shared) == (["first", "second"] if COPIES else [])
    del shared
    assert_same(found, plain(path))
    got = found.get_session_options()
    assert got.intra_op_num_threads == 1 and got.use_deterministic_compute
    del found
    gc.collect()
    # Nothing of the model is kept: not by the options either.
    assert sys.getrefcount(opened) == before
    other = tmp_path / "other.onnx"
    onnxseal.protect(MODELS / "digits_cnn.onnx", other, recipients=identity)
    assert session(other, identity, given).get_inputs()[0].name == "input"
    for wrong in (3, lambda: None):
        with pytest.raises(TypeError, match="SessionOptions"):
            session(sealed, identity, wrong)


@pytest.mark.skipif(not COPIES, reason="this ONNX Runtime does not tell of providers: no options are copied")
def test_options_that_cannot_be_copied(model, tmp_path, identity, monkeypatch):
    """Those with providers, profiling and what ONNX Runtime hides get the model in one piece, as do all where copying fails."""
    path, sealed = model
    opened = onnxseal.open(sealed, identity)
    profiled, provided, usual = options(), options(), options()
    profiled.enable_profiling, profiled.profile_file_prefix = True, str(tmp_path / "profile")
    provided.add_provider("CPUExecutionProvider", {})
    for given in (profiled, provided):
        found = onnxseal.InferenceSession(opened, given, providers=None if given is provided else OPTIONS["providers"])
        assert found._onnxseal_shared is None
        assert_same(found, plain(path))
    from onnxseal import _session

    assert session(opened, None, usual)._onnxseal_shared is not None
    monkeypatch.setattr(_session, "_TINY", b"")
    found = session(opened, None, usual)
    assert found._onnxseal_shared is None
    assert_same(found, plain(path))


def test_settings_of_options_that_are_given_hold(tmp_path, identity):
    """Free dimensions, entries and levels are the session's."""
    path, sealed = saved(layers(), tmp_path / "layers.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity)
    given = options()
    given.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given.add_session_config_entry("session.intra_op.allow_spinning", "0")
    given.log_severity_level = 3
    found = session(sealed, identity, given)
    assert (found._onnxseal_shared is not None) == COPIES
    got = found.get_session_options()
    assert got.graph_optimization_level == given.graph_optimization_level and got.log_severity_level == 3
    assert got.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert_same(found, onnxruntime.InferenceSession(path, given, **OPTIONS))


def test_matrices_that_are_not_packed(model, identity):
    path, sealed = model
    key, given = "session.disable_prepacking", options()
    expected = plain(path).run(None, feed(plain(path)))[0]
    for opened in (sealed, path):
        for sess_options in (None, options, given):
            found = session(opened, identity, sess_options, prepack=False, allow_plain=True)
            assert np.abs(found.run(None, feed(found))[0] - expected).max() <= 1e-5 * np.abs(expected).max()
            is_shared = opened is path or found._onnxseal_shared is not None
            assert is_shared == (COPIES or sess_options is not given or opened is path)
    # An object that is copied stays as it was.
    if COPIES:
        with pytest.raises(RuntimeError):
            given.get_session_config_entry(key)


def two_models(tmp_path, identity):
    """Two models that differ in nothing but their weights: each as (plain, protected)."""
    found = []
    for number in (1, 2):
        model = layers()
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                array = onnx.numpy_helper.to_array(tensor) * np.float32(number)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        path = saved(model, tmp_path / f"{number}.onnx")
        onnxseal.protect(path, tmp_path / f"sealed{number}.onnx", recipients=identity)
        found.append((path, tmp_path / f"sealed{number}.onnx"))
    return found


@pytest.mark.parametrize("how", ["an object", "a function of one object", "those of a session"])
def test_options_that_serve_for_several_models_have_weights_of_none(how, tmp_path, identity):
    (first, sealed_first), (second, sealed_second) = two_models(tmp_path, identity)
    held = options()
    if how == "those of a session":
        held = session(sealed_first, identity).get_session_options()
        assert held.intra_op_num_threads == 1
    sess_options = (lambda: held) if how == "a function of one object" else held
    for _ in range(2):
        for path, sealed in ((first, sealed_first), (second, sealed_second)):
            found = session(sealed, identity, sess_options)
            gc.collect()
            assert_same(found, plain(path))
            del found
    gc.collect()
    churn = [np.full(1 << 20, np.nan, np.float32) for _ in range(8)]
    # ONNX Runtime itself takes them for a plain model afterwards.
    assert_same(onnxruntime.InferenceSession(second, held, **OPTIONS), plain(second))
    del churn


def test_options_that_have_weights_are_refused(model, identity):
    marked = options()
    _, entries, shared, _ = onnxseal.open(model[1], identity)._prepare("share")
    assert shared
    for key, value in entries:
        marked.add_session_config_entry(key, value)
    for sess_options in (marked, lambda: marked):
        with pytest.raises(onnxseal.UsageError, match="weights of a protected model already"):
            session(model[1], identity, sess_options)


def test_nothing_decrypted_is_written_unless_it_is_allowed(model, tmp_path, identity):
    path, sealed = model
    out = tmp_path / "optimized.onnx"

    def optimized():
        made = options()
        made.optimized_model_filepath = str(out)
        return made

    def compiled():
        made = options()
        made.add_session_config_entry("ep.context_enable", "1")
        made.add_session_config_entry("ep.context_file_path", str(out))
        return made

    for said, make in (("optimized_model_filepath", optimized), ("ep.context_enable", compiled)):
        for sess_options in (make, make()):
            with pytest.raises(onnxseal.UsageError, match=f"{said}.*allow_plaintext_on_disk=True"):
                session(sealed, identity, sess_options)
    assert not out.exists()
    for sess_options in (optimized(), optimized):
        assert_same(session(sealed, identity, sess_options, allow_plaintext_on_disk=True), plain(path))
        assert_same(plain(out), plain(path))
        out.unlink()


def test_models_that_are_not_protected_too(model, tmp_path, identity):
    path, sealed = model
    assert onnxseal.is_protected(sealed) and onnxseal.is_protected(sealed.read_bytes())
    assert not onnxseal.is_protected(path) and not onnxseal.is_protected(onnx.load(path))
    with pytest.raises(onnxseal.IoError):
        onnxseal.is_protected(tmp_path / "none.onnx")
    for plain_model in (path, str(path), path.read_bytes(), onnx.load(path)):
        with pytest.raises(onnxseal.UsageError, match="not protected: allow_plain=True"):
            session(plain_model, identity)
        for sess_options in (options, options(), None):
            found = session(plain_model, None, sess_options, allow_plain=True)
            assert_same(found, plain(path))
        assert found._model_path == (None if isinstance(plain_model, (bytes, onnx.ModelProto)) else str(path))
    found.set_providers(["CPUExecutionProvider"])
    assert_same(found, plain(path))
    with open(path, "rb") as file:
        assert_same(session(file, None, allow_plain=True), plain(path))
    assert_same(session(sealed, identity, allow_plain=True), plain(path))
    # What is demanded, a plain model never is.
    for demand in (dict(require_claims=["customer"]), dict(allowed_signers=tmp_path / "allowed_signers")):
        with pytest.raises(onnxseal.Error):
            session(path, identity, allow_plain=True, **demand)
    with pytest.raises(onnxseal.UsageError, match="save this one"):
        session(path.read_bytes(), identity, allow_plain=True, external_files={"w.bin": b""})
    # A protected model that is broken is no plain one.
    broken = sealed.read_bytes()[:-1]
    with pytest.raises(onnxseal.MalformedError):
        session(broken, identity, allow_plain=True)


def test_who_looks_for_it_finds_it(model, identity):
    assert {"InferenceSession", "is_protected"} <= set(dir(onnxseal))
    # optimum tells by it where the model is.
    assert session(model[1], identity)._model_path == str(model[1])
    assert session(str(model[1]), identity, options())._model_path == str(model[1])
    assert session(model[1].read_bytes(), identity)._model_path is None
    said = onnxseal.InferenceSession.__doc__
    parameters = list(inspect.signature(onnxseal.InferenceSession.__init__).parameters)[1:-1]
    assert all(name in said for name in parameters) and "session.run(" in said


def test_what_opening_refuses_makes_no_session(model, tmp_path, identity):
    _, sealed = model
    with pytest.raises(onnxseal.NoMatchingKeyError):
        session(sealed, onnxseal.generate_identity())
    with pytest.raises(onnxseal.PolicyNotMetError):
        session(sealed, identity, require_claims=["customer=acme"])
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
    found = session(sealed.read_bytes(), identity, external_files={data: (tmp_path / data).read_bytes()})
    expected = plain(MODELS / name)
    pixels, _ = held_out()
    given = {expected.get_inputs()[0].name: feed_of(digits_models()[name]["input"], pixels)}
    assert runtime.same(found.run(None, given), expected.run(None, given))


@pytest.mark.parametrize("how", ["object", "callable"])
def test_models_in_memory_find_external_files_in_the_folder_of_options(tmp_path, identity, how):
    name = "digits_cnn_dynamo.onnx"
    sealed = tmp_path / name
    onnxseal.protect(MODELS / name, sealed, recipients=identity)

    def options():
        made = onnxruntime.SessionOptions()
        made.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
        return made

    def given():
        return options() if how == "object" else options

    found = session(sealed.read_bytes(), identity, given())
    expected = plain(MODELS / name)
    pixels, _ = held_out()
    feed = {expected.get_inputs()[0].name: feed_of(digits_models()[name]["input"], pixels)}
    assert runtime.same(found.run(None, feed), expected.run(None, feed))
    (tmp_path / f"{name}.data").unlink()
    with pytest.raises(FileNotFoundError):
        session(sealed.read_bytes(), identity, given())


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
