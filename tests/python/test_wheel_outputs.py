"""The Python package: where results go, what they never replace, how reports show themselves."""

import io
import json
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxseal
import pytest
from catalog import MODELS, files_below
from digits import held_out
from onnx import helper
from wheel import made, numbers, plain, saved

MODEL = MODELS / "digits_cnn.onnx"
EXTERNAL = MODELS / "digits_cnn_dynamo.onnx"
DATA = "digits_cnn_dynamo.onnx.data"
LABELLED = MODELS.parent / "labels"


@pytest.fixture(scope="module")
def identity():
    return onnxseal.generate_identity()


@pytest.fixture
def sealed(tmp_path, identity):
    path = tmp_path / "sealed.onnx"
    onnxseal.protect(MODEL, path, recipients=identity)
    return path


# --- files that are open --------------------------------------------------------------------------


def test_results_go_into_files_that_are_open(tmp_path, identity, sealed):
    into = io.BytesIO()
    report = onnxseal.protect(MODEL, into, recipients=identity)
    assert report["weights"]["encrypted_bytes"] > 0
    assert bytes(onnxseal.open(into.getvalue(), identity).model_bytes) == MODEL.read_bytes()
    for number, opened in enumerate((open, lambda path, mode: open(path, mode, buffering=0))):
        with opened(tmp_path / f"{number}.onnx", "wb") as file:
            file.write(b"before")
            onnxseal.protect(MODEL, file, recipients=identity)
            file.write(b"after")
        written = (tmp_path / f"{number}.onnx").read_bytes()
        assert written.startswith(b"before") and written.endswith(b"after")
        assert onnxseal.verify(written[6:-5], identity=identity)["authenticated"]
    with tempfile.TemporaryFile() as file:
        onnxseal.protect(MODEL, file, recipients=identity)
        file.seek(0)
        assert onnxseal.verify(file, identity=identity)["authenticated"]
    # All that makes a model does.
    other = onnxseal.generate_identity()
    back, rekeyed, rotated = io.BytesIO(), io.BytesIO(), io.BytesIO()
    onnxseal.unprotect(sealed, back, identity=identity)
    assert back.getvalue() == MODEL.read_bytes()
    assert onnxseal.rekey(sealed, rekeyed, identity=identity, recipients=other) == {
        "still_opens": False
    }
    assert (
        onnxseal.rotate(sealed, rotated, identity=identity, recipients=other)["weights"]["share"]
        == 1
    )
    for made_anew in (rekeyed, rotated):
        assert onnxseal.verify(made_anew.getvalue(), identity=other)["authenticated"]


def test_a_large_result_goes_into_a_file_that_takes_little_at_a_time(identity):
    class Slow(io.RawIOBase):
        taken = b""

        def writable(self):
            return True

        def write(self, piece):
            self.taken += bytes(piece[:700_001])
            return min(len(piece), 700_001)

    model = made(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": numbers(1024, 1024)},
        {"x": [1, 1024]},
        {"y": [1, 1024]},
    )
    slow = Slow()
    onnxseal.protect(model, slow, recipients=identity)
    assert bytes(onnxseal.open(slow.taken, identity).model_bytes) == model.SerializeToString()


def test_what_fails_leaves_nothing_in_a_file(tmp_path, identity, sealed):
    into = io.BytesIO()
    strict = tmp_path / "strict.toml"
    strict.write_text('preset = "balanced"\n[require]\nmin_share = 0.99\n')
    with pytest.raises(onnxseal.PolicyNotMetError):
        onnxseal.protect(MODEL, into, recipients=identity, policy=strict)
    with pytest.raises(onnxseal.NoMatchingKeyError):
        onnxseal.unprotect(sealed, into, identity=onnxseal.generate_identity())
    with pytest.raises(onnxseal.UsageError, match="one file alone: give a path"):
        onnxseal.protect(EXTERNAL, into, recipients=identity)
    with pytest.raises(onnxseal.UsageError, match="in_place"):
        onnxseal.protect(MODEL, into, recipients=identity, in_place=True)
    assert into.getvalue() == b""
    for text in (io.StringIO(), sys.__stdout__):
        with pytest.raises(TypeError, match="not open as binary"):
            onnxseal.protect(MODEL, text, recipients=identity)
    (tmp_path / "read").write_bytes(b"old")
    with open(tmp_path / "read", "rb") as file, pytest.raises(io.UnsupportedOperation):
        onnxseal.protect(MODEL, file, recipients=identity)
    assert (tmp_path / "read").read_bytes() == b"old"


def test_labels_and_input_keys_write_into_files_too(tmp_path):
    key, into = onnxseal.InputKey.generate(block=2, channels=1), io.BytesIO()
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    model = made(nodes, {"w": numbers(4, 1, 2, 2)}, {"x": [1, 1, 8, 8]}, {"y": [1, 4, 4, 4]})
    assert key.rewrite(model, into)["tensors"]
    onnx.checker.check_model(onnx.load_model_from_string(into.getvalue()))
    authority = tmp_path / "authority.json"
    authority.write_bytes((LABELLED / "authority.json").read_bytes())
    into = io.BytesIO()
    onnxseal.protect_labels(MODEL, into, authority=authority, check=False)
    assert "onnxseal-labels" in [
        entry.key for entry in onnx.load_model_from_string(into.getvalue()).metadata_props
    ]


# --- permissions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_results_of_bytes_are_files_as_others_are(umask, tmp_path, identity):
    program = """
        import os, sys
        import onnxseal
        os.umask(int(sys.argv[3]))
        identity = onnxseal.generate_identity()
        with open(sys.argv[1], "rb") as file:
            model = file.read()
        os.chdir(sys.argv[2])
        open("usual", "w").close()
        onnxseal.protect(model, "new.onnx", recipients=identity)
        for _ in range(2):
            onnxseal.protect(model, "bytes.onnx", recipients=identity, replace=True)
        sealed = open("bytes.onnx", "rb").read()
        onnxseal.unprotect(sealed, "back.onnx", identity=identity)
        onnxseal.rekey(sealed, "rekeyed.onnx", identity=identity, recipients=identity)
        onnxseal.rotate(sealed, "rotated.onnx", identity=identity, recipients=identity)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), MODEL, tmp_path, str(umask)]
    subprocess.run(command, check=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 6 and set(modes.values()) == {0o666 & ~umask}, modes


# --- what is read is not replaced -----------------------------------------------------------------


@pytest.fixture
def named(tmp_path, identity, sealed):
    """Files of all kinds that calls read, by what they are."""
    pixels, labels = held_out()
    signer = tmp_path / "signer"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", signer], check=True)
    (tmp_path / "signers").write_text("a@example.com " + (tmp_path / "signer.pub").read_text())
    (tmp_path / "policy").write_text('preset = "balanced"\n')
    identity.save(tmp_path / "identity")
    (tmp_path / "recipients").write_text(identity.recipient + "\n")
    onnxseal.rank(MODEL, tmp_path / "ranking", method="activation")
    (tmp_path / "authority").write_bytes((LABELLED / "authority.json").read_bytes())
    np.savez(tmp_path / "data.npz", input=np.float32(pixels)[:8].reshape(8, 1, 8, 8))
    np.save(tmp_path / "labels.npy", labels[:8])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one").write_bytes(b"of data")
    for name in (EXTERNAL.name, DATA, MODEL.name):
        (tmp_path / name).write_bytes((MODELS / name).read_bytes())
    return tmp_path


def calls(at, identity):
    """All calls that may replace a file: what does it, and the names of the files that it reads."""
    model, sealed, external = at / MODEL.name, at / "sealed.onnx", at / EXTERNAL.name
    readers, team, data = (
        at / "identity",
        at / "recipients",
        dict(data=at / "data.npz", labels=at / "labels.npy"),
    )
    chosen = dict(policy=at / "policy", ranking=at / "ranking", sign_key=at / "signer")
    opened = dict(identity=readers, allowed_signers=at / "signers")
    chosen_names, opened_names = ["policy", "ranking", "signer"], ["identity", "signers"]
    return {
        "protect": (
            lambda out: onnxseal.protect(
                model, out, recipients=[team, identity], **chosen, replace=True
            ),
            ["recipients", MODEL.name, *chosen_names],
        ),
        "protect, external": (
            lambda out: onnxseal.protect(external, out, recipients=[team], replace=True),
            [EXTERNAL.name, DATA],
        ),
        "protect, tiers": (
            lambda out: onnxseal.protect(
                model, out, recipients={"a": identity, "b": [team]}, replace=True
            ),
            ["recipients"],
        ),
        "unprotect": (
            lambda out: onnxseal.unprotect(sealed, out, **opened, replace=True),
            ["sealed.onnx", *opened_names],
        ),
        "rekey": (
            lambda out: onnxseal.rekey(sealed, out, recipients=team, **opened, replace=True),
            ["recipients", "sealed.onnx", *opened_names],
        ),
        "rotate": (
            lambda out: onnxseal.rotate(
                sealed, out, recipients=team, **opened, **chosen, replace=True
            ),
            ["recipients", "sealed.onnx", *opened_names, *chosen_names],
        ),
        "rank": (
            lambda out: onnxseal.rank(
                sealed, out, method="activation", identities=readers, **data, replace=True
            ),
            ["sealed.onnx", "identity", "data.npz", "labels.npy"],
        ),
        "rank, a folder": (
            lambda out: onnxseal.rank(
                model, out, method="activation", data=at / "folder", replace=True
            ),
            ["folder/one"],
        ),
        "tune_tiers": (
            lambda out: onnxseal.tune_tiers(
                sealed,
                out,
                targets={"a": 0.5},
                identities=readers,
                policy=at / "policy",
                ranking=at / "ranking",
                **data,
                replace=True,
            ),
            ["sealed.onnx", "identity", "policy", "ranking", "data.npz", "labels.npy"],
        ),
        "protect_labels": (
            lambda out: onnxseal.protect_labels(
                model,
                out,
                authority=at / "authority",
                identity=readers,
                data=at / "data.npz",
                targets=at / "labels.npy",
                replace=True,
            ),
            [MODEL.name, "authority", "identity", "data.npz", "labels.npy"],
        ),
        "protect, marked": (
            lambda out: onnxseal.protect(
                model,
                out,
                recipients=[team],
                fingerprint="acme",
                fingerprint_secret=at / "authority",
                fingerprint_identity=readers,
                replace=True,
            ),
            [MODEL.name, "authority", "identity", "recipients"],
        ),
        "apply_fingerprint": (
            lambda out: onnxseal.apply_fingerprint(
                model,
                out,
                customer="acme",
                secret=at / "authority",
                identity=readers,
                **data,
                replace=True,
            ),
            [MODEL.name, "authority", "identity", "data.npz", "labels.npy"],
        ),
        "rewrite": (
            lambda out: onnxseal.InputKey.generate(block=4, channels=1).rewrite(
                external, out, replace=True
            ),
            [EXTERNAL.name, DATA],
        ),
    }


CALLS = calls(Path(), None)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("how", ["its name", "a hard link", "a link"])
def test_no_output_is_what_the_call_reads(call, how, named, identity):
    (named / "names").mkdir()
    replace, names = calls(named, identity)[call]
    if how == "a hard link" and names == ["folder/one"]:
        pytest.skip("what is in the folder stays, whatever becomes of its other name")
    before = files_below(named)
    for name in names:
        path = named / name
        other = named / "names" / path.name
        if how == "a hard link":
            os.link(path, other)
        elif how == "a link":
            other.symlink_to(path)
        with pytest.raises(
            onnxseal.UsageError, match="would be written over|is an input of this model"
        ):
            replace(path if how == "its name" else other)
        if how != "its name":
            other.unlink()
    assert files_below(named) == before


def test_the_identity_that_the_environment_names_is_not_replaced(named, monkeypatch):
    monkeypatch.setenv("ONNXSEAL_IDENTITY", str(named / "identity"))
    before = files_below(named)
    for call in (
        lambda: onnxseal.unprotect(named / "sealed.onnx", named / "identity", replace=True),
        lambda: onnxseal.protect(
            named / MODEL.name, named / "identity", recipients=named / "recipients", replace=True
        ),
    ):
        with pytest.raises(
            onnxseal.UsageError, match="would be written over .*identity, which is read"
        ):
            call()
    assert files_below(named) == before
    # Others are, and what is not there yet is no trouble.
    (named / "old").write_bytes(b"old")
    for out in ("old", "new", "names/new"):
        onnxseal.unprotect(named / "sealed.onnx", named / out, replace=True)
        assert (named / out).read_bytes() == MODEL.read_bytes()


# --- reports --------------------------------------------------------------------------------------


def test_reports_show_themselves_in_a_few_lines(tmp_path, sealed, identity):
    reports = [
        onnxseal.plan(MODEL),
        onnxseal.inspect(sealed),
        onnxseal.verify(sealed, identity=identity),
        onnxseal.protect(
            MODEL, tmp_path / "out.onnx", recipients=identity, claims={"customer": "acme"}
        ),
        onnxseal.rekey(sealed, identity=identity, recipients=identity),
        onnxseal.plan(EXTERNAL, preset="balanced"),
    ]
    for report in reports:
        lines = str(report).splitlines()
        assert repr(report) == str(report) and len(lines) <= 10 and max(map(len, lines)) <= 101
        # To a program it is what it was.
        assert isinstance(report, dict) and json.loads(json.dumps(report)) == report == dict(report)
        assert f"{next(iter(report))}:" in lines[1]
    print(*reports, sep="\n")
    assert "'customer': 'acme'" in str(reports[3]) and "encrypted_bytes" in str(reports[3])
    assert len(str(dict(reports[0]))) > 1000


# --- one file in memory ---------------------------------------------------------------------------


def test_a_model_with_external_data_in_one_file(tmp_path, identity):
    sealed = tmp_path / EXTERNAL.name
    onnxseal.protect(EXTERNAL, sealed, recipients=identity)
    data = {DATA: (tmp_path / DATA).read_bytes()}
    for opened in (
        onnxseal.open(sealed, identity, inline=True),
        onnxseal.open(sealed.read_bytes(), identity, external_files=data, inline=True),
    ):
        whole = onnx.load_model_from_string(bytes(opened.model_bytes))
        onnx.checker.check_model(whole)
        expected = onnx.load(EXTERNAL)
        for found, wanted in zip(whole.graph.initializer, expected.graph.initializer, strict=True):
            assert found.data_location == onnx.TensorProto.DEFAULT and not found.external_data
            assert (onnx.numpy_helper.to_array(found) == onnx.numpy_helper.to_array(wanted)).all()
        assert opened.external_files == {} and not opened.is_locked
        assert np.array_equal(opened.tensors[found.name], onnx.numpy_helper.to_array(wanted))
        with pytest.raises(TypeError):
            opened.model_bytes[0] = 0
    in_memory, given = (
        plain(bytes(opened.model_bytes)),
        np.float32(held_out()[0])[:4].reshape(4, 1, 8, 8),
    )
    name = in_memory.get_inputs()[0].name
    [found], [wanted] = in_memory.run(None, {name: given}), plain(EXTERNAL).run(None, {name: given})
    assert np.array_equal(found, wanted)
    view = opened.model_bytes
    del opened
    assert (
        bytes(view) == whole.SerializeToString()
        or onnx.load_model_from_string(bytes(view)) == whole
    )
    # What is in one file stays as it is.
    onnxseal.protect(MODEL, tmp_path / "one.onnx", recipients=identity)
    assert (
        bytes(onnxseal.open(tmp_path / "one.onnx", identity, inline=True).model_bytes)
        == MODEL.read_bytes()
    )


def test_more_than_two_gibibytes_are_no_one_file(tmp_path, identity):
    size, names = 1 << 21, [f"w{number}" for number in range(260)]
    (tmp_path / "w.bin").write_bytes(numbers(size).tobytes())
    model = made([helper.make_node("Sum", ["x", *names], ["y"])], {}, {"x": [size]}, {"y": [size]})
    for name in names:
        # All of them the same bytes of the file.
        tensor = model.graph.initializer.add(
            name=name, data_type=onnx.TensorProto.FLOAT, dims=[size]
        )
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    path = saved(model, tmp_path / "large.onnx")
    onnxseal.protect(path, tmp_path / "out" / "large.onnx", recipients=identity)
    onnxseal.open(tmp_path / "out" / "large.onnx", identity)
    with pytest.raises(onnxseal.UsageError, match="more than 2 GiB.*without inline=True"):
        onnxseal.open(tmp_path / "out" / "large.onnx", identity, inline=True)
