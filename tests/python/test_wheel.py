"""The Python package: protecting models, and the rest of what the command line does, from Python."""

import ast
import inspect
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import onnx
import onnxseal
import pytest
from catalog import MODELS, files_below, files_of
from onnxseal import _onnxseal
from wheel import layers

MODEL = MODELS / "digits_cnn.onnx"
EXTERNAL = MODELS / "digits_cnn_dynamo.onnx"


@pytest.fixture
def identity():
    return onnxseal.generate_identity()


@pytest.fixture
def sealed(tmp_path, identity):
    path = tmp_path / "in" / "sealed.onnx"
    onnxseal.protect(MODEL, path, recipients=identity)
    return path


def restored(sealed, identity, tmp_path):
    out = tmp_path / "restored" / "model.onnx"
    onnxseal.unprotect(sealed, out, identity=identity, replace=True)
    return out.read_bytes()


def test_the_installed_package_is_the_tool_s_version(tool):
    assert metadata.version("onnxseal") == onnxseal.__version__ == tool("--version").stdout.split()[1]


def test_both_write_what_the_other_opens_and_report_the_same(tool, tmp_path):
    def told(done):
        return json.loads(done.stdout)

    ours, theirs = tmp_path / "ours.onnx", tmp_path / "theirs.onnx"
    asked = dict(preset="balanced", coefficients={"Gemm": 0.5})
    options = ["--preset", "balanced", "--coefficient", "Gemm=0.5"]
    # The same as a file. The preset alone asks for other weights: types share one budget, and here Gemm takes most of it.
    policy = tmp_path / "policy.toml"
    policy.write_text('preset = "balanced"\n[op.Gemm]\ncoefficient = 0.5\n')
    assert onnxseal.plan(MODEL, **asked) == told(tool("plan", MODEL, "--json", *options))

    claims = {"customer": "acme", "not-after": "2999-01-01"}
    report = onnxseal.protect(MODEL, ours, recipients=tool.recipient, claims=claims, **asked)
    given = [part for claim in claims.items() for part in ("--claim", "=".join(claim))]
    # Not quiet: the report is wanted.
    command = ["protect", MODEL, "-o", theirs, "-r", tool.recipient, "--json", *options, *given]
    assert report == told(tool(*command))
    assert report["claims"] == claims

    for path in (ours, theirs):
        assert onnxseal.inspect(path) == told(tool("inspect", path, "--json"))
        verified = onnxseal.verify(path, identity=tool.identity_file, policy=policy)
        assert verified == told(tool("verify", path, "-i", tool.identity_file, "--policy", policy, "--json"))
        assert verified["authenticated"] and verified["policy_met"]
        assert restored(path, tool.identity_file, tmp_path) == MODEL.read_bytes()
    tool.unprotect(ours, tmp_path / "back.onnx")
    assert (tmp_path / "back.onnx").read_bytes() == MODEL.read_bytes()


def test_external_files_go_along(tmp_path, identity):
    sealed, back = tmp_path / "sealed" / EXTERNAL.name, tmp_path / "back" / EXTERNAL.name
    report = onnxseal.protect(str(EXTERNAL), str(sealed), recipients=[identity.recipient])
    assert len(report["files"]) == 2
    onnxseal.unprotect(sealed.as_uri(), back, identity=identity)
    assert files_of(back) == files_of(EXTERNAL)


def test_in_place_rekey_and_rotate(tmp_path, sealed, identity):
    other = onnxseal.generate_identity()
    assert onnxseal.rekey(sealed, identity=identity, recipients=[other]) == {"still_opens": False}
    with pytest.raises(onnxseal.NoMatchingKeyError):
        onnxseal.verify(sealed, identity=identity)
    assert onnxseal.rekey(sealed, tmp_path / "k.onnx", identity=other, recipients=[other, identity])["still_opens"]
    report = onnxseal.rotate(sealed, identity=other, recipients=identity, preset="full", claims={"a": "b"})
    assert report["weights"]["share"] == 1 and report["claims"] == {"a": "b"}
    assert restored(sealed, identity, tmp_path) == MODEL.read_bytes()
    assert restored(tmp_path / "k.onnx", identity, tmp_path) == MODEL.read_bytes()
    model = tmp_path / "here.onnx"
    model.write_bytes(MODEL.read_bytes())
    onnxseal.protect(model, in_place=True, recipients=identity)
    assert restored(model, identity, tmp_path) == MODEL.read_bytes()


def test_external_files_get_another_name_when_a_model_is_rotated_in_place(tmp_path, identity):
    sealed, back = tmp_path / "sealed" / EXTERNAL.name, tmp_path / "back" / EXTERNAL.name
    onnxseal.protect(EXTERNAL, sealed, recipients=identity)
    other = onnxseal.generate_identity()
    rotating = dict(identity=identity, recipients=other)
    with pytest.raises(onnxseal.UsageError, match="cannot be replaced together"):
        onnxseal.rotate(sealed, **rotating)
    report = onnxseal.rotate(sealed, external_data="next.data", **rotating)
    assert [file["path"] for file in report["files"]] == ["", "next.data"]
    assert [file["path"] for file in report["left_files"]] == [f"{EXTERNAL.name}.data"]
    (sealed.parent / f"{EXTERNAL.name}.data").unlink()
    with pytest.raises(onnxseal.NoMatchingKeyError):
        onnxseal.verify(sealed, identity=identity)
    onnxseal.unprotect(sealed, back, identity=other)
    assert files_of(back) == files_of(EXTERNAL)


def test_models_in_memory(tmp_path, identity):
    proto = layers()
    data = proto.SerializeToString()
    program = SimpleNamespace(model_proto=proto)
    with open(MODEL, "rb") as file:
        for number, (model, expected) in enumerate(
            [(proto, data), (program, data), (data, data), (bytearray(data), data), (file, MODEL.read_bytes())]
        ):
            out = tmp_path / f"{number}.onnx"
            report = onnxseal.protect(model, out, recipients=identity)
            assert report["weights"]["encrypted_bytes"] > 0
            assert restored(out, identity, tmp_path) == expected
    assert onnxseal.plan(proto)["weights"] == onnxseal.plan(data)["weights"]
    # Weights that are not there cannot be protected.
    absent = onnx.load(EXTERNAL, load_external_data=False)
    with pytest.raises(onnxseal.IoError, match="digits_cnn_dynamo.onnx.data"):
        onnxseal.protect(absent, tmp_path / "none.onnx", recipients=identity)
    assert not (tmp_path / "none.onnx").exists()


def test_a_model_too_large_for_protobuf_is_told_what_to_do(tmp_path, identity):
    class Large:
        def SerializeToString(self):
            raise ValueError("exceeds maximum protobuf size of 2GB")

    with pytest.raises(onnxseal.UsageError, match="save it to a file, with external data"):
        onnxseal.protect(Large(), tmp_path / "out.onnx", recipients=identity)
    with pytest.raises(TypeError, match="not object"):
        onnxseal.protect(object(), tmp_path / "out.onnx", recipients=identity)


def test_identities_in_every_form(tmp_path, sealed, identity, monkeypatch):
    file, encrypted = tmp_path / "id.txt", tmp_path / "id.age"
    passphrase = onnxseal.Passphrase("correct horse")
    identity.save(file)
    identity.save(encrypted, passphrase)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert identity.recipient in file.read_text() and "AGE-SECRET-KEY-" not in encrypted.read_text()
    stranger = onnxseal.generate_identity()
    for given in [
        identity, file, str(file), [stranger, file], (stranger, identity), identity.text(), identity.text().encode(),
        [encrypted, passphrase], [identity.text(passphrase), passphrase],
    ]:  # fmt: skip
        assert restored(sealed, given, tmp_path) == MODEL.read_bytes()
    monkeypatch.setenv("ONNXSEAL_IDENTITY", str(file))
    assert onnxseal.verify(sealed)["authenticated"]
    read, write = os.pipe()
    os.write(write, identity.text().encode())
    os.close(write)
    monkeypatch.setenv("ONNXSEAL_IDENTITY", f"fd:{read}")
    assert onnxseal.verify(sealed)["authenticated"]
    os.close(read)
    monkeypatch.delenv("ONNXSEAL_IDENTITY")
    assert not onnxseal.verify(sealed)["authenticated"]
    with pytest.raises(onnxseal.UsageError, match="ONNXSEAL_IDENTITY"):
        onnxseal.unprotect(sealed, tmp_path / "x.onnx")
    with pytest.raises(onnxseal.UsageError, match="needs a passphrase"):
        onnxseal.verify(sealed, identity=encrypted)
    with pytest.raises(onnxseal.NoMatchingKeyError, match="wrong passphrase"):
        onnxseal.verify(sealed, identity=[encrypted, onnxseal.Passphrase("wrong")])
    with pytest.raises(onnxseal.UsageError, match="never overwritten"):
        identity.save(file)


def test_secrets_are_not_shown(sealed, identity):
    text = identity.text()
    secret = next(line for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-"))
    assert secret[:-4] not in repr(identity) and "horse" not in repr(onnxseal.Passphrase("horse"))
    # Cut off, it is no identity, and must not be taken for a path either.
    for broken in [secret[:-4], secret.lower()[:-4], "\n" + secret[:-4]]:
        with pytest.raises(onnxseal.UsageError) as caught:
            onnxseal.verify(sealed, identity=broken)
        assert secret[20:-4].lower() not in str(caught.value).lower()


def test_recipients_in_every_form(tmp_path, identity):
    team = tmp_path / "team.txt"
    team.write_text(f"# us\n{identity.recipient}\n")
    passphrase = onnxseal.Passphrase("correct horse")
    out = tmp_path / "out.onnx"
    stranger = onnxseal.generate_identity()
    for given, opens in [
        (identity.recipient, identity), (identity, identity), ([stranger, identity.recipient], identity),
        (team, identity), ([team, stranger.recipient], stranger), (passphrase, passphrase),
    ]:  # fmt: skip
        onnxseal.protect(MODEL, out, recipients=given, replace=True)
        assert restored(out, opens, tmp_path) == MODEL.read_bytes()
    for wrong, raised in [
        ([], onnxseal.UsageError), ("age1wrong", onnxseal.UsageError), (identity.text(), onnxseal.UsageError),
        (3, TypeError), ([passphrase, identity], onnxseal.UsageError), (tmp_path / "none", onnxseal.IoError),
    ]:  # fmt: skip
        with pytest.raises(raised):
            onnxseal.protect(MODEL, tmp_path / "no.onnx", recipients=wrong)
    with pytest.raises(onnxseal.UsageError, match="empty"):
        onnxseal.Passphrase("")
    assert not (tmp_path / "no.onnx").exists()


def test_signatures(tmp_path, sealed, identity):
    key = tmp_path / "key"
    made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "horse", "-f", key]
    try:
        subprocess.run(made, check=True)
    except FileNotFoundError:
        pytest.skip("ssh-keygen is missing")
    allowed = tmp_path / "allowed_signers"
    allowed.write_text("release@example.com " + (tmp_path / "key.pub").read_text())
    signed = tmp_path / "signed.onnx"
    sign = dict(sign_key=key, sign_key_passphrase=onnxseal.Passphrase("horse"))
    onnxseal.protect(MODEL, signed, recipients=identity, **sign)
    for path, signer in (allowed, None), (allowed, "release@example.com"), (str(allowed), None):
        demand = dict(allowed_signers=path, signer=signer)
        assert onnxseal.verify(signed, **demand)["signed_by"]["principals"] == ["release@example.com"]
        onnxseal.open(signed, identity, **demand)
    for model, signer in (sealed, None), (signed, "somebody@example.com"):
        with pytest.raises(onnxseal.AuthenticationError):
            onnxseal.open(model, identity, allowed_signers=allowed, signer=signer)
    with pytest.raises(onnxseal.UsageError, match="allowed_signers"):
        onnxseal.open(signed, identity, signer="release@example.com")
    with pytest.raises(onnxseal.UsageError, match="needs a passphrase"):
        onnxseal.protect(MODEL, tmp_path / "no.onnx", recipients=identity, sign_key=key)


def test_claims_are_required(tmp_path, identity):
    sealed = tmp_path / "sealed.onnx"
    onnxseal.protect(MODEL, sealed, recipients=identity, claims={"customer": "acme", "not-after": "2020-01-01"})
    for keys in dict(identity=identity), {}:
        onnxseal.verify(sealed, require_claims=["customer=acme", "customer"], **keys)
        for claim in "customer=other", "date", "not-after":
            with pytest.raises(onnxseal.PolicyNotMetError, match=claim.partition("=")[0]):
                onnxseal.verify(sealed, require_claims=[claim], **keys)
    report = onnxseal.batch.verify(sealed, require_claims=["customer=other"])
    assert report["totals"]["failed"] == 1
    with pytest.raises(onnxseal.UsageError, match="names no claim"):
        onnxseal.verify(sealed, require_claims=["=acme"])


def test_a_label_decoder_says_what_it_wants():
    with pytest.raises(onnxseal.IoError, match="absent.onnx"):
        onnxseal.LabelDecoder("absent.onnx", b"")
    with pytest.raises(onnxseal.Error, match="no base64"):
        onnxseal.LabelDecoder("!" * 300, b"")


def test_errors_are_of_their_class(tmp_path, sealed, identity):
    out = tmp_path / "out.onnx"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(sealed.read_bytes()[:-1])
    strict = tmp_path / "strict.toml"
    strict.write_text("preset = \"balanced\"\n[require]\nmin_share = 0.99\n")
    stranger = onnxseal.generate_identity()
    cases = [
        ("usage", onnxseal.UsageError, ValueError, lambda: onnxseal.unprotect(MODEL, out, identity=identity)),
        ("malformed", onnxseal.MalformedError, Exception, lambda: onnxseal.plan(b"no model")),
        ("malformed", onnxseal.MalformedError, Exception, lambda: onnxseal.unprotect(broken, out, identity=identity)),
        ("no_matching_key", onnxseal.NoMatchingKeyError, Exception, lambda: onnxseal.open(sealed, stranger)),
        ("policy_not_met", onnxseal.PolicyNotMetError, Exception,
         lambda: onnxseal.protect(MODEL, out, recipients=identity, policy=strict)),
        ("io", onnxseal.IoError, OSError, lambda: onnxseal.inspect(tmp_path / "none.onnx")),
        ("usage", onnxseal.UsageError, ValueError, lambda: onnxseal.protect(MODEL, out, recipients=identity,
                                                                            policy=strict, preset="full")),
        ("usage", onnxseal.UsageError, ValueError, lambda: onnxseal.protect(MODEL, recipients=identity)),
        ("usage", onnxseal.UsageError, ValueError, lambda: onnxseal.open("ftp://host/model.onnx", identity)),
    ]  # fmt: skip
    for kind, raised, also, call in cases:
        with pytest.raises(raised) as caught:
            call()
        assert caught.value.kind == kind and isinstance(caught.value, onnxseal.Error)
        assert isinstance(caught.value, also) and str(caught.value)
    with pytest.raises(onnxseal.IoError, match="cannot open .*none.onnx: No such file") as caught:
        onnxseal.inspect(tmp_path / "none.onnx")
    assert caught.value.errno == 2
    assert not out.exists()
    assert onnxseal.plan(MODEL, policy=strict)["violations"]


def test_progress_is_told_and_may_end_the_call(tmp_path, sealed, identity):
    told = []
    out = tmp_path / "out.onnx"

    def tell(done, total):
        told.append((done, total))
        assert threading.current_thread() is threading.main_thread() and not out.exists()

    onnxseal.protect(MODEL, out, recipients=identity, progress=tell)
    total = MODEL.stat().st_size
    assert told[0] == (0, total) and told[-1] == (total, total) and told == sorted(told)

    class Stop(Exception):
        pass

    before = files_below(tmp_path)
    for at in ("first", "last"):

        def stop(done, total, at=at):
            if at == "first" or done == total:
                raise Stop

        here = dict(identity=identity, progress=stop)
        for call in [
            lambda here=here: onnxseal.protect(MODEL, tmp_path / "x" / "y.onnx", recipients=identity, progress=here["progress"]),
            lambda here=here: onnxseal.unprotect(sealed, tmp_path / "x" / "y.onnx", **here),
            lambda here=here: onnxseal.rekey(sealed, tmp_path / "x" / "y.onnx", recipients=identity, **here),
            lambda here=here: onnxseal.rotate(sealed, recipients=identity, **here),
            lambda here=here: onnxseal.verify(sealed, **here),
            lambda here=here: onnxseal.open(sealed, **here),
        ]:  # fmt: skip
            with pytest.raises(Stop):
                call()
    assert files_below(tmp_path) == before
    assert restored(sealed, identity, tmp_path) == MODEL.read_bytes()
    with pytest.raises(TypeError):
        onnxseal.verify(sealed, progress="yes")


def test_a_bar_is_shown_on_request(tmp_path, identity, capfd):
    onnxseal.protect(MODEL, tmp_path / "silent.onnx", recipients=identity)
    assert capfd.readouterr() == ("", "")
    onnxseal.protect(MODEL, tmp_path / "bar.onnx", recipients=identity, progress=True)
    assert "100%" in capfd.readouterr().err


def test_ctrl_c_ends_a_call_and_leaves_nothing(tmp_path, sealed, identity):
    # The call reads its identity from a pipe, and gets it after the signal has come.
    fifo, out = tmp_path / "fifo", tmp_path / "out.onnx"
    os.mkfifo(fifo)

    def interrupt():
        with open(fifo, "w") as file:
            os.kill(os.getpid(), signal.SIGINT)
            file.write(identity.text())

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        onnxseal.unprotect(sealed, out, identity=fifo)
    thread.join()
    assert not out.exists()


def test_other_threads_run_meanwhile(tmp_path, sealed, identity):
    # The other thread must be able to run while the call waits for it.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    thread = threading.Thread(target=lambda: fifo.write_text(identity.text()))
    thread.start()
    assert onnxseal.verify(sealed, identity=fifo)["authenticated"]
    thread.join()


def test_the_stubs_say_what_there_is():
    stub = ast.parse((Path(onnxseal.__file__).parent / "_onnxseal.pyi").read_text())
    said = {node.name: node for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    public = {name for name in said if not name.startswith("_")}
    assert public == {name for name in vars(_onnxseal) if not name.startswith("_")} - {"View"}
    assert public | {"InferenceSession", "__version__"} <= set(onnxseal.__all__)
    for name, node in said.items():
        if isinstance(node, ast.FunctionDef):
            found = inspect.signature(getattr(_onnxseal, name)).parameters.values()
            positional = [(a.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD) for a in node.args.args]
            named = [(a.arg, inspect.Parameter.KEYWORD_ONLY) for a in node.args.kwonlyargs]
            assert [(p.name, p.kind) for p in found] == positional + named
            defaults = [None] * (len(positional) - len(node.args.defaults)) + node.args.defaults + node.args.kw_defaults
            for parameter, default in zip(found, defaults, strict=True):
                required = parameter.default is inspect.Parameter.empty
                assert required if default is None else parameter.default == ast.literal_eval(default), parameter
        elif name in public:
            members = {member.name for member in node.body if not member.name.startswith("__")}
            assert members == {m for m in vars(getattr(onnxseal, name)) if not m.startswith("__")}


def test_importing_the_package_lets_the_process_have_as_many_open_files_as_the_system_allows():
    asked = "import onnxseal, resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    limited = f'ulimit -Sn 64 && ulimit -Hn 512 && exec "$0" -c "{asked}"'
    done = subprocess.run(["sh", "-c", limited, sys.executable], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["512", "512"]
