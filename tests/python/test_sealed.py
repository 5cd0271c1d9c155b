"""Artifacts that the tool did not write (fixtures/sealed): both implementations open the legal ones and refuse the rest.

test_second_reader.py has the same of the second reader in plain Python; its limits are here.
"""

import hashlib
import json
import shutil
import subprocess
import sys

import make_sealed
import onnxseal_open
import onnxseal_seal
import onnxseal_second
import pyrage
import pytest
from catalog import EXIT_CODES, SEALED, files_below, files_of

EXPECTED = json.loads((SEALED / "expected.json").read_text())
IDENTITY_FILE = SEALED / "keys" / "id.txt"
FAULTS = {
    "malformed": onnxseal_open.Malformed,
    "authentication": onnxseal_open.AuthenticationFailed,
    "no_matching_key": onnxseal_open.NoMatchingKey,
    "io": OSError,
}
SECOND_FAULTS = {"malformed": onnxseal_second.Malformed, "io": onnxseal_second.Io}
valid = pytest.mark.parametrize("entry", EXPECTED["valid"], ids=lambda entry: entry["file"])
invalid = pytest.mark.parametrize("entry", EXPECTED["invalid"], ids=lambda entry: entry["file"])


def classes(entry):
    return [entry["class"]] if isinstance(entry["class"], str) else entry["class"]


@pytest.fixture(scope="module")
def identities():
    return onnxseal_open.read_identities(IDENTITY_FILE)


def test_the_script_makes_what_is_checked_in(tmp_path):
    make_sealed.main(tmp_path)
    made = files_below(tmp_path)
    assert made == [path for path in files_below(SEALED) if not path.startswith("keys/")]
    for path in made:
        assert (tmp_path / path).read_bytes() == (SEALED / path).read_bytes(), path


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


def with_claims(count):
    return lambda manifest: manifest.update(claims={str(i): "" for i in range(count)})


@pytest.mark.parametrize(
    "edit, refusal",
    [
        (padded(64 * 2**20), None),
        (padded(64 * 2**20 + 1), "malformed"),
        # As many as there may be, but they are not there.
        (with_files(65536), "io"),
        (with_files(65537), "malformed"),
        (with_claims(65536), None),
        (with_claims(65537), "malformed"),
    ],
    ids=[
        "as_long_as_can_be", "too_long", "as_many_files_as_can_be", "too_many_files", "as_many_claims_as_can_be",
        "too_many_claims",
    ],
)
def test_limits_of_the_manifest(edit, refusal, tool, tmp_path, identities):
    sealed, entries = make_sealed.seal({"": make_sealed.tiny()}, make_sealed.tiny_tensors(), edit)
    check_limit(make_sealed.complete(sealed, entries)[""], refusal, tool, tmp_path, identities)


@pytest.mark.parametrize("recipients, refusal", [(300, None), (1200, "malformed")])
def test_limit_of_a_wrapped_key(recipients, refusal, tool, tmp_path, identities):
    others = [pyrage.x25519.Identity.generate().to_public() for _ in range(recipients)]
    wrapped = pyrage.encrypt(make_sealed.DEK, [*others, identities[0].to_public()], armored=True)
    assert (len(wrapped) > 128 * 2**10) == (refusal is not None)
    sealed, entries = make_sealed.seal({"": make_sealed.tiny()}, make_sealed.tiny_tensors(), parts={1: wrapped})
    check_limit(make_sealed.complete(sealed, entries)[""], refusal, tool, tmp_path, identities)


def check_limit(content, refusal, tool, tmp_path, identities):
    model, out = tmp_path / "model.onnx", tmp_path / "out.onnx"
    model.write_bytes(content)
    for reader in (onnxseal_open, onnxseal_second):
        if refusal:
            with pytest.raises(SECOND_FAULTS[refusal] if reader is onnxseal_second else FAULTS[refusal]):
                reader.open_model(model, identities)
        else:
            assert reader.open_model(model, identities) == {"": make_sealed.tiny()}
    tool("unprotect", model, "-i", IDENTITY_FILE, "-o", out, code=EXIT_CODES[refusal] if refusal else 0)
    assert out.exists() == (refusal is None)


@pytest.mark.parametrize("path", [".tiny/weight.bin", "tiny/.weight.bin", "tiny/weights\nbin", "tiny/weights\x7fbin"])
def test_paths_that_are_never_written(path, tool, tmp_path, identities):
    files, facts = make_sealed.with_path(path)
    folder, out = tmp_path / "sealed", tmp_path / "out"
    make_sealed.write(folder, "x", "model", files, facts)
    out.mkdir()
    model = folder / "x" / "model" / "model.onnx"
    tool("verify", model, "-i", IDENTITY_FILE)
    opened = onnxseal_open.open_model(model, identities)
    assert {name: hashlib.sha256(content).hexdigest() for name, content in opened.items()} == facts["files"]
    refused_by_both(tool, model, out)


def refused_by_both(tool, model, out):
    tool("unprotect", model, "-i", IDENTITY_FILE, "-o", out / "model.onnx", code=EXIT_CODES["usage"])
    command = [sys.executable, onnxseal_open.__file__, model, "-i", IDENTITY_FILE, "-o", out]
    assert subprocess.run(command, capture_output=True).returncode == EXIT_CODES["usage"]
    assert files_below(out) == []


def test_nothing_is_written_through_a_link(tool, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tiny").symlink_to(tmp_path / "elsewhere")
    refused_by_both(tool, SEALED / "valid" / "tiny_external" / "model.onnx", tmp_path / "out")
    assert files_below(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("implementation", [None, onnxseal_open, onnxseal_second], ids=["tool", "reference", "second"])
def test_a_link_out_of_the_folder_is_refused(implementation, tool, tmp_path, identities):
    folder = tmp_path / "folder"
    shutil.copytree(SEALED / "valid" / "tiny_external", folder)
    (folder / "tiny" / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "tiny" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    if implementation:
        with pytest.raises(implementation.Malformed):
            implementation.open_model(folder / "model.onnx", identities)
    else:
        out = tmp_path / "out" / "model.onnx"
        out.parent.mkdir()
        tool("unprotect", folder / "model.onnx", "-i", IDENTITY_FILE, "-o", out, code=EXIT_CODES["malformed"])
        assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("implementation", [None, onnxseal_open, onnxseal_second], ids=["tool", "reference", "second"])
def test_a_folder_in_place_of_a_file_is_refused(implementation, tool, tmp_path, identities):
    folder = tmp_path / "folder"
    shutil.copytree(SEALED / "valid" / "tiny_external", folder)
    (folder / "tiny" / "weights.bin").unlink()
    (folder / "tiny" / "weights.bin").mkdir()
    if implementation:
        with pytest.raises(implementation.Malformed):
            implementation.open_model(folder / "model.onnx", identities)
    else:
        out = tmp_path / "out.onnx"
        tool("unprotect", folder / "model.onnx", "-i", IDENTITY_FILE, "-o", out, code=EXIT_CODES["malformed"])
        assert not out.exists()
