"""Models with tiers in the second implementation: what each tier sees of fixtures/sealed/tiers, and what is refused."""

import hashlib
import json
import subprocess
import sys

import onnx
import onnxseal_open
import onnxseal_seal
import onnxseal_tiers
import pytest
from catalog import ROOT, SEALED, files_below

EXPECTED = json.loads((SEALED / "expected.json").read_text())
VECTORS = ROOT / "fixtures" / "vectors"
TIERS = json.loads((VECTORS / "tiers.json").read_text())
SCRIPT = ROOT / "fixtures" / "reference" / "onnxseal_open.py"
FAULTS = {
    "malformed": onnxseal_open.Malformed,
    "authentication": onnxseal_open.AuthenticationFailed,
    "no_matching_key": onnxseal_open.NoMatchingKey,
    "io": OSError,
    "lower_tier": onnxseal_open.LowerTier,
}


def named(entry):
    return "-".join([entry["file"].removeprefix("tiers/"), *(entry[n] for n in ("identity", "tier") if n in entry)])


valid = pytest.mark.parametrize("entry", EXPECTED["tiers_valid"], ids=named)
invalid = pytest.mark.parametrize("entry", EXPECTED["tiers_invalid"], ids=named)
unnoticed = pytest.mark.parametrize("entry", EXPECTED["tiers_unnoticed"], ids=named)


def identities(name):
    return onnxseal_open.read_identities(SEALED / "keys" / name)


def opened(entry, identity, tier):
    return onnxseal_open.open_model(SEALED / entry["file"], identities(identity), tier)


def digests(files):
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


# --- artifacts ------------------------------------------------------------------------------------


@valid
def test_every_key_opens_its_tier_and_lower_ones(entry):
    for held, holder in enumerate(entry["tiers"]):
        if not holder["identity"]:
            continue
        for tier in entry["tiers"][: held + 1]:
            assert digests(opened(entry, holder["identity"], tier["name"])) == tier["files"], (holder, tier["name"])


@valid
def test_no_key_opens_a_higher_tier(entry):
    highest = {tier["identity"]: held for held, tier in enumerate(entry["tiers"]) if tier["identity"]}
    for identity, held in highest.items():
        for tier in entry["tiers"][held + 1 :]:
            with pytest.raises(onnxseal_open.LowerTier):
                opened(entry, identity, tier["name"])


@valid
def test_without_a_name_there_is_the_original_or_nothing(entry):
    """The original is a model of which the checker of ONNX finds no fault."""
    names = {tier["identity"] for tier in entry["tiers"] if tier["identity"]}
    for identity in names - {entry["tiers"][-1]["identity"]}:
        with pytest.raises(onnxseal_open.LowerTier):
            opened(entry, identity, None)
    if entry["tiers"][-1]["identity"]:
        files = opened(entry, entry["tiers"][-1]["identity"], None)
        assert digests(files) == entry["tiers"][-1]["files"]
        if len(files) == 1:
            # Shape inference knows no elements of 6 bits.
            onnx.checker.check_model(files[""], full_check="small_elements" not in entry["file"])


@valid
def test_lower_tiers_see_something_else(entry):
    """Unless a tier has no targets."""
    seen = [json.dumps(tier["files"]) for tier in entry["tiers"]]
    if "nothing_above" in entry["file"] or "nothing_encrypted" in entry["file"]:
        assert len(set(seen)) == 1
    else:
        assert len(set(seen)) == len(seen)


@valid
def test_the_signed_message(entry):
    message = onnxseal_open.signed_message(SEALED / entry["file"])
    assert hashlib.sha256(message).hexdigest() == entry["signed_message"]
    mac = next(line for line in message.split(b"\n") if line.startswith(b"mac "))
    assert len(mac) == 4 + 64 * len(entry["tiers"])


@invalid
def test_refused(entry):
    classes = [entry["class"]] if isinstance(entry["class"], str) else entry["class"]
    with pytest.raises(tuple(FAULTS[name] for name in classes)):
        opened(entry, entry["identity"], entry.get("tier"))


@unnoticed
def test_what_a_lower_tier_cannot_notice(entry):
    assert opened(entry, entry["identity"], entry["tier"])
    refused = {other["file"] for other in EXPECTED["tiers_invalid"]}
    assert entry["file"] in refused, "nobody refuses it"


def test_every_artifact_is_listed():
    listed = {entry["file"] for kind in ("tiers_valid", "tiers_invalid") for entry in EXPECTED[kind]}
    found = {f"tiers/{path}" for path in files_below(SEALED / "tiers") if path.endswith(".onnx")}
    assert found == {file for file in listed if file.startswith("tiers/")}
    assert len(EXPECTED["tiers_valid"]) > 20 and len(EXPECTED["tiers_invalid"]) > 200


# --- rules that no artifact can break alone -------------------------------------------------------


def manifest_with(*tensors, names=("a", "b", "c")):
    files = [{"path": "", "bytes": 10000}, {"path": "w", "bytes": 2**40}]
    return onnxseal_seal.manifest_of({}, tensors, names=names) | {"files": files}


def tensor_of(at="a", data_type="FLOAT", dims=(8, 8), offset=0, unit=8, targets=((), (), (0, 1)), **more):
    return onnxseal_seal.tensor_of("w", at, data_type, dims, offset, unit, *targets, **{"mode": "shuffle", **more})


def test_tensors_may_lie_between_each_other():
    even, odd = (tensor_of(at, offset=offset, stride=8) for at, offset in [("a", 0), ("b", 4)])
    onnxseal_open.check_manifest(manifest_with(even, odd))
    onnxseal_open.check_manifest(manifest_with(tensor_of(), tensor_of("b", offset=32), tensor_of("c", file=1)))
    with pytest.raises(onnxseal_open.Malformed):
        onnxseal_open.check_manifest(manifest_with(tensor_of(), tensor_of("b", offset=31)))
    with pytest.raises(onnxseal_open.Malformed):
        onnxseal_open.check_manifest(manifest_with(even, tensor_of("b", offset=3, stride=8)))


def test_elements_of_six_bits():
    six = tensor_of("a", "FLOAT6E2M3", [100], offset=7, unit=4, targets=[[], [1, 3], [4, 21]])
    manifest = onnxseal_open.check_manifest(manifest_with(six))
    (_, elements), = onnxseal_open.tier_elements(manifest, 0, 2)
    assert (elements.size, elements.starts) == (1, list(range(10, 19)))
    assert onnxseal_open.fill_of(six) == b"\0"


def test_every_run_of_every_tier_is_a_piece():
    """Runs of different tiers may touch."""
    tensor = tensor_of(targets=[[3, 1], [1, 2, 4, 1], [4, 1]])
    onnxseal_open.check_manifest(manifest_with(tensor))
    assert list(onnxseal_open.subsequence_runs(tensor)) == [(3, 4), (1, 3), (7, 8), (4, 5)]
    assert list(onnxseal_open.subsequence_runs(tensor, 2)) == [(1, 3), (7, 8)]
    assert onnxseal_open.n_pieces(tensor) == 4
    assert onnxseal_open.n_pieces({**tensor, "stride": 6}) == 5 * 8


def test_as_many_tiers_as_can_be():
    for n_tiers in range(18):
        manifest = manifest_with(names=[str(tier) for tier in range(n_tiers)])
        if n_tiers == 0 or 2 <= n_tiers <= 16:
            onnxseal_open.check_manifest(manifest)
        else:
            with pytest.raises(onnxseal_open.Malformed):
                onnxseal_open.check_manifest(manifest)


# --- the program ----------------------------------------------------------------------------------


def run(model, out, identity, *options):
    command = [sys.executable, SCRIPT, SEALED / model, "-i", SEALED / "keys" / identity, "-o", out, *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "model, identity, options, code",
    [
        ("tiers/valid/bytes.onnx", "id.txt", [], 0),
        ("tiers/valid/bytes.onnx", "id.txt", ["--tier", "basic"], 0),
        ("tiers/valid/renamed/model.onnx", "tier1.txt", ["--tier", "basic"], 0),
        ("tiers/valid/bytes.onnx", "tier1.txt", [], 5),
        ("tiers/valid/bytes.onnx", "tier1.txt", ["--tier", "full"], 5),
        ("tiers/valid/bytes.onnx", "id.txt", ["--tier", "any"], 6),
        ("valid/tiny_int4.onnx", "id.txt", ["--tier", "basic"], 6),
        ("tiers/valid/bytes.onnx", "other.txt", ["--tier", "basic"], 5),
        ("tiers/invalid/clear_changed.onnx", "tier1.txt", ["--tier", "basic"], 4),
    ],
)
def test_exit_codes(model, identity, options, code, tmp_path):
    done = run(model, tmp_path, identity, *options)
    assert done.returncode == code, done.stderr
    assert bool(files_below(tmp_path)) == (code == 0)


# --- vectors --------------------------------------------------------------------------------------

MANIFEST = bytes.fromhex(TIERS["derived"]["manifest"])
DERIVED = [
    onnxseal_tiers.TierKeys(bytes.fromhex(tier["key"]), tier["tier"], MANIFEST) for tier in TIERS["derived"]["tiers"]
]


def plain(length, seed):
    return bytes((31 * i + (i >> 8) + seed) & 0xFF for i in range(length))


def test_the_script_makes_the_vectors(tmp_path):
    script = tmp_path / "make_tiers.py"
    script.write_text((VECTORS / "make_tiers.py").read_text())
    subprocess.run([sys.executable, script], check=True)
    assert (tmp_path / "tiers.json").read_bytes() == (VECTORS / "tiers.json").read_bytes()


def test_chains():
    assert {chain["tiers"] for chain in TIERS["chains"]} == {2, 3, 16}
    for chain in TIERS["chains"]:
        keys = onnxseal_seal.chain(bytes.fromhex(chain["highest"]), chain["tiers"])
        assert [key.hex() for key in keys.values()] == chain["keys"]
        assert chain["keys"][-1] == chain["highest"]


def test_derived_keys():
    for vector, keys in zip(TIERS["derived"]["tiers"], DERIVED, strict=True):
        made = {name: key.hex() for name, key in vars(keys).items()}
        made["blobs_key"] = onnxseal_tiers.derive(bytes.fromhex(vector["key"]), None, b"onnxseal/v1/blobs").hex()
        assert made | {"tier": vector["tier"], "key": vector["key"]} == vector


def test_streams():
    for vector in TIERS["streams"]:
        start, end = vector["start"], vector["start"] + vector["len"]
        key = bytes.fromhex(vector["stream_key"])
        made = onnxseal_tiers.stream(key, vector["file"], vector["chunk"], end)[start:]
        assert made.hex() == vector["stream"]


@pytest.mark.parametrize("kind", ["bytes", "masks"])
def test_bytes_and_masks(kind):
    """Each in a file of chunks that are as long as the vector needs: an element may have begun in the chunk before."""
    for vector in TIERS[kind]:
        data, size = bytes.fromhex(vector["plain"]), len(vector.get("mask", "ff")) // 2
        assert data == plain(len(data), vector["seed"])
        chunk_len = vector["start"] + len(data)
        at = vector["chunk"] * chunk_len + vector["start"]
        content = bytearray(at + len(data) + size)
        content[at : at + len(data)] = data
        first = at - vector.get("place", 0)
        elements = onnxseal_tiers.Elements(
            0, vector["file"], "mask" if kind == "masks" else "bytes", vector.get("data_type"), size,
            list(range(first, at + len(data), size)),
        )  # fmt: skip
        keys = DERIVED[2 if kind == "masks" else 1]
        assert keys.stream_key.hex() == vector["stream_key"]
        onnxseal_tiers.encrypt(content, elements, keys, chunk_len)
        assert content[at : at + len(data)].hex() == vector["sealed"]
        onnxseal_tiers.decrypt(content, elements, keys, chunk_len)
        assert content[at : at + len(data)] == data
        if "mask" in vector:
            assert onnxseal_tiers.MASKS[vector["data_type"]].hex() == vector["mask"]


def test_shuffles():
    assert {64, 65, 1000} <= {vector["elements"] for vector in TIERS["shuffles"] if vector["dropped"]}
    for vector in TIERS["shuffles"]:
        count, key = vector["elements"], bytes.fromhex(vector["shuffle_key"])
        drawn = onnxseal_tiers.draws(key, vector["tensor"], vector["chunk"], count)
        order = list(range(count))
        onnxseal_tiers.shuffle(order, drawn)
        draws = [r for _, r in drawn]
        if "order" in vector:
            assert (draws, order) == (vector["draws"], vector["order"])
        else:
            u32s = lambda numbers: hashlib.sha256(b"".join(n.to_bytes(4, "little") for n in numbers)).hexdigest()
            assert (u32s(draws), u32s(order)) == (vector["draws_sha256"], vector["order_sha256"])
        for size, sealed in vector.get("sealed", {}).items():
            size, data = int(size), plain(count * int(size), 0)
            values = [data[k * size : (k + 1) * size] for k in range(count)]
            onnxseal_tiers.shuffle(values, drawn)
            assert hashlib.sha256(b"".join(values)).hexdigest() == sealed
        onnxseal_tiers.unshuffle(order, drawn)
        assert order == sorted(order)


def test_tags_and_macs():
    for vector in TIERS["tags"]:
        keys, nonce = DERIVED[vector["tier"] - 1], onnxseal_open.nonce(vector["file"], vector["chunk"])
        assert keys.auth_key.hex() == vector["auth_key"]
        assert keys.tag(nonce, plain(vector["len"], vector["seed"])).hex() == vector["tag"]
    macs = TIERS["macs"]
    tags, above = bytes.fromhex(macs["tags"]), b""
    for keys, mac in reversed(list(zip(DERIVED, macs["macs"], strict=True))):
        assert keys.mac(MANIFEST, tags, above).hex() == mac
        above = bytes.fromhex(mac) + above


def test_chunks():
    for vector in TIERS["chunks"]:
        data, file, chunk = bytes.fromhex(vector["plain"]), vector["file"], vector["chunk"]
        assert data == plain(len(data), vector["seed"])
        start, end = chunk * len(data), (chunk + 1) * len(data)
        content = bytearray(start) + data + bytes(16)
        targets = []
        for piece in vector["pieces"]:
            starts, size = [start + at for at in piece["elements"]], piece["element_bytes"]
            if piece["tier"] == 1:
                targets += [(at, at + size) for at in starts]
                continue
            elements = onnxseal_tiers.Elements(piece["tensor"], file, piece["mode"], piece["data_type"], size, starts)
            onnxseal_tiers.encrypt(content, elements, DERIVED[piece["tier"] - 1], len(data))
        assert content[start:end].hex() == vector["after_step_1"]
        targets, others = onnxseal_open.cut(targets, start, end)
        nonce = onnxseal_open.nonce(file, chunk)
        both = onnxseal_open.AESGCM(DERIVED[0].chunk_key).encrypt(
            nonce, onnxseal_open.gather(content, targets), onnxseal_open.gather(content, others)
        )
        onnxseal_open.scatter(content, targets, both[:-16])
        stored = bytes(content[start:end])
        assert stored.hex() == vector["stored"]
        assert [tag.hex() for tag in (both[-16:], *(keys.tag(nonce, stored) for keys in DERIVED[1:]))] == vector["tags"]
