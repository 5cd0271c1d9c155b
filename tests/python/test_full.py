"""`full` is everything: no bytes of a tensor stand in a protected file, wherever the tensor lies and whatever reads it."""

import json
import shutil

import numpy as np
import onnx
import pytest
import runtime
from catalog import EXIT_CODES, SHARED, files_of, fixture_models
from onnx import numpy_helper

ABSENT = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent: its models are not tested")

# What `full` refuses of the models made for this, each with words of its error, and what makes it go through.
REFUSED = {
    "clear/custom_op_attr_str.onnx": ('attribute "weights"', ["--allow-clear", "weights", "--allow-clear", "*"]),
    "clear/ep_ctx_embed.onnx": ('attribute "ep_cache_context"', ["--allow-clear", "ep_cache_context"]),
    "clear/matmul_FLOAT16_typed.onnx": ('tensor "w"', ["--repack"]),
    "clear/training_info.onnx": ("training_info[0]", ["--allow-clear", "training_info[[]0[]]"]),
    "reports/mixed_varint.onnx": ('tensor "W"', ["--repack"]),
    "reports/orphan/m.onnx": ('16384 bytes of "m.data" from offset 0 on', ["--repack"]),
    "reports/prepacked/m.onnx": ('262144 bytes of "m.bin" from offset 262144 on', ["--repack"]),
}


def models():
    """Every model that was made to leave something in clear, and real ones; with what makes them go through."""
    paths = [p for folder in ("clear", "reports", "real", "edge") for p in sorted((SHARED / folder).rglob("*.onnx"))]
    named = [(p, p.relative_to(SHARED).as_posix()) for p in paths] + [(p, p.name) for p in fixture_models()]
    # Its metadata was dropped: it holds ciphertext, and nobody can protect it.
    return [pytest.param(p, id=name) for p, name in named if p.name != "stripped_sealed.onnx"]


def windows(data):
    """All runs of 8 bytes of `data`, as numbers."""
    if len(data) < 8:
        return np.empty(0, np.uint64)
    rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), 8)
    return np.ascontiguousarray(rows).view(np.uint64).ravel()


def telling(data):
    """Runs of 8 bytes that stand nowhere by chance: those with 5 or more different bytes."""
    found = np.unique(windows(data))
    rows = np.sort(found.view(np.uint8).reshape(-1, 8), axis=1)
    return found[(np.diff(rows, axis=1) != 0).sum(axis=1) >= 4]


def tensors(model):
    """Every tensor of a model as ONNX reads it: `(name, bytes)`."""
    loaded = onnx.load(model, load_external_data=False)
    for tensor in loaded.graph.initializer:
        # The onnx library reads no bytes then, and ONNX Runtime as many as there are.
        entries = [entry for entry in tensor.external_data if (entry.key, entry.value) != ("length", "0")]
        del tensor.external_data[:]
        tensor.external_data.extend(entries)
    onnx.load_external_data_for_model(loaded, str(model.parent))
    found = {}

    def walk(message):
        if isinstance(message, onnx.TensorProto):
            # Text, and what one element holds, stays in clear.
            if message.data_type != onnx.TensorProto.STRING and np.prod(message.dims) >= 2:
                found[len(found), message.name] = numpy_helper.to_array(message).tobytes()
            return
        if isinstance(message, onnx.SparseTensorProto):
            return walk(message.values)
        if isinstance(message, onnx.AttributeProto) and len(message.floats) >= 2:
            found[len(found), message.name] = np.array(message.floats, "<f4").tobytes()
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE and field.name not in ("training_info", "quantization_annotation"):
                for part in [value] if hasattr(value, "ListFields") else value:
                    walk(part)

    walk(loaded)
    return found


def seal(tool, model, folder, name):
    """Protects a model under `full` by the way that its error names."""
    words, way = REFUSED.get(name, (None, []))
    protected = folder / "protected" / model.name
    protected.parent.mkdir()
    if words:
        error = tool.protect(model, protected, code=EXIT_CODES["policy"]).stderr
        assert words in error and (way[0] in error), error
        assert not protected.exists()
    done = tool.run("protect", model, "-o", protected, "-r", tool.recipient, "-q", *way)
    if done.returncode == EXIT_CODES["policy"] and not words:
        done = tool.run("protect", model, "-o", protected, "-r", tool.recipient, "-q", "--repack")
    if done.returncode == EXIT_CODES["policy"]:
        assert any(words in done.stderr for words in ("stays in clear", "nothing is encrypted")), done.stderr
        done = tool.run("protect", model, "-o", protected, "-r", tool.recipient, "-q", "--repack", "--allow-clear", "*")
    assert done.returncode == 0, done.stderr
    return protected


@ABSENT
@pytest.mark.parametrize("model", models())
def test_no_bytes_of_a_tensor_stand_in_the_protected_files(tool, model, tmp_path, request):
    protected = seal(tool, model, tmp_path, request.node.callspec.id)
    report = json.loads(tool("inspect", protected, "--json").stdout)
    shapes = [row for row in report["clear"] if "shapes are computed" in row["reason"]]
    assert all(row["data_type"] in ("INT64", "INT32", "FLOAT", "BOOL") for row in shapes)
    assert all(np.prod(row["dims"], dtype=int) <= 256 for row in shapes)
    kept = {row["name"] for row in shapes}
    stored = np.unique(np.concatenate([windows(data) for data in files_of(protected).values()]))
    found = [name for (_, name), data in tensors(model).items()
             if name not in kept and np.isin(telling(data), stored, assume_unique=True).any()]
    assert not found, f"plaintext of {found} stands in {protected}"


@ABSENT
@pytest.mark.parametrize("model", [p for p in models() if str(p.id).startswith(("clear", "reports"))])
def test_sessions_compute_what_the_original_does(tool, model, tmp_path, request):
    onnxseal = pytest.importorskip("onnxseal")
    original = runtime.session(model)
    if original is None:
        pytest.skip("ONNX Runtime does not open the original")
    protected = seal(tool, model, tmp_path, request.node.callspec.id)
    session = onnxseal.InferenceSession(protected, identity=tool.identity_file, providers=["CPUExecutionProvider"])
    feed = runtime.made_up_feed(original)
    for a, b in zip(runtime.run(original, feed), session.run(None, feed), strict=True):
        assert a.tobytes() == b.tobytes()


@ABSENT
@pytest.mark.parametrize("name", ["clear/matmul_FLOAT16_typed", "reports/mixed_varint", "reports/orphan/m", "reports/prepacked/m"])
def test_a_repacked_model_is_equal_in_every_value(tool, name, tmp_path):
    model = SHARED / f"{name}.onnx"
    report = json.loads(tool.protect(model, tmp_path / "p" / "m.onnx", "--repack", "--json").stdout)
    assert report["weights"]["share"] == 1 and set(report["repacked"].values()) != {0}
    tool.unprotect(tmp_path / "p" / "m.onnx", tmp_path / "u" / "m.onnx")
    assert list(tensors(tmp_path / "u" / "m.onnx").values()) == list(tensors(model).values())


@ABSENT
def test_bytes_between_tensors_are_named_refused_and_removed(tool, tmp_path):
    folder = SHARED / "reports" / "orphan"
    old = (folder / "m.data").read_bytes()[:16384]
    tool.protect(folder / "m.onnx", tmp_path / "a" / "m.onnx", "--allow-clear", "m.data")
    assert old in files_of(tmp_path / "a" / "m.onnx")["m.data"]
    report = json.loads(tool("inspect", tmp_path / "a" / "m.onnx", "--json").stdout)
    assert report["gaps"] == [{"file": "m.data", "offset": 0, "bytes": 16384}] and report["weights"]["share"] == 0.5
    tool("verify", tmp_path / "a" / "m.onnx", "--preset", "full", code=EXIT_CODES["policy"])
    tool("verify", tmp_path / "a" / "m.onnx", "--preset", "full", "--allow-clear", "m.data")
    tool.protect(folder / "m.onnx", tmp_path / "b" / "m.onnx", "--repack")
    tool.unprotect(tmp_path / "b" / "m.onnx", tmp_path / "c" / "m.onnx")
    assert files_of(tmp_path / "c" / "m.onnx")["m.data"][:16384] == bytes(16384)
    # Zeros are padding.
    shutil.copytree(folder, tmp_path / "zeros")
    (tmp_path / "zeros" / "m.data").chmod(0o644)
    (tmp_path / "zeros" / "m.data").write_bytes(bytes(16384) + (folder / "m.data").read_bytes()[16384:])
    tool.protect(tmp_path / "zeros" / "m.onnx", tmp_path / "d" / "m.onnx")
    # Beside the original, the data file gets another name; the original's is the one that users know.
    shutil.copytree(folder, tmp_path / "e")
    beside = tmp_path / "e" / "sealed.onnx"
    assert '"m.data"' in tool.protect(tmp_path / "e" / "m.onnx", beside, code=EXIT_CODES["policy"]).stderr
    tool.protect(tmp_path / "e" / "m.onnx", beside, "--allow-clear", "m.data")
    tool("verify", beside, "--preset", "full", "--allow-clear", "m.data")


@ABSENT
def test_an_override_that_encrypts_nothing_is_an_error(tool, tmp_path):
    policy = tmp_path / "policy.toml"
    for name, code in [("b", 0), ("nothing", EXIT_CODES["policy"])]:
        policy.write_text(f'preset = "balanced"\n[[override]]\ninitializer = "{name}"\ncoefficient = 1.0\n')
        tool.protect(SHARED / "clear" / "ov_bias.onnx", tmp_path / name, "--policy", policy, code=code)
    report = json.loads(tool("inspect", tmp_path / "b", "--json").stdout)
    bias = [t for row in report["operators"] for t in row["tensors"] if t["name"] == "b"]
    assert bias[0]["share"] == 1


@ABSENT
def test_a_model_in_clear_meets_no_preset(tool, tmp_path):
    model = SHARED / "clear" / "matmul_FLOAT16_typed.onnx"
    tool.protect(model, tmp_path / "m.onnx", "--allow-clear", "w")
    for preset in ("full", "strong", "balanced"):
        tool("verify", tmp_path / "m.onnx", "--preset", preset, code=EXIT_CODES["policy"])
    batch = tool("batch", "protect", SHARED / "clear", "--out", tmp_path / "out", "-r", tool.recipient, "-q",
                 code=EXIT_CODES["policy"])
    assert batch.stderr.count("is not protected as the policy demands") == 4
