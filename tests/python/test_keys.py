"""Keys are age's: what the tool wraps opens with another age implementation, and for nobody else."""

import stat

import onnx
import onnxseal
import onnxseal_open
import pyrage
import pytest
from catalog import EXIT_CODES, MODELS

MODEL = MODELS / "digits_cnn.onnx"


def metadata_of(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def write_identity(identity, path):
    path.write_text(f"{identity}\n")
    return path


def test_keygen_writes_an_identity_for_its_owner_alone(tool, tmp_path):
    done = tool("keygen", "-o", tmp_path / "id.txt")
    identity = onnxseal_open.read_identities(tmp_path / "id.txt")[0]
    assert done.stdout.strip() == str(identity.to_public())
    assert stat.S_IMODE((tmp_path / "id.txt").stat().st_mode) == 0o600


def test_keygen_does_not_write_over_an_identity(tool, tmp_path):
    (tmp_path / "id.txt").write_text("precious")
    assert tool.run("keygen", "-o", tmp_path / "id.txt").returncode != 0
    assert (tmp_path / "id.txt").read_text() == "precious"


def test_the_wrapped_key_opens_with_another_age(tool, tmp_path):
    keys = []
    for name in ("a.onnx", "b.onnx"):
        tool.protect(MODEL, tmp_path / name)
        armored = metadata_of(tmp_path / name)["onnxseal.key.1"]
        keys.append(pyrage.decrypt(armored.encode(), [tool.identity]))
    assert [len(key) for key in keys] == [32, 32]
    assert keys[0] != keys[1], "a data key was used twice"


def test_every_recipient_opens_it_and_nobody_else(tool, stranger, tmp_path):
    friend = pyrage.x25519.Identity.generate()
    protected = tmp_path / "protected.onnx"
    tool.protect(MODEL, protected, "-r", friend.to_public(), "--list-recipients", "--comment", "both")
    for identity in (tool.identity, friend):
        assert onnxseal_open.open_model(protected, [identity]) == {"": MODEL.read_bytes()}
    identity_file = write_identity(friend, tmp_path / "friend.txt")
    tool("unprotect", protected, "-i", identity_file, "-o", tmp_path / "restored.onnx")
    assert (tmp_path / "restored.onnx").read_bytes() == MODEL.read_bytes()

    with pytest.raises(onnxseal_open.NoMatchingKey):
        onnxseal_open.open_model(protected, [stranger])
    identity_file, code = write_identity(stranger, tmp_path / "stranger.txt"), EXIT_CODES["no_matching_key"]
    tool("unprotect", protected, "-i", identity_file, "-o", tmp_path / "stolen.onnx", code=code)
    tool("verify", protected, "-i", identity_file, code=code)
    assert not (tmp_path / "stolen.onnx").exists()


def test_one_of_several_identities_suffices(tool, stranger, tmp_path):
    tool.protect(MODEL, tmp_path / "protected.onnx")
    both = tmp_path / "both.txt"
    both.write_text(f"# two\n{stranger}\n\n{tool.identity}\n")
    tool("unprotect", tmp_path / "protected.onnx", "-i", both, "-o", tmp_path / "restored.onnx")
    assert (tmp_path / "restored.onnx").read_bytes() == MODEL.read_bytes()


def test_positions_do_not_depend_on_the_key(tool, stranger, tmp_path):
    tool.protect(MODEL, tmp_path / "a.onnx")
    tool("protect", MODEL, "-o", tmp_path / "b.onnx", "-r", stranger.to_public())
    a, b = metadata_of(tmp_path / "a.onnx"), metadata_of(tmp_path / "b.onnx")
    assert a["onnxseal.manifest"] == b["onnxseal.manifest"]
    assert a["onnxseal.mac"] != b["onnxseal.mac"]


def test_claims_are_in_the_manifest(tool, tmp_path):
    tool.protect(MODEL, tmp_path / "a.onnx", "--claim", "customer=acme", "--claim", "note=a=b")
    manifest = onnxseal_open.parse_json(metadata_of(tmp_path / "a.onnx")["onnxseal.manifest"].encode())
    assert manifest["claims"] == {"customer": "acme", "note": "a=b"}


def test_post_quantum_keys_wrap_open_and_stand_beside_each_other_alone(tool, tmp_path):
    recipient = tool("keygen", "--pq", "-o", tmp_path / "pq.txt").stdout.strip()
    assert recipient.startswith("age1pq1")
    assert "AGE-SECRET-KEY-PQ-1" in (tmp_path / "pq.txt").read_text()
    colleague = onnxseal.generate_identity(pq=True)
    protected = tmp_path / "protected.onnx"
    tool("protect", MODEL, "-o", protected, "-r", recipient, "-r", colleague.recipient)
    assert metadata_of(protected)["onnxseal.key.1"].startswith("-----BEGIN AGE ENCRYPTED FILE-----")
    assert tool("inspect", protected).stdout.count("mlkem768x25519") == 1
    tool("unprotect", protected, "-i", tmp_path / "pq.txt", "-o", tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == MODEL.read_bytes()
    onnxseal.unprotect(protected, tmp_path / "again.onnx", identity=colleague)
    assert (tmp_path / "again.onnx").read_bytes() == MODEL.read_bytes()
    tool("verify", protected, "-i", tool.identity_file, code=EXIT_CODES["no_matching_key"])

    mixed = tool.run("protect", MODEL, "-o", tmp_path / "mixed.onnx", "-r", recipient, "-r", tool.recipient)
    assert mixed.returncode == EXIT_CODES["usage"]
    assert "give every reader a post-quantum key" in mixed.stderr
    assert not (tmp_path / "mixed.onnx").exists()
