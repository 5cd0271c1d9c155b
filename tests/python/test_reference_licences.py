"""Licences, and dates of models, in the readers in plain Python: fixtures/sealed/licences, and limits that it has not."""

import hashlib
import json
import shutil
import subprocess
import sys

import make_licences
import make_sealed
import onnxseal_open
import onnxseal_second as second
import pytest
from catalog import MODELS, SEALED

EXPECTED = json.loads((SEALED / "expected.json").read_text())
FAULTS = {
    "malformed": second.Malformed,
    "authentication": second.Authentication,
    "no_matching_key": second.NoMatchingKey,
    "lower_tier": second.LowerTier,
    "not_in_force": second.NotInForce,
}
TINY = SEALED / "valid" / "tiny_int4.onnx"
IDENTITY_FILE = SEALED / "keys" / "id.txt"
SIGNED = SEALED / "licences" / "valid" / "signed.licence"


def each(*kinds, by_licence=None):
    entries = [entry for kind in kinds for entry in EXPECTED[kind]]
    if by_licence is not None:
        entries = [entry for entry in entries if ("licence" in entry) == by_licence]
    name = lambda entry: "-".join(entry[n] for n in ("licence", "file", "tier", "now") if n in entry)
    return pytest.mark.parametrize("entry", entries, ids=name)


def opened(entry):
    licence = SEALED / entry["licence"] if "licence" in entry else None
    signers = None
    if "allowed_signers" in entry:
        signers = second.read_signers((SEALED / "keys" / entry["allowed_signers"]).read_bytes())
    identities, now = second.load_identities(SEALED / "keys" / entry["identity"]), seconds(entry["now"])
    return second.open_model(SEALED / entry["file"], identities, entry.get("tier"), licence, signers, now)


def seconds(moment):
    return second.span_of(moment)[0]


def digests(files):
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


@each("licences_valid")
def test_the_second_reader_opens(entry):
    assert digests(opened(entry)) == entry["files"]


@each("licences_invalid")
def test_the_second_reader_refuses(entry):
    classes = [entry["class"]] if isinstance(entry["class"], str) else entry["class"]
    with pytest.raises(tuple(FAULTS[name] for name in classes)):
        opened(entry)


@each("licences_valid", "licences_invalid", by_licence=False)
def test_the_second_implementation_keeps_dates_of_models(entry):
    identities = onnxseal_open.read_identities(SEALED / "keys" / entry["identity"])
    arguments = SEALED / entry["file"], identities, entry.get("tier"), seconds(entry["now"])
    if "files" in entry:
        assert digests(onnxseal_open.open_model(*arguments)) == entry["files"]
    else:
        faults = {"not_in_force": onnxseal_open.NotInForce, "authentication": onnxseal_open.AuthenticationFailed}
        with pytest.raises(faults[entry["class"]]):
            onnxseal_open.open_model(*arguments)


def test_every_licence_has_a_reader():
    for folder, kind in {"valid": "licences_valid", "invalid": "licences_invalid"}.items():
        made = {path.relative_to(SEALED).as_posix() for path in (SEALED / "licences" / folder).iterdir()}
        assert made <= {entry.get("licence") for entry in EXPECTED[kind]}
    opening = {entry.get("licence") for entry in EXPECTED["licences_valid"]}
    assert not [licence for licence in opening if licence and licence.startswith("licences/invalid")]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
@pytest.mark.parametrize("licence", ["signed", "signed_with_sha256", "signed_for_others", "signed_until_a_day"])
def test_ssh_keygen_accepts_the_signatures(licence, tmp_path):
    text = (SIGNED.parent / f"{licence}.licence").read_bytes()
    message, begin, signature = text.partition(b"-----BEGIN SSH")
    (tmp_path / "signature").write_bytes(begin + signature)
    arguments = ["-f", SEALED / "keys" / "allowed_signers", "-I", "release@example.com", "-s", tmp_path / "signature"]
    command = ["ssh-keygen", "-Y", "verify", "-n", "onnxseal", *arguments]
    assert subprocess.run(command, input=message, capture_output=True).returncode == 0
    assert subprocess.run(command, input=message[:-1], capture_output=True).returncode != 0


# --- limits ---------------------------------------------------------------------------------------


def of_models(count, **more):
    """A licence for so many models, of which the last is tiny_int4.onnx."""
    _, mac = next(entry for entry in make_licences.entries_of(TINY.read_bytes()) if entry[0] == onnxseal_open.MAC)
    digest = hashlib.sha256(onnxseal_open.decode_base64(mac, "mac")).hexdigest()
    lines = [f"model {i:064x} - {i}\n" for i in range(count - 1)]
    payload = bytes(32 * (count - 1)) + make_sealed.DEK
    return make_licences.written([*lines, f"model {digest} - x\n"], payload, **more)


def of_size(size):
    missing = size - len(of_models(1, claims='{"a":""}'))
    return of_models(1, claims='{"a":"%s"}' % (missing * "x"))


def of_claims(count):
    return of_models(1, claims=json.dumps({str(i): "" for i in range(count)}, separators=(",", ":")))


def of_stanza(size):
    """A licence whose age file has a stanza of so many bytes, and is about twice as long."""
    return of_models(1, armored=make_sealed.age_file(make_sealed.DEK, after=make_sealed.stanza(b"x", bytes(size))))


@pytest.mark.parametrize(
    "made, size, is_legal",
    [
        (of_models, 1024, True),
        (of_models, 1025, False),
        (of_size, 2**20, True),
        (of_size, 2**20 + 1, False),
        (of_claims, 65536, True),
        (of_claims, 65537, False),
        (of_stanza, 71000, True),
        (of_stanza, 72000, False),
    ],
)
def test_limits(made, size, is_legal):
    licence = made(size)
    if is_legal:
        second.Licence(licence)
    else:
        with pytest.raises(second.Malformed):
            second.Licence(licence)


def test_the_last_of_as_many_models_as_can_be(tmp_path):
    (tmp_path / "x.licence").write_bytes(of_models(1024))
    arguments = TINY, second.load_identities(IDENTITY_FILE), None, tmp_path / "x.licence"
    assert second.open_model(*arguments) == {"": make_sealed.tiny()}


# --- as a program ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, code",
    [
        ([], 0),
        (["--allowed-signers", SEALED / "keys" / "allowed_signers"], 0),
        (["--now", "2026-06-30T23:59:59Z"], 0),
        (["--now", "2026-07-01T00:00:00Z"], second.NotInForce.code),
        (["--now", "2026-06-30"], 2),
        (["--now", "soon"], 2),
        (["--licence", SEALED / "licences" / "valid" / "unsigned.licence"], second.Authentication.code),
        (["--licence", SEALED / "licences" / "valid" / "signed_for_others.licence"], second.NoMatchingKey.code),
        (["--licence", SEALED / "no_such.licence"], second.Io.code),
    ],
    ids=str,
)
def test_the_second_reader_as_a_program(options, code, tmp_path):
    model, until = SEALED / "licences" / "models" / "signed.onnx", SIGNED.with_name("signed_until_a_day.licence")
    demand = ["--allowed-signers", SEALED / "keys" / "allowed_signers", "--now", "2026-06-01T00:00:00Z"]
    command = [sys.executable, second.__file__, model, "-i", IDENTITY_FILE, "--licence", until, *demand, *options]
    done = subprocess.run([*command, "-o", tmp_path / "out.onnx"], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr and not (tmp_path / "out.onnx").exists()
    else:
        assert (tmp_path / "out.onnx").read_bytes() == (MODELS / "tiny_int4.onnx").read_bytes()
