"""Sessions of protected models from C++: they compute what ONNX Runtime makes of the plain models, or are refused."""

import os
import re
import shutil
import subprocess

import c_library
import numpy as np
import onnx
import pytest
import runtime
from catalog import MODELS, ROOT, SHARED, fixture_models, shared_models
from c_library import KINDS

MODEL = MODELS / "digits_cnn.onnx"
EXTERNAL = MODELS / "digits_cnn_dynamo.onnx"
DATA = "digits_cnn_dynamo.onnx.data"
ABSENT = [pytest.param(None, marks=pytest.mark.skip(reason=f"{SHARED} is absent: its models are not tested"))]
MODELS_OF_ALL = [pytest.param(path, id=path.stem) for path in fixture_models() + shared_models()]


class Programs:
    """What is compiled with ONNX Runtime's headers, and linked with its library and ours."""

    def __init__(self, compiler, folder):
        headers = c_library.headers()
        if headers is None:
            pytest.skip("ONNX Runtime's headers cannot be had: see tests/ort_headers.sh")
        self.compiler = compiler
        self.runtime = c_library.runtime_library(folder / "onnxruntime")
        self.options = ["-isystem", headers, "-L", self.runtime, "-lonnxruntime", "-pthread"]
        self.example = c_library.CAPI / "examples" / "infer.cc"
        self.shared = compiler("infer_shared", self.example, *self.options)
        self.static = compiler("infer_static", self.example, *self.options, static=True)
        source = ROOT / "tests" / "c_api" / "sessions.cc"
        self.sessions = compiler("sessions", source, "-I", self.example.parent, *self.options)

    def __call__(self, program, *arguments, libraries=True, env=None):
        """Runs a program: the kind of its error, and what it printed."""
        env = os.environ | (env or {})
        folders = [str(self.runtime), str(self.compiler.folder / "lib")]
        env |= {"LD_LIBRARY_PATH": ":".join(folders) if libraries else folders[1]}
        done = subprocess.run([program, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=300)
        if done.returncode in range(len(KINDS)):
            return KINDS[done.returncode], done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def programs(compiler, tmp_path_factory):
    return Programs(compiler, tmp_path_factory.mktemp("programs"))


def feed_of(session, rng=None):
    """Zeros for every input, or random numbers for the only one; free dimensions are 1, as in the example."""
    feed = {}
    for value in session.get_inputs():
        shape = [dim if isinstance(dim, int) else 1 for dim in value.shape]
        kind = runtime.NUMPY.get(value.type)
        if kind is None:
            return None
        feed[value.name] = np.zeros(shape, kind) if rng is None else rng.standard_normal(shape).astype(kind)
    return feed


def outputs_of(text):
    """What the example prints of outputs: `{name: (shape, [sum, sum of squares])}`."""
    found = {}
    for line in text.splitlines():
        name, shape, rest = re.fullmatch(r"(\S+) (?:\[(.*)\] )?(.*)", line).groups()
        sums = re.fullmatch(r"sum (\S+) of squares (\S+)", rest)
        found[name] = (shape, [float(number) for number in sums.groups()] if sums else [])
    return found


def expected_outputs(session, feed):
    found = {}
    for value, output in zip(session.get_outputs(), session.run(None, feed), strict=True):
        if not isinstance(output, np.ndarray):
            found[value.name] = (None, [])
            continue
        numbers = output.astype(np.float64) if output.dtype.name in ("float16", "float32", "float64", "int64") else None
        sums = [] if numbers is None else [numbers.sum(), (numbers * numbers).sum()]
        found[value.name] = (", ".join(map(str, output.shape)), sums)
    return found


def assert_same(text, expected):
    found = outputs_of(text)
    assert found.keys() == expected.keys()
    for name, (shape, sums) in expected.items():
        # Kernels may be others where a weight is shared: they round otherwise.
        assert found[name] == (shape, pytest.approx(sums, rel=1e-4, abs=1e-4, nan_ok=True)), name


@pytest.mark.parametrize("model", MODELS_OF_ALL + ([] if shared_models() else ABSENT))
def test_it_computes_what_the_plain_model_does(model, programs, tool, tmp_path):
    plain = runtime.session(model)
    if plain is None:
        pytest.skip("ONNX Runtime does not open the plain model")
    feed = feed_of(plain)
    if feed is None or runtime.run(plain, feed) is None:
        pytest.skip("it does not run on the inputs of the example")
    protected = tmp_path / model.name
    tool.protect(model, protected, "--preset", "full", "--allow-clear", "*")
    arguments = []
    if len(feed) == 1 and next(iter(feed.values())).dtype == np.float32:
        feed = feed_of(plain, np.random.RandomState(7))
        (tmp_path / "input").write_bytes(next(iter(feed.values())).tobytes())
        arguments = ["--input", tmp_path / "input"]
    expected = expected_outputs(plain, feed)
    for program in (programs.static, programs.shared):
        kind, text = programs(program, protected, tool.identity_file, *arguments)
        assert kind == "ok", text
        assert_same(text, expected)
    kind, text = programs(programs.sessions, protected, tool.identity_file, "prepare", *arguments[1:])
    how, _, text = text.partition("\n")
    assert (kind, how) in (("ok", "shared"), ("ok", "copied")), text
    assert_same(text, expected)


def zeros(model):
    session = runtime.session(model)
    return expected_outputs(session, feed_of(session))


@pytest.fixture
def protected(tool, tmp_path):
    """A model in one file, and one with external data, of which much is in clear."""
    folder = tmp_path / "protected"
    folder.mkdir()
    for model in (MODEL, EXTERNAL):
        tool.protect(model, folder / model.name, "--preset", "balanced", "--claim", "customer=acme")
    return folder


def test_claims_that_are_required(programs, protected, tool):
    model = protected / MODEL.name
    assert programs(programs.shared, model, tool.identity_file, "--claim", "customer=acme")[0] == "ok"
    kind, text = programs(programs.shared, model, tool.identity_file, "--claim", "customer=other")
    assert kind == "policy" and "customer" in text


def test_tiers(programs, tiers):
    """The session is one of the file that the tool writes for the tier."""
    kind, text = programs(programs.shared, tiers.protected, tiers.trial)
    assert kind == "no_matching_key" and "which is not the original" in text
    for tier in ("trial", "any"):
        kind, text = programs(programs.shared, tiers.protected, tiers.trial, "--tier", tier)
        assert kind == "ok", text
        assert_same(text, zeros(tiers.unprotected))


def test_another_identity(programs, protected, tool, tmp_path):
    tool("keygen", "-o", tmp_path / "other.txt")
    kind, text = programs(programs.shared, protected / MODEL.name, tmp_path / "other.txt")
    assert kind == "no_matching_key" and "no identity opens" in text


@pytest.mark.parametrize("model", [MODEL, EXTERNAL], ids=lambda path: path.stem)
def test_threads_make_sessions_of_one_model(model, programs, protected, tool):
    assert programs(programs.sessions, protected / model.name, tool.identity_file, "threads") == ("ok", "the same\n")


@pytest.fixture(scope="module")
def large(tool, tmp_path_factory):
    """A model, plain and protected, whose weights are decrypted on demand: it has 20 MiB."""
    folder = tmp_path_factory.mktemp("large")
    rng, size = np.random.RandomState(7), 1024
    weights = {f"weight{index}": rng.standard_normal((size, size)).astype(np.float32) / 32 for index in range(5)}
    values = ["ones", "value0", "value1", "value2", "value3", "output"]
    nodes = [onnx.helper.make_node("MatMul", [values[i], f"weight{i}"], [values[i + 1]]) for i in range(5)]
    # So that zeros show the weights too.
    nodes.insert(0, onnx.helper.make_node("Add", ["input", "one"], ["ones"]))
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in {"one": np.ones(1, np.float32), **weights}.items()]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size]) for name in ("input", "output")]
    graph = onnx.helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)]), folder / "plain.onnx")
    tool.protect(folder / "plain.onnx", folder / "model.onnx", "--preset", "balanced")
    return folder


@pytest.mark.parametrize("how", ["a new file under its name", "written in place", "cut", "removed"])
@pytest.mark.parametrize("which", ["small", "external", "large"])
def test_a_file_that_changes_between_opening_and_the_session(which, how, programs, protected, large, tool, tmp_path):
    """The session has the weights that were verified. If weights are decrypted later, from the changed file, the call fails."""
    plain, model = {
        "small": (MODEL, protected / MODEL.name),
        "external": (EXTERNAL, protected / EXTERNAL.name),
        "large": (large / "plain.onnx", shutil.copy(large / "model.onnx", tmp_path / "model.onnx")),
    }[which]
    target, other = protected / DATA if which == "external" else model, tmp_path / "other"
    # What would be loaded had nobody verified it: the same file with other numbers.
    other.write_bytes(np.invert(np.frombuffer(target.read_bytes(), np.uint8)).tobytes())
    command = {
        "a new file under its name": f"mv '{other}' '{target}'",
        # In the background: who writes may have to wait for us.
        "written in place": f"(cat '{other}' >'{target}') & sleep 0.3",
        "cut": f"(: >'{target}') & sleep 0.3",
        "removed": f"rm '{target}'",
    }[how]
    kind, text = programs(programs.sessions, model, tool.identity_file, "after", command)
    if which == "large" and how in ("written in place", "cut") and kind != "ok":
        assert (kind, how) in (("authentication", "written in place"), ("io", "cut")), text
        return
    assert kind == "ok", text
    assert_same(text, zeros(plain))


def test_a_weight_that_an_optimizer_wants_to_read(programs, tool, tmp_path):
    """It is known beforehand, and not shared: nothing is logged."""
    rng = np.random.RandomState(7)
    left, right = (rng.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
    nodes = [
        onnx.helper.make_node("MatMul", ["left", "right"], ["folded"]),
        onnx.helper.make_node("Add", ["input", "folded"], ["output"]),
    ]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [64, 64]) for name in ("input", "output")]
    weights = [onnx.numpy_helper.from_array(array, name) for array, name in ((left, "left"), (right, "right"))]
    graph = onnx.helper.make_graph(nodes, "folds", values[:1], values[1:], weights)
    plain, protected = tmp_path / "plain.onnx", tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)]), plain)
    tool.protect(plain, protected, "--preset", "full")
    kind, text = programs(programs.sessions, protected, tool.identity_file, "prepare")
    assert kind == "ok" and text.startswith("shared\n"), text
    assert_same(text.removeprefix("shared\n"), zeros(plain))
    kind, text = programs(programs.shared, protected, tool.identity_file, "--log")
    assert kind == "ok", text
    assert_same(text, zeros(plain))


def test_options_that_have_the_weights_of_another_model(programs, large, tool, tmp_path):
    """ONNX Runtime knows weights by name alone: it would take the other model's."""
    model, other = onnx.load(large / "plain.onnx"), tmp_path / "other.onnx"
    model.graph.initializer[1].raw_data = model.graph.initializer[2].raw_data
    onnx.save(model, tmp_path / "plain.onnx")
    tool.protect(tmp_path / "plain.onnx", other, "--preset", "balanced")
    for of in (other, large / "model.onnx"):
        kind, text = programs(programs.sessions, large / "model.onnx", tool.identity_file, "used", of)
        assert kind == "usage" and "make new ones for each model" in text


def test_nothing_decrypted_is_written_unless_it_is_allowed(programs, large, tool, tmp_path):
    model, identity, out = large / "model.onnx", tool.identity_file, tmp_path / "optimized.onnx"
    kind, text = programs(programs.sessions, model, identity, "writes", out)
    assert kind == "ok" and not out.exists(), text
    kind, text = programs(programs.sessions, model, identity, "entry", "ep.context_enable")
    assert kind == "usage" and "ep.context_enable, which writes the decrypted model" in text
    kind, text = programs(programs.sessions, model, identity, "allowed", out)
    assert kind == "ok" and out.exists(), text


def test_operators_of_the_application(programs, tool, tmp_path):
    """One that nobody knows is ONNX Runtime's error; one that the session options bring is found."""
    model = onnx.load(MODEL)
    output = model.graph.output[0]
    node = onnx.helper.make_node("Double", [output.name], ["doubled"], domain="test.custom")
    model.graph.node.append(node)
    output.name = "doubled"
    model.opset_import.append(onnx.helper.make_opsetid("test.custom", 1))
    onnx.save(model, tmp_path / "plain.onnx")
    tool.protect(tmp_path / "plain.onnx", tmp_path / "model.onnx")
    kind, text = programs(programs.shared, tmp_path / "model.onnx", tool.identity_file)
    assert kind == "runtime" and "ONNX Runtime cannot create a session: " in text and "test.custom" in text
    kind, text = programs(programs.sessions, tmp_path / "model.onnx", tool.identity_file, "custom")
    ((shape, (total, squares)),) = zeros(MODEL).values()
    assert kind == "ok", text
    assert_same(text, {"doubled": (shape, [2 * total, 4 * squares])})


def test_a_graph_that_onnx_runtime_refuses(programs, tool, tmp_path):
    model = onnx.load(MODEL)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "plain.onnx")
    tool.protect(tmp_path / "plain.onnx", tmp_path / "model.onnx")
    kind, text = programs(programs.shared, tmp_path / "model.onnx", tool.identity_file)
    assert kind == "runtime" and "NoSuchOperator" in text


def test_a_program_without_onnx_runtime_says_what_is_missing(programs, protected, tool):
    kind, text = programs(programs.shared, protected / MODEL.name, tool.identity_file, libraries=False)
    assert kind == 127 and "libonnxruntime.so.1" in text


def test_nothing_leaks(programs, protected, tool, tmp_path):
    """The address sanitizer finds no memory that is lost, used after its release or beyond its end."""
    options = ["-fsanitize=address", *programs.options]
    program = programs.compiler("infer_asan", programs.example, *options, static=True)
    source, folder = ROOT / "tests" / "c_api" / "sessions.cc", programs.example.parent
    sessions = programs.compiler("sessions_asan", source, "-I", folder, *options, static=True)
    tool("keygen", "-o", tmp_path / "other.txt")
    identity, model, external = tool.identity_file, protected / MODEL.name, protected / EXTERNAL.name
    for kind, *command in [
        ("ok", program, model, identity, "--claim", "customer"),
        ("ok", program, external, identity),
        ("policy", program, model, identity, "--claim", "nothing"),
        ("no_matching_key", program, model, tmp_path / "other.txt"),
        ("usage", program, MODEL, identity),
        ("malformed", program, identity, identity),
        ("io", program, tmp_path / "absent", identity),
        ("ok", sessions, model, identity, "prepare"),
        ("ok", sessions, external, identity, "threads"),
    ]:
        found, text = programs(*command, env={"ASAN_OPTIONS": "detect_leaks=1:exitcode=99"})
        assert found == kind, text
        assert "Sanitizer" not in text
