"""A second reader, which was written from docs/FORMAT.md alone: fixtures/sealed, and what the tool protects."""

import base64
import hashlib
import json

import make_sealed
import onnxseal_seal
import onnxseal_second as second
import pytest
from catalog import EXIT_CODES, MODELS, SEALED, files_below, files_of

EXPECTED = json.loads((SEALED / "expected.json").read_text())
FAULTS = {
    "malformed": second.Malformed,
    "authentication": second.Authentication,
    "no_matching_key": second.NoMatchingKey,
    "io": second.Io,
    "lower_tier": second.LowerTier,
}


def each(*kinds):
    entries = [entry for kind in kinds for entry in EXPECTED[kind]]
    name = lambda entry: "-".join(entry[n] for n in ("file", "identity", "tier") if n in entry)
    return pytest.mark.parametrize("entry", entries, ids=name)


def opened(entry, identity="id.txt", tier=None):
    return second.open_model(SEALED / entry["file"], second.load_identities(SEALED / "keys" / identity), tier)


def digests(files):
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


@each("valid")
def test_opens(entry):
    assert opened(entry) == files_of(SEALED / entry["original"])


@each("tiers_valid")
def test_opens_each_edition_by_each_key(entry):
    message = second.signed_message(SEALED / entry["file"])
    assert hashlib.sha256(message).hexdigest() == entry["signed_message"]
    for held, holder in enumerate(entry["tiers"]):
        for tier in entry["tiers"][: held + 1] if holder["identity"] else ():
            assert digests(opened(entry, holder["identity"], tier["name"])) == tier["files"], (holder, tier["name"])
    if holder["identity"]:
        assert digests(opened(entry, holder["identity"])) == tier["files"]


@each("invalid", "tiers_invalid")
def test_refuses(entry):
    classes = [entry["class"]] if isinstance(entry["class"], str) else entry["class"]
    with pytest.raises(tuple(FAULTS[name] for name in classes)):
        opened(entry, entry.get("identity", "id.txt"), entry.get("tier"))


@each("tiers_unnoticed")
def test_opens_what_a_lower_tier_cannot_notice(entry):
    assert opened(entry, entry["identity"], entry["tier"])


@each("unwritten")
def test_opens_but_does_not_write(entry, tmp_path):
    files = opened(entry)
    assert digests(files) == entry["files"]
    with pytest.raises(second.Refused):
        second.write_files(files, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


# --- limits ---------------------------------------------------------------------------------------


def test_rules_that_no_fixture_can_break_alone():
    def check(*tensors, length=2**40, **original):
        manifest = onnxseal_seal.manifest_of({}, tensors)
        manifest["files"] = [{"path": "", "bytes": 1000}, {"path": "w", "bytes": length}]
        second.Manifest(onnxseal_seal.encode_json(manifest | original))

    def tensor(at, dims, runs, **more):
        return onnxseal_seal.tensor_of("w", at, "FLOAT", dims, 0, 8, runs, file=1, **more)

    most, pieces = 2**53 - 1001, 2**24
    original = {"bytes": 1000, "paths": ["w"], "texts": ["AA=="], "edits": [0, 1, 0]}
    check(length=most)
    check(length=most - 1000, original=original)
    check(tensor("a", [pieces], [0, pieces // 8], stride=5))
    for tensors, more in [
        ([], {"length": most + 1}),
        ([], {"length": most - 999, "original": original}),
        ([tensor("a", [pieces], [0, pieces // 8], stride=5), tensor("b", [8], [0, 1])], {}),
    ]:
        with pytest.raises(second.Malformed):
            check(*tensors, **more)


def with_texts(lengths, edits):
    """A manifest's `original` whose edits, one byte after each other, put a text of such a length in place of one byte."""
    texts = [base64.b64encode(bytes(length)).decode() for length in lengths]
    grown = sum(lengths[text] - 1 for text in edits)
    numbers = [number for text in edits for number in (1, 1, text)]
    return lambda manifest: manifest.update(
        original={"bytes": manifest["files"][0]["bytes"] + grown, "paths": [], "texts": texts, "edits": numbers}
    )


@pytest.mark.parametrize(
    "edit, refusal",
    [
        (with_texts([1] * 2**18, range(2**18)), None),
        (with_texts([1] * (2**18 + 1), range(2**18 + 1)), "malformed"),
        (with_texts([8192, 2], [0] * 8193 + [1]), None),
        (with_texts([8192, 3], [0] * 8193 + [1]), "malformed"),
    ],
    ids=["as_many_texts_as_can_be", "too_many_texts", "as_long_an_original_as_can_be", "too_long_an_original"],
)
def test_limits_of_the_original(edit, refusal, tool, tmp_path):
    model, identity, out = tmp_path / "model.onnx", SEALED / "keys" / "id.txt", tmp_path / "out.onnx"
    # A producer's name, and enough of it to edit.
    head = b"\x12" + make_sealed.reader.encode_varint(2**20) + bytes(range(128)) * 2**13
    model.write_bytes(make_sealed.complete(*make_sealed.seal({"": head}, [], edit, lock=False), lock=False)[""])
    tool("unprotect", model, "-i", identity, "-o", out, code=EXIT_CODES[refusal] if refusal else 0)
    if refusal:
        with pytest.raises(FAULTS[refusal]):
            second.open_model(model, second.load_identities(identity))
    else:
        assert second.open_model(model, second.load_identities(identity)) == {"": out.read_bytes()}


# --- what the tool protects -----------------------------------------------------------------------


RENAMED = ["--external-data", "data/renamed.bin"]


@pytest.mark.parametrize(
    "name, options",
    [
        ("digits_cnn", []),
        ("digits_cnn", ["--runnable"]),
        ("digits_sklearn_forest", []),
        ("tiny_int4", []),
        ("digits_cnn_dynamo", []),
        ("digits_cnn_dynamo", RENAMED),
        ("tiny_external", RENAMED),
        ("tiny_external", [*RENAMED, "--runnable"]),
    ],
    ids=str,
)
def test_opens_what_the_tool_protects(name, options, tool, tmp_path):
    original, protected = MODELS / f"{name}.onnx", tmp_path / "in" / "protected.onnx"
    tool.protect(original, protected, *options)
    assert ("data/renamed.bin" in files_below(protected.parent)) == (RENAMED[0] in options)
    files = second.open_model(protected, second.load_identities(tool.identity_file))
    assert files == files_of(original)
    second.write_files(files, tmp_path / "out" / "model.onnx")
    assert files_of(tmp_path / "out" / "model.onnx") == files


def test_opens_editions_that_the_tool_protects(tiers, tool):
    trial, full = (second.load_identities(path) for path in (tiers.trial, tool.identity_file))
    lower = {"": tiers.unprotected.read_bytes()}
    assert second.open_model(tiers.protected, full) == files_of(tiers.original) != lower
    assert second.open_model(tiers.protected, trial, "trial") == second.open_model(tiers.protected, full, "trial") == lower
    with pytest.raises(second.LowerTier):
        second.open_model(tiers.protected, trial)
