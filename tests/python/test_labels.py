"""Encrypted labels as users meet them: models that the tool protects, on ONNX Runtime, decoded by the tool and by the reference."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxseal
import onnxseal_labels
import pytest
from catalog import EXIT_CODES, MODELS, digits_models, files_below
from digits import feed_of, held_out

FLOATS = ["cnn", "cnn_bf16", "cnn_dynamo", "cnn_fp16", "embedding", "finetuned", "gru", "lstm", "sklearn_mlp", "tensorflow"]
REFUSED = ["cnn_dynamic", "cnn_qdq", "cnn_qoperator", "mlp_int4", "sklearn_forest", "sklearn_logistic"]


def softmax(z):
    powers = np.exp(z - z.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def run(path, feed):
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {session.get_inputs()[0].name: feed})


class Vendor:
    """An authority and one user."""

    def __init__(self, tool, folder):
        self.tool, self.folder, self.authority, self.key = tool, folder, folder / "authority.json", folder / "acme.key"
        tool("labels", "setup", "-o", self.authority, "-q")
        self.users("acme", self.key)

    def users(self, name, path):
        self.tool("labels", "keygen", "--authority", self.authority, "--user", name, "-o", path, "-q")

    def protect(self, model, *more, code=0):
        out = self.folder / "out" / "labels.onnx"
        done = self.tool("labels", "protect", model, "--authority", self.authority, "-o", out, *more, code=code)
        return done if code else out

    def decode(self, model, answers, key=None, code=0):
        np.save(self.folder / "answers.npy", answers)
        arguments = ["labels", "decode", model, self.folder / "answers.npy", "--key", key or self.key, "--json"]
        done = self.tool(*arguments, code=code)
        if code:
            return done
        rows = json.loads(done.stdout)
        return np.array([row["class"] for row in rows]), np.array([row["probabilities"] for row in rows])


@pytest.fixture
def vendor(tool, tmp_path):
    (tmp_path / "out").mkdir()
    return Vendor(tool, tmp_path)


def digits(name):
    facts = digits_models()[f"digits_{name}.onnx"]
    pixels, labels = held_out()
    return MODELS / f"digits_{name}.onnx", feed_of(facts["input"], pixels), labels


@pytest.mark.parametrize("name", FLOATS)
def test_a_key_reads_the_classes_of_the_original(vendor, name):
    model, feed, labels = digits(name)
    wanted = run(model, feed)[-1].astype(np.float64)
    protected = vendor.protect(model)
    onnx.checker.check_model(str(protected))
    answers = run(protected, feed)[0]
    assert answers.shape == (200, 80)
    classes, probabilities = vendor.decode(protected, answers)
    assert (classes == wanted.argmax(1)).all()
    of_original = wanted if name == "sklearn_mlp" else softmax(wanted)
    # The original computes in 16 bits, too.
    assert np.abs(probabilities - of_original).max() <= {"cnn_fp16": 2e-4, "cnn_bf16": 2e-4}.get(name, 1e-5)
    # The answers themselves say nothing: not even as the largest of each eight.
    assert (answers.reshape(200, 10, 8).sum(2).argmax(1) == labels).mean() < 0.5


def sparse_softmax(pixels, labels):
    """Softmax regression with an L1 penalty, by proximal gradients: most weights are 0."""
    weights = np.zeros((10, 64))
    for _ in range(300):
        wrong = softmax(pixels @ weights.T) - np.eye(10)[labels]
        weights -= wrong.T @ pixels / len(pixels)
        weights = np.sign(weights) * np.maximum(np.abs(weights) - 0.005, 0)
    return weights


def changed(kind, weights):
    """The layer with most weights 0, with classes that sum up to nothing, that are the same, or of which one is much larger."""
    match kind:
        case "pruned":
            return np.where(np.abs(weights) < np.quantile(np.abs(weights), 0.9), 0, weights)
        case "centred":
            return weights - weights.mean(0)
        case "identical":
            return weights[[0, 0, *range(2, 10)]]
        case "large":
            return weights * np.array([100] + [1] * 9)[:, None]


@pytest.mark.parametrize("kind", ["sparse", "pruned", "centred", "identical", "large"])
def test_any_layer_is_protected(vendor, tmp_path, kind):
    images, labels = held_out()
    pixels = images.reshape(200, 64).astype(np.float32) / 16
    weights = sparse_softmax(pixels, labels)
    if kind == "sparse":
        assert (weights == 0).mean() > 0.5
        assert (softmax(pixels @ weights.T).argmax(1) == labels).mean() > 0.8
    else:
        weights = changed(kind, np.random.default_rng(1).normal(weights, 0.1))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gemm", ["x", "w"], ["z"], transB=1)],
        kind,
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 64])],
        [onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 10])],
        [onnx.numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "layer.onnx")
    protected = vendor.protect(tmp_path / "layer.onnx")
    classes, probabilities = vendor.decode(protected, run(protected, pixels)[0])
    wanted = run(tmp_path / "layer.onnx", pixels)[0].astype(np.float64)
    # Classes that are the same have the same logits but for rounding, and either may come first.
    assert (wanted[range(200), classes] >= wanted.max(1) - 1e-6 * np.abs(wanted).max()).all()
    assert np.abs(probabilities - softmax(wanted)).max() <= (1e-4 if kind == "large" else 2e-6)


@pytest.mark.parametrize("name", ["cnn", "tensorflow", "cnn_dynamo"])
def test_the_reference_reads_the_same(vendor, name):
    model, feed, _ = digits(name)
    protected = vendor.protect(model)
    loaded, table = onnxseal_labels.load(protected)
    authority = json.loads(vendor.authority.read_text())
    reference = onnxseal_labels.Authority(bytes.fromhex(authority["seed"]), authority["collusion"])
    assert reference.public == table.public and b"".join(reference.generators()) == table.generators
    assert reference.key_text("acme") == vendor.key.read_text()
    public, secrets = onnxseal_labels.secrets_of(vendor.key.read_text())
    assert public == table.public and onnxseal_labels.opens(table, secrets)
    z = onnxseal_labels.decode_answers(table, secrets, run(protected, feed[:20])[0])
    wanted = run(model, feed[:20])[0]
    assert np.abs(z - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert not onnxseal_labels.opens(table, [z + 1 for z in secrets])


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_node_and_leave_nothing(vendor, name):
    before = files_below(vendor.folder)
    book = vendor.authority.read_text()
    done = vendor.protect(MODELS / f"digits_{name}.onnx", code=EXIT_CODES["usage"])
    assert "error: node" in done.stderr and "hint: " in done.stderr
    assert files_below(vendor.folder) == before and vendor.authority.read_text() == book


def test_wrong_keys(vendor, tool, tmp_path):
    model, feed, _ = digits("cnn")
    protected = vendor.protect(model)
    answers = run(protected, feed)[0]
    (tmp_path / "other" / "out").mkdir(parents=True)
    other = Vendor(tool, tmp_path / "other")
    done = vendor.decode(protected, answers, key=other.key, code=EXIT_CODES["no_matching_key"])
    assert "another authority" in done.stderr
    (tmp_path / "broken.key").write_text(vendor.key.read_text().replace("acme", "acmf"))
    vendor.decode(protected, answers, key=tmp_path / "broken.key", code=EXIT_CODES["malformed"])
    # The rows of one protection with the table of another.
    one = onnx.load(protected)
    protected.unlink()
    two = onnx.load(vendor.protect(model))
    one.metadata_props[-1].value = two.metadata_props[-1].value
    onnx.save(one, tmp_path / "mixed.onnx")
    done = vendor.decode(tmp_path / "mixed.onnx", answers, code=EXIT_CODES["authentication"])
    assert "other rows" in done.stderr
    with pytest.raises(AssertionError):
        table = onnxseal_labels.table_of(one)
        assert onnxseal_labels.digest_of(one, table) == table.digest
    # A plain model has no table.
    done = vendor.decode(model, answers, code=EXIT_CODES["malformed"])
    assert "not protected" in done.stderr
    # Revoked, from the next protection on.
    tool("labels", "revoke", "--authority", vendor.authority, "--user", "acme")
    (tmp_path / "out" / "labels.onnx").unlink()
    done = vendor.decode(vendor.protect(model), answers, code=EXIT_CODES["no_matching_key"])
    assert "revoked" in done.stderr
    tool("labels", "keygen", "--authority", vendor.authority, "--user", "acme", "-o", tmp_path / "again.key", code=2)


def test_keys_in_batch_and_an_encrypted_authority(tool, tmp_path):
    authority = tmp_path / "authority.age"
    tool("labels", "setup", "-o", authority, "-r", tool.recipient)
    assert authority.read_text().startswith("-----BEGIN AGE") and authority.stat().st_mode & 0o777 == 0o600
    tool("labels", "setup", "-o", authority, "-r", tool.recipient, code=EXIT_CODES["usage"])
    names = [f"user {i}" for i in range(300)]
    (tmp_path / "names.txt").write_text("# all\n" + "\n".join(names) + "\n")
    arguments = ["labels", "keygen", "--authority", authority, "--users", tmp_path / "names.txt", "-o", tmp_path / "keys"]
    done = tool(*arguments, code=EXIT_CODES["usage"])
    assert "identity" in done.stderr and not (tmp_path / "keys").exists()
    tool(*arguments, "-i", tool.identity_file)
    assert sorted(files_below(tmp_path / "keys")) == sorted(f"{name}.key" for name in names)
    listed = json.loads(tool("labels", "users", "--authority", authority, "-i", tool.identity_file, "--json").stdout)
    assert [user["name"] for user in listed] == names
    # Nothing is overwritten, and a key is always the same one.
    before = (tmp_path / "keys" / "user 7.key").read_text()
    tool(*arguments, "-i", tool.identity_file, code=EXIT_CODES["usage"])
    again = ["labels", "keygen", "--authority", authority, "--user", "user 7", "-o", tmp_path / "again.key"]
    tool(*again, "-i", tool.identity_file)
    assert (tmp_path / "again.key").read_text() == before
    assert authority.read_text().startswith("-----BEGIN AGE") and authority.stat().st_mode & 0o777 == 0o600


def test_traces_name_the_user(vendor, tool, tmp_path):
    model, feed, _ = digits("cnn")
    # More samples than the test images: these with some pixels of others.
    random = np.random.default_rng(1)
    samples = np.repeat(feed, 8, 0)
    others = feed[random.integers(0, 200, len(samples))]
    samples = np.where(random.random(samples.shape) < 0.2, others, samples)
    name = onnx.load(model).graph.input[0].name
    np.savez(tmp_path / "samples.npz", **{name: samples})
    few = tmp_path / "few.npz"
    np.savez(few, **{name: samples[:900]})
    done = vendor.protect(model, "--traces", 12, "--data", few, code=EXIT_CODES["usage"])
    assert "1000" in done.stderr
    names = [f"user {i}" for i in range(20)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    tool("labels", "keygen", "--authority", vendor.authority, "--users", tmp_path / "names.txt", "-o", tmp_path / "keys")
    protected = vendor.protect(model, "--traces", 12, "--data", tmp_path / "samples.npz")
    shown = json.loads(tool("labels", "inspect", protected, "--json").stdout)
    assert (shown["rows"], shown["traces"], shown["classes"]) == (92, 12, 10)
    # A service of one of them: it decodes as the tool does.
    service = tmp_path / "service.py"
    service.write_text(
        f"""import json, subprocess, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession({str(protected)!r})
name = session.get_inputs()[0].name
answers = session.run(None, {{name: np.load(sys.argv[2])[name]}})[0]
np.save({str(tmp_path / "of_service.npy")!r}, answers)
tool = [{str(tool.binary)!r}, "labels", "decode", {str(protected)!r}, {str(tmp_path / "of_service.npy")!r}, "--key", sys.argv[1], "--json"]
for row in json.loads(subprocess.run(tool, capture_output=True, check=True).stdout):
    print(",".join(map(str, row["probabilities"])))
"""
    )
    key = tmp_path / "keys" / "leaked.key"
    key.write_text((tmp_path / "keys" / "user 13.key").read_text())
    trace = ["labels", "trace", "--authority", vendor.authority, "--model", protected]
    tool(*trace, "--inputs", tmp_path / "inputs.npz")
    asked = subprocess.run([sys.executable, service, key, tmp_path / "inputs.npz"], capture_output=True, check=True, text=True)
    (tmp_path / "answers.txt").write_text(asked.stdout)
    verdict = json.loads(tool(*trace, "--json", "--answers", tmp_path / "answers.txt").stdout)
    assert verdict["accused"] == ["user 13"] and verdict["suspects"][0]["matches"] == 12
    assert verdict["probability_of_an_innocent"] < 1e-6
    # From Python, with a function as the service.
    decoder = onnxseal.LabelDecoder(onnx_table(protected), key)
    asked = lambda inputs: decoder.decode(run(protected, inputs[name])[0])
    assert onnxseal.trace_labels(protected, asked, authority=vendor.authority) == verdict
    assert onnxseal.trace_labels(protected, lambda _: [3] * 12, authority=vendor.authority)["accused"] == []
    with pytest.raises(onnxseal.UsageError, match="11 answers for 12 traces"):
        onnxseal.trace_labels(protected, lambda _: [3] * 11, authority=vendor.authority)
    # Nobody is accused of answers that are all alike.
    assert np.load(tmp_path / "inputs.npz")[name].shape == (12, 1, 8, 8)
    (tmp_path / "answers.txt").write_text("3\n" * 12)
    done = tool(*trace, "--answers", tmp_path / "answers.txt")
    assert "nobody" in done.stdout
    (tmp_path / "answers.txt").write_text("3\n" * 11)
    tool(*trace, "--answers", tmp_path / "answers.txt", code=EXIT_CODES["usage"])
    # Samples that are no traces decode as ever.
    classes, _ = vendor.decode(protected, run(protected, feed)[0])
    assert (classes == run(model, feed)[0].argmax(1)).mean() >= 0.995


def onnx_table(model):
    return next(prop.value for prop in onnx.load(model).metadata_props if prop.key == "onnxseal-labels")


def test_a_protection_that_fails_leaves_the_authority_as_it_was(vendor, tmp_path):
    model, _, _ = digits("cnn")
    before = vendor.authority.read_bytes()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(onnxseal.IoError):
        onnxseal.protect_labels(model, tmp_path / "file" / "out.onnx", authority=vendor.authority, check=False)
    assert vendor.authority.read_bytes() == before


def test_python_protects_as_the_command_does(vendor, tool, tmp_path):
    model, feed, _ = digits("cnn")
    out, name = tmp_path / "python.onnx", onnx.load(model).graph.input[0].name
    before = vendor.authority.read_text()
    with pytest.raises(onnxseal.UsageError):
        onnxseal.protect_labels(model, out, authority=vendor.authority, traces=12)
    with pytest.raises(onnxseal.UsageError):
        onnxseal.protect_labels(model, out, authority=vendor.authority, codewords=0)
    assert vendor.authority.read_text() == before and not out.exists()
    random = np.random.default_rng(1)
    samples = feed[random.integers(0, 200, 1600)] + random.normal(0, 0.05, (1600, 1, 8, 8)).astype(np.float32)
    done = onnxseal.protect_labels(model, out, authority=vendor.authority, data={name: samples}, traces=12)
    assert (done["rows"], done["classes"], done["traces"]) == (92, 10, 12) and done["difference"] < 1e-5
    shown = json.loads(tool("labels", "inspect", out, "--json").stdout)
    assert (shown["rows"], shown["traces"]) == (92, 12)
    classes, _ = vendor.decode(out, run(out, feed)[0])
    assert (classes == run(model, feed)[0].argmax(1)).mean() >= 0.995
    # The authority has noted it: the command traces what Python protected.
    tool("labels", "trace", "--authority", vendor.authority, "--model", out, "--inputs", tmp_path / "inputs.npz")
    assert np.load(tmp_path / "inputs.npz")[name].shape == (12, 1, 8, 8)
    # Nothing is overwritten, and a refused call changes no authority.
    before = vendor.authority.read_text()
    with pytest.raises(onnxseal.UsageError):
        onnxseal.protect_labels(model, out, authority=vendor.authority)
    assert vendor.authority.read_text() == before
    unchecked = onnxseal.protect_labels(model, out, authority=vendor.authority, check=False, replace=True)
    assert unchecked["difference"] is None and unchecked["rows"] == 80


def test_attacks(vendor, tool):
    model, feed, labels = digits("cnn")
    protected = vendor.protect(model)
    table = np.column_stack([labels, held_out()[0]])
    header = ",".join(["label", *[f"p{i}" for i in range(64)]])
    np.savetxt(vendor.folder / "test.csv", table, "%d", ",", header=header, comments="")
    data = ["--data", vendor.folder / "test.csv", "--scale", 16]
    rows = json.loads(tool("labels", "attack", protected, *data, "--json").stdout)
    # Half of the samples are the attacker's.
    names = ["groups of answers to 100 samples without labels", *[f"answers to {n} samples with labels" for n in (10, 30, 100)]]
    assert [row["attack"] for row in rows] == names
    # Both show classes to anyone.
    assert all(0.5 < row["got"] <= 1 and 0.5 < row["floor"] <= 1 for row in rows)
    assert rows[-1]["got"] > 0.95
    assert len(tool("labels", "attack", protected, *data).stdout.splitlines()) == 4
    done = tool("labels", "attack", protected, code=EXIT_CODES["usage"])
    assert "--data" in done.stderr
    np.save(vendor.folder / "samples.npy", feed)
    done = tool("labels", "attack", protected, "--data", vendor.folder / "samples.npy", code=EXIT_CODES["usage"])
    assert "--labels" in done.stderr


def test_a_model_is_protected_as_a_whole_too(vendor, tool, tmp_path):
    model, feed, _ = digits("cnn")
    protected = vendor.protect(model)
    sealed, opened = tmp_path / "sealed.onnx", tmp_path / "opened.onnx"
    tool.protect(protected, sealed)
    done = vendor.decode(sealed, run(protected, feed)[0])
    assert (done[0] == run(model, feed)[0].argmax(1)).all()
    tool.unprotect(sealed, opened)
    assert opened.read_bytes() == protected.read_bytes()
    # Neither twice, nor over what is there.
    again = tmp_path / "again.onnx"
    shutil.copy(protected, again)
    done = vendor.protect(again, "--force", code=EXIT_CODES["usage"])
    assert "already" in done.stderr
    vendor.protect(model, code=EXIT_CODES["usage"])


def test_models_that_were_trained_with_targets(vendor, tmp_path):
    """What training gives is made here by hand: rows whose product with the decoding matrix is the original's layer."""
    model, feed, _ = digits("cnn")
    targets = tmp_path / "targets.npz"
    vendor.tool("labels", "targets", "-o", targets, "--classes", 10)
    assert targets.stat().st_mode & 0o777 == 0o600
    vendor.tool("labels", "targets", "-o", targets, "--classes", 10, code=EXIT_CODES["usage"])
    decoding = np.load(targets)["decoding"]
    assert decoding.shape == (80, 10) and ((decoding != 0).sum(1) == 1).all() and ((decoding != 0).sum(0) == 8).all()
    weights = np.abs(decoding[decoding != 0])
    assert weights.min() >= 0.5 and weights.max() <= 1.5 and (decoding > 0).any() and (decoding < 0).any()
    rows_of = [np.flatnonzero(decoding[:, y]) for y in range(10)]

    loaded = onnx.load(model)
    node = next(node for node in loaded.graph.node if node.output[0] == loaded.graph.output[0].name)
    weight, bias = (next(t for t in loaded.graph.initializer if t.name == name) for name in node.input[1:])
    a = np.hstack([onnx.numpy_helper.to_array(weight), onnx.numpy_helper.to_array(bias)[:, None]])
    weights = [[float(decoding[row, y]) / onnxseal_labels.UNIT for row in rows_of[y]] for y in range(10)]
    split = onnxseal_labels.split(a, weights, np.random.default_rng(1).standard_normal((10, 8, a.shape[1])))
    g = np.zeros((80, a.shape[1]), np.float32)
    for y in range(10):
        g[rows_of[y]] = split[y]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(g[:, :-1]), weight.name))
    bias.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(g[:, -1]), bias.name))
    loaded.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 80
    trained = tmp_path / "trained.onnx"
    onnx.save(loaded, trained)

    protected = vendor.protect(trained, "--targets", targets)
    answers = run(protected, feed)[0]
    assert np.array_equal(answers, run(trained, feed)[0])
    classes, probabilities = vendor.decode(protected, answers)
    wanted = run(model, feed)[0]
    assert (classes == wanted.argmax(1)).all() and np.abs(probabilities - softmax(wanted)).max() < 1e-5

    out = tmp_path / "out" / "labels.onnx"
    out.unlink()
    for changed in [decoding[:72], decoding * 8, decoding + 1, decoding[:, :9]]:
        np.savez(tmp_path / "bad.npz", decoding=changed)
        assert vendor.protect(trained, "--targets", tmp_path / "bad.npz", code=EXIT_CODES["usage"]).stderr
    np.savez(tmp_path / "bad.npz", other=decoding)
    vendor.protect(trained, "--targets", tmp_path / "bad.npz", code=EXIT_CODES["usage"])
    assert "80" in vendor.protect(model, "--targets", targets, code=EXIT_CODES["usage"]).stderr
    assert not out.exists()


def test_models_are_not_written_unchecked_unless_that_is_asked_for(vendor, tmp_path, monkeypatch):
    model, _, _ = digits("cnn")
    library = Path(os.environ.get("ORT_DYLIB_PATH") or next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))).resolve()
    for name in ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("HOME", str(tmp_path / "nothing"))
    before = vendor.authority.read_bytes()
    refused = vendor.protect(model, code=1).stderr
    assert "nothing was written" in refused and "--no-check" in refused and "ORT_DYLIB_PATH" in refused
    assert not list((tmp_path / "out").iterdir()) and vendor.authority.read_bytes() == before
    assert vendor.protect(model, "--no-check").exists()
    # The library of the environment that the command lies in.
    program = tmp_path / "env" / "bin" / "onnxseal"
    packages = tmp_path / "env" / "lib" / "python3.12" / "site-packages" / "onnxruntime" / "capi"
    program.parent.mkdir(parents=True)
    packages.mkdir(parents=True)
    shutil.copy(vendor.tool.binary, program)
    (packages / library.name).symlink_to(library)
    out = tmp_path / "out" / "checked.onnx"
    done = subprocess.run(
        [program, "labels", "protect", model, "--authority", vendor.authority, "-o", out], capture_output=True, text=True
    )
    assert done.returncode == 0 and "compared on ONNX Runtime" in done.stderr and out.exists()
