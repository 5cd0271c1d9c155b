"""Artifacts that the tool did not write (fixtures/sealed): both implementations open the legal ones and refuse the rest."""

import json
import shutil

import make_sealed
import onnxseal_open
import onnxseal_seal
import pytest
from catalog import EXIT_CODES, SEALED, files_of

EXPECTED = json.loads((SEALED / "expected.json").read_text())
IDENTITY_FILE = SEALED / "keys" / "id.txt"
FAULTS = {
    "malformed": onnxseal_open.Malformed,
    "authentication": onnxseal_open.AuthenticationFailed,
    "no_matching_key": onnxseal_open.NoMatchingKey,
    "io": OSError,
}
valid = pytest.mark.parametrize("entry", EXPECTED["valid"], ids=lambda entry: entry["file"])
invalid = pytest.mark.parametrize("entry", EXPECTED["invalid"], ids=lambda entry: entry["file"])


def classes(entry):
    return [entry["class"]] if isinstance(entry["class"], str) else entry["class"]


@pytest.fixture(scope="module")
def identities():
    return onnxseal_open.read_identities(IDENTITY_FILE)


def test_the_script_makes_what_is_checked_in(tmp_path):
    make_sealed.main(tmp_path)
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert path.read_bytes() == (SEALED / path.relative_to(tmp_path)).read_bytes(), path.name


@valid
def test_the_second_implementation_opens(entry, identities):
    assert onnxseal_open.open_model(SEALED / entry["file"], identities) == files_of(SEALED / entry["original"])


@invalid
def test_the_second_implementation_refuses(entry, identities):
    with pytest.raises(tuple(FAULTS[name] for name in classes(entry))):
        onnxseal_open.open_model(SEALED / entry["file"], identities)


@valid
def test_the_tool_opens(entry, tool, tmp_path):
    model, original = SEALED / entry["file"], SEALED / entry["original"]
    tool("inspect", model)
    tool("verify", model)
    tool("verify", model, "-i", IDENTITY_FILE)
    tool("unprotect", model, "-i", IDENTITY_FILE, "-o", tmp_path / original.name)
    assert files_of(tmp_path / original.name) == files_of(original)


@invalid
def test_the_tool_refuses_and_writes_nothing(entry, tool, tmp_path):
    model = SEALED / entry["file"]
    for done in [
        tool.run("unprotect", model, "-i", IDENTITY_FILE, "-o", tmp_path / "out.onnx"),
        tool.run("verify", model, "-i", IDENTITY_FILE),
    ]:
        assert done.returncode in [EXIT_CODES[name] for name in classes(entry)], done.stderr
        assert done.stderr.strip()
    assert list(tmp_path.iterdir()) == []


def padded(size):
    """An edit that brings the manifest to `size` bytes."""
    return lambda manifest: onnxseal_seal.encode_json(manifest).ljust(size)


def with_files(count):
    return lambda manifest: manifest["files"].extend({"path": str(i), "bytes": 0} for i in range(1, count))


@pytest.mark.parametrize(
    "edit, refusal",
    [
        (padded(64 * 2**20), None),
        (padded(64 * 2**20 + 1), "malformed"),
        # As many as there may be, but they are not there.
        (with_files(65536), "io"),
        (with_files(65537), "malformed"),
    ],
    ids=["as_long_as_can_be", "too_long", "as_many_files_as_can_be", "too_many_files"],
)
def test_limits_of_the_manifest(edit, refusal, tool, tmp_path, identities):
    model, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    sealed, entries = make_sealed.seal({"": make_sealed.tiny()}, make_sealed.tiny_tensors(), edit)
    model.write_bytes(sealed[""] + onnxseal_open.encode_tail(entries))
    if refusal:
        with pytest.raises(FAULTS[refusal]):
            onnxseal_open.open_model(model, identities)
    else:
        assert onnxseal_open.open_model(model, identities) == {"": make_sealed.tiny()}
    tool("unprotect", model, "-i", IDENTITY_FILE, "-o", out, code=EXIT_CODES[refusal] if refusal else 0)
    assert out.exists() == (refusal is None)


@pytest.mark.parametrize("implementation", ["tool", "reference"])
def test_a_link_out_of_the_folder_is_refused(implementation, tool, tmp_path, identities):
    folder = tmp_path / "folder"
    shutil.copytree(SEALED / "valid" / "tiny_external", folder)
    (folder / "tiny" / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "tiny" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    if implementation == "reference":
        with pytest.raises(onnxseal_open.Malformed):
            onnxseal_open.open_model(folder / "model.onnx", identities)
    else:
        out = tmp_path / "out" / "model.onnx"
        out.parent.mkdir()
        tool("unprotect", folder / "model.onnx", "-i", IDENTITY_FILE, "-o", out, code=EXIT_CODES["malformed"])
        assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("implementation", ["tool", "reference"])
def test_a_folder_in_place_of_a_file_is_refused(implementation, tool, tmp_path, identities):
    folder = tmp_path / "folder"
    shutil.copytree(SEALED / "valid" / "tiny_external", folder)
    (folder / "tiny" / "weights.bin").unlink()
    (folder / "tiny" / "weights.bin").mkdir()
    if implementation == "reference":
        with pytest.raises(onnxseal_open.Malformed):
            onnxseal_open.open_model(folder / "model.onnx", identities)
    else:
        out = tmp_path / "out.onnx"
        tool("unprotect", folder / "model.onnx", "-i", IDENTITY_FILE, "-o", out, code=EXIT_CODES["malformed"])
        assert not out.exists()
