"""What is refused: models that are not sound, requests that would lose something. Nothing is left behind."""

import shutil

import onnx
import onnxseal
import pytest
from catalog import EXIT_CODES, MODELS, SHARED, files_below, files_of

HOSTILE = sorted((SHARED / "hostile").glob("*.onnx"))
# The others are odd but well-formed: they may be protected, and then must come back.
REFUSED = {"corrupt.onnx", "external_escapes_folder.onnx"}


@pytest.mark.skipif(not HOSTILE, reason=f"{SHARED} is absent")
@pytest.mark.parametrize("model", HOSTILE, ids=lambda path: path.stem)
def test_hostile_models(model, tool, tmp_path):
    protected, restored = tmp_path / "protected.onnx", tmp_path / "restored.onnx"
    # Some have nothing to encrypt.
    accepted = ["--allow-clear", "*"]
    done = tool.run("protect", model, "-o", protected, "-r", tool.recipient, *accepted)
    if done.returncode == 0:
        assert model.name not in REFUSED
        tool.unprotect(protected, restored)
        assert restored.read_bytes() == model.read_bytes()
    else:
        allowed = ["malformed"] if model.name in REFUSED else ["malformed", "io"]
        assert done.returncode in [EXIT_CODES[name] for name in allowed], done.stderr
        assert list(tmp_path.iterdir()) == []


def test_protecting_twice(tool, tmp_path):
    tool.protect(MODELS / "tiny_int4.onnx", tmp_path / "once.onnx")
    before = (tmp_path / "once.onnx").read_bytes()
    done = tool.run("protect", tmp_path / "once.onnx", "-o", tmp_path / "twice.onnx", "-r", tool.recipient)
    assert done.returncode not in (0, 101), done.stderr
    assert files_below(tmp_path) == ["once.onnx"]
    assert (tmp_path / "once.onnx").read_bytes() == before


def test_opening_what_is_not_protected(tool, tmp_path):
    model = MODELS / "tiny_int4.onnx"
    for arguments in (["unprotect", model, "-i", tool.identity_file, "-o", tmp_path / "a.onnx"], ["verify", model]):
        assert tool.run(*arguments).returncode in (EXIT_CODES["usage"], EXIT_CODES["malformed"])
    assert list(tmp_path.iterdir()) == []


def test_what_another_program_saved_of_a_protected_model_is_named(tool, tmp_path):
    sealed, saved = tmp_path / "sealed.onnx", tmp_path / "saved.onnx"
    tool.protect(MODELS / "digits_cnn.onnx", sealed)
    commands = [
        ["protect", saved, "-o", tmp_path / "out.onnx", "-r", tool.recipient],
        ["batch", "protect", saved, "--out", tmp_path / "out", "-r", tool.recipient],
        ["unprotect", saved, "-i", tool.identity_file, "-o", tmp_path / "out.onnx"],
        ["verify", saved],
        ["inspect", saved],
        ["rekey", saved, "-i", tool.identity_file, "-r", tool.recipient],
        ["plan", saved],
    ]
    model = onnx.load(sealed)
    del model.metadata_props[:]
    onnx.save(model, saved)
    for command in commands:
        done = tool.run(*command)
        assert done.returncode == EXIT_CODES["malformed"], (command, done.stderr)
        assert "has dropped the metadata that opens it" in done.stdout + done.stderr, command
        assert not (tmp_path / "out.onnx").exists()
    with pytest.raises(onnxseal.MalformedError, match="dropped the metadata"):
        onnxseal.open(saved, identity=tool.identity_file)

    model = onnx.load(sealed)
    model.metadata_props.add(key="author", value="me")
    onnx.save(model, saved)
    done = tool.run("verify", saved)
    assert done.returncode == EXIT_CODES["malformed"]
    assert "changed since it was protected" in done.stdout + done.stderr


def test_outputs_are_not_written_over_without_force(tool, tmp_path):
    model, out, back = MODELS / "tiny_int4.onnx", tmp_path / "out.onnx", tmp_path / "back.onnx"
    out.write_text("precious")
    assert tool.run("protect", model, "-o", out, "-r", tool.recipient).returncode != 0
    assert out.read_text() == "precious"
    tool.protect(model, out, "--force")
    back.write_text("precious")
    assert tool.run("unprotect", out, "-i", tool.identity_file, "-o", back).returncode != 0
    assert back.read_text() == "precious"
    tool.unprotect(out, back, "--force")
    assert back.read_bytes() == model.read_bytes()


def test_in_place(tool, tmp_path):
    model = tmp_path / "model.onnx"
    shutil.copy(MODELS / "digits_cnn.onnx", model)
    tool("protect", model, "--in-place", "-r", tool.recipient)
    assert model.read_bytes() != (MODELS / "digits_cnn.onnx").read_bytes()
    tool.unprotect(model, tmp_path / "restored.onnx")
    assert files_of(tmp_path / "restored.onnx") == files_of(MODELS / "digits_cnn.onnx")
    assert files_below(tmp_path) == ["model.onnx", "restored.onnx"]


def test_verify_holds_it_against_a_policy(tool, tmp_path):
    protected = tmp_path / "protected.onnx"
    tool.protect(MODELS / "digits_cnn.onnx", protected, "--preset", "balanced")
    for preset, code in [("balanced", 0), ("full", EXIT_CODES["policy"])]:
        tool("verify", protected, "-i", tool.identity_file, "--preset", preset, code=code)


@pytest.mark.parametrize("position", ["head", "weights", "tail", "external"])
def test_any_changed_byte_is_noticed(position, tool, tmp_path):
    protected = tmp_path / "in" / "model.onnx"
    protected.parent.mkdir()
    tool.protect(MODELS / "digits_cnn_dynamo.onnx", protected)
    external = protected.parent / "digits_cnn_dynamo.onnx.data"
    target = external if position == "external" else protected
    data = bytearray(target.read_bytes())
    at = {"head": 60, "weights": len(data) // 4, "tail": len(data) - 400, "external": 20_000}[position]
    data[at] ^= 1
    target.write_bytes(data)
    out = tmp_path / "out"
    out.mkdir()
    for done in [
        tool.run("unprotect", protected, "-i", tool.identity_file, "-o", out / "model.onnx"),
        tool.run("verify", protected, "-i", tool.identity_file),
    ]:
        assert done.returncode in (EXIT_CODES["malformed"], EXIT_CODES["authentication"], EXIT_CODES["no_matching_key"])
    assert files_below(out) == []
