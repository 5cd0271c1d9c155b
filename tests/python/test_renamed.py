"""A model as PyTorch exports it, with external data, and its protected form in the same folder."""

import onnx
import onnxruntime
import onnxseal_open
import pytest
from catalog import EXIT_CODES, MODELS, files_below
from digits import feed_of, held_out


@pytest.fixture
def exported(tmp_path):
    """What `torch.onnx.export(..., "a.onnx", external_data=True)` writes."""
    model = onnx.load(MODELS / "digits_cnn.onnx")
    path = tmp_path / "export" / "a.onnx"
    path.parent.mkdir()
    onnx.save(model, path, save_as_external_data=True, location="a.onnx.data", size_threshold=0)
    return path


def outputs_of(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pixels, _ = held_out()
    return session.run(None, {session.get_inputs()[0].name: feed_of("nchw", pixels)})[0]


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def test_in_one_folder(exported, tool, tmp_path):
    before, outputs = contents(exported.parent), outputs_of(exported)
    protected, restored = exported.with_name("b.onnx"), tmp_path / "back" / "a.onnx"
    tool.protect(exported, protected, "--runnable")
    assert files_below(exported.parent) == ["a.onnx", "a.onnx.data", "b.onnx", "b.onnx.data"]
    assert {name: (exported.parent / name).read_bytes() for name in before} == before
    onnx.checker.check_model(str(protected))
    assert (outputs_of(protected) != outputs).any()
    tool("verify", protected, "-i", tool.identity_file, "--preset", "balanced")

    tool.unprotect(protected, restored)
    assert contents(restored.parent) == before
    assert (outputs_of(restored) == outputs).all()
    opened = onnxseal_open.open_model(protected, onnxseal_open.read_identities(tool.identity_file))
    assert opened == {"": before["a.onnx"], "a.onnx.data": before["a.onnx.data"]}

    # The protected model can be moved away, with what is its own.
    away = tmp_path / "away"
    away.mkdir()
    for name in ("b.onnx", "b.onnx.data"):
        (exported.parent / name).rename(away / name)
    tool("verify", away / "b.onnx", "-i", tool.identity_file)


def test_several_protected_models_in_one_folder(exported, tool):
    tool.protect(exported, exported.with_name("b.onnx"))
    tool.protect(exported, exported.with_name("c.onnx"))
    arguments = ["protect", exported, "-o", exported.with_name("d.onnx"), "-r", tool.recipient, "--external-data"]
    refused = tool.run(*arguments, "c.onnx.data")
    assert refused.returncode == EXIT_CODES["usage"] and "--external-data" in refused.stderr
    assert not exported.with_name("d.onnx").exists()
    tool(*arguments, "d/weights.bin")
    for name in ("b.onnx", "c.onnx", "d.onnx"):
        tool("verify", exported.with_name(name), "-i", tool.identity_file)


def test_in_place(exported, tool, tmp_path):
    before = contents(exported.parent)
    done = tool.run("protect", exported, "--in-place", "-r", tool.recipient)
    assert done.returncode == 0 and "a.onnx.data" in done.stderr and "in clear" in done.stderr
    assert files_below(exported.parent) == ["a.onnx", "a.onnx.data", "a.onnx.sealed.data"]
    exported.with_name("a.onnx.data").unlink()
    tool("verify", exported, "-i", tool.identity_file)
    tool.unprotect(exported, tmp_path / "back" / "a.onnx")
    assert contents(tmp_path / "back") == before
