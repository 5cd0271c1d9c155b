"""`onnxseal.batch`: what `onnxseal batch` does, from Python."""

import inspect
import json
import os
import shutil
import signal
import threading

import onnxseal
import pytest
from catalog import MODELS, files_below

NAMES = ["a/digits_cnn.onnx", "a/b/digits_gru.onnx", "digits_embedding.onnx"]


@pytest.fixture(scope="session")
def identity():
    return onnxseal.generate_identity()


@pytest.fixture
def zoo(tmp_path):
    for name in NAMES:
        (tmp_path / "zoo" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODELS / name.rsplit("/", 1)[-1], tmp_path / "zoo" / name)
    return tmp_path / "zoo"


@pytest.fixture
def sealed(zoo, identity, tmp_path):
    onnxseal.batch.protect(zoo, tmp_path / "sealed", recipients=identity)
    return tmp_path / "sealed"


def outcomes(report):
    return {row["source"].rsplit("/", 1)[-1]: row["outcome"] for row in report["models"]}


def is_whole(zoo, folder):
    """Whether the folder has the models of the zoo, byte for byte."""
    found = [name for name in files_below(folder) if not name.startswith(".onnxseal/")]
    return found == files_below(zoo) and all((zoo / n).read_bytes() == (folder / n).read_bytes() for n in found)


def test_all_operations_in_turn(zoo, sealed, identity, tmp_path):
    other = onnxseal.generate_identity()
    report = onnxseal.batch.verify(sealed, identity=identity, preset="full")
    assert (report["operation"], report["totals"]["done"], report["stopped"]) == ("verify", 3, False)
    assert set(outcomes(report).values()) == {"done"} and all(row["weights"] for row in report["models"])
    report = onnxseal.batch.rotate(
        sealed, tmp_path / "rotated", identity=identity, recipients=identity, preset="strong", claims={"to": "acme"}
    )
    assert report["totals"]["done"] == 3
    assert onnxseal.inspect(tmp_path / "rotated" / NAMES[0])["claims"] == {"to": "acme"}
    report = onnxseal.batch.rekey(tmp_path / "rotated", identity=identity, recipients=[identity, other])
    assert report["totals"]["done"] == 3 and report["models"][0]["output"] == report["models"][0]["source"]
    report = onnxseal.batch.unprotect(tmp_path / "rotated", tmp_path / "back", identity=other)
    assert report["totals"]["done"] == 3 and is_whole(zoo, tmp_path / "back")


def test_the_report_is_the_command_s(zoo, tool, tmp_path):
    written = tmp_path / "report.json"
    tool("batch", "protect", zoo, "--out", tmp_path / "out", "-r", tool.recipient, "--report", written)
    by_command = json.loads(written.read_text())
    shutil.rmtree(tmp_path / "out")
    report = onnxseal.batch.protect([str(zoo)], tmp_path / "out", recipients=tool.recipient)

    def lasting(value):
        """What two runs have in common: a wrapped key has not always the same length."""
        if isinstance(value, dict):
            changing = ("seconds", "stamp", "blake3", "output_files")
            return {name: lasting(part) for name, part in value.items() if name not in changing}
        return [lasting(part) for part in value] if isinstance(value, list) else value

    assert lasting(report) == lasting(by_command)
    assert all(set(row) == set(same) for row, same in zip(report["models"], by_command["models"], strict=True))
    assert "3 entries" in repr(report)


def test_a_model_that_fails_is_a_row(zoo, identity, tmp_path):
    (zoo / "broken.onnx").write_bytes(b"no model")
    report = onnxseal.batch.protect(zoo, tmp_path / "out", recipients=identity)
    assert (report["totals"]["done"], report["totals"]["failed"]) == (3, 1)
    (row,) = [row for row in report["models"] if row["outcome"] == "failed"]
    assert row["error"]["class"] == "malformed" and "broken.onnx" in row["error"]["message"]
    shutil.copy(zoo / "broken.onnx", tmp_path / "out" / "0.onnx")
    report = onnxseal.batch.verify(tmp_path / "out", fail_fast=True, jobs=1)
    assert report["totals"]["failed"] == 1 and report["stopped"] and report["totals"]["pending"] > 0


def test_sources_lists_and_parts(zoo, identity, tmp_path):
    names = tmp_path / "zoo" / "models.txt"
    names.write_text("a\n# not the others\n")
    report = onnxseal.batch.protect([], tmp_path / "listed", recipients=identity, lists=[names])
    assert sorted(outcomes(report)) == ["digits_cnn.onnx", "digits_gru.onnx"]
    report = onnxseal.batch.protect(f"{zoo}/**/*gru*", tmp_path / "glob", recipients=identity)
    assert list(outcomes(report)) == ["digits_gru.onnx"]
    done = []
    for part in range(3):
        report = onnxseal.batch.protect(zoo, tmp_path / "parts", recipients=identity, shard=(part, 3), jobs=1)
        assert report["shard"] == f"{part}/3"
        done += outcomes(report)
    assert sorted(done) == sorted(name.rsplit("/", 1)[-1] for name in NAMES)


def test_resuming(zoo, sealed, identity, tmp_path):
    (sealed / NAMES[0]).unlink()
    report = onnxseal.batch.protect(zoo, sealed, recipients=identity, resume=True, checksum=True)
    assert outcomes(report)["digits_cnn.onnx"] == "done" and report["models"][0]["output_files"][0]["blake3"]
    report = onnxseal.batch.protect(zoo, sealed, recipients=identity, resume=True)
    assert set(outcomes(report).values()) == {"skipped"}
    report = onnxseal.batch.protect(zoo, tmp_path / "bare", recipients=identity, records=False, sync=True)
    assert report["synced"] and not (tmp_path / "bare" / ".onnxseal").exists()
    report = onnxseal.batch.protect(zoo, tmp_path / "bare", recipients=identity)
    assert report["totals"]["failed"] == 3
    report = onnxseal.batch.protect(zoo, tmp_path / "bare", recipients=identity, replace=True)
    assert report["totals"]["done"] == 3


def test_what_stops_a_whole_batch_raises(zoo, sealed, identity, tmp_path):
    out = tmp_path / "out"
    for error, call in [
        (onnxseal.IoError, lambda: onnxseal.batch.protect(tmp_path / "absent", out, recipients=identity)),
        (onnxseal.UsageError, lambda: onnxseal.batch.protect(zoo, zoo, recipients=identity)),
        (onnxseal.UsageError, lambda: onnxseal.batch.protect(zoo, out, recipients=[])),
        (onnxseal.UsageError, lambda: onnxseal.batch.protect(zoo, out, recipients=identity, memory=1 << 20)),
        (onnxseal.UsageError, lambda: onnxseal.batch.protect(zoo, out, recipients=identity, shard=(2, 2))),
        (onnxseal.UsageError, lambda: onnxseal.batch.unprotect(sealed, out)),
        (onnxseal.UsageError, lambda: onnxseal.batch.verify(sealed, tier="trial")),
        (onnxseal.UsageError, lambda: onnxseal.batch.rekey(sealed, recipients=identity, identity=identity, resume=True)),
        (onnxseal.UsageError,
         lambda: onnxseal.batch.protect(zoo, out, recipients=identity, resume=True, records=False)),
        (TypeError, lambda: onnxseal.batch.protect(zoo, out, recipients=identity, identity=identity)),
        (TypeError, lambda: onnxseal.batch.verify(sealed, replace=True)),
        (TypeError, lambda: onnxseal.batch.verify(sealed, operation="protect")),
        (TypeError, lambda: onnxseal.batch.protect(7, out, recipients=identity)),
    ]:  # fmt: skip
        with pytest.raises(error):
            call()
    assert not out.exists()


def test_an_output_replaces_no_key(zoo, identity, tmp_path):
    keys = tmp_path / "out" / NAMES[2]
    keys.parent.mkdir()
    keys.write_text(identity.recipient)
    with pytest.raises(onnxseal.UsageError, match="digits_embedding"):
        onnxseal.batch.protect(zoo, tmp_path / "out", recipients=keys, replace=True)
    assert files_below(tmp_path / "out") == [NAMES[2]] and keys.read_text() == identity.recipient


def test_progress_covers_all_models(zoo, identity, tmp_path):
    told = []
    onnxseal.batch.protect(zoo, tmp_path / "out", recipients=identity, progress=lambda *now: told.append(now))
    total = sum((zoo / name).stat().st_size for name in NAMES)
    assert told[0] == (0, total) and told[-1] == (total, total) and told == sorted(told)
    told.clear()
    onnxseal.batch.protect(
        zoo, tmp_path / "out", recipients=identity, resume=True, progress=lambda *now: told.append(now)
    )
    assert told[-1] == (total, total)


def test_an_exception_from_progress_ends_it(zoo, identity, tmp_path):
    def stop(done, total):
        raise LookupError

    with pytest.raises(LookupError):
        onnxseal.batch.protect(zoo, tmp_path / "out", recipients=identity, jobs=1, progress=stop)
    assert not [name for name in files_below(tmp_path / "out") if name.endswith(".onnx")]


def test_ctrl_c_ends_it(sealed, tmp_path):
    pid = tmp_path / "pid"
    command = onnxseal.IdentityCommand(["sh", "-c", 'echo >"$0"; exec sleep 61', pid])

    def interrupt():
        while not pid.exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        onnxseal.batch.unprotect(sealed, tmp_path / "out", identity=command)
    thread.join()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", onnxseal.batch.__all__)
def test_it_takes_what_the_call_on_one_model_takes(name):
    """But for what is of one model, and for how the batch runs."""

    def named(call):
        parameters = inspect.signature(call).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    one = named(getattr(onnxseal, name))
    marks = ("fingerprint", "fingerprint_identity", "fingerprint_secret")
    for of_one in ("external_data", "in_place", "replace", "sync", "progress", *marks):
        one.pop(of_one, None)
    assert named(getattr(onnxseal.batch, name)) == one
