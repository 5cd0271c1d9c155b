"""Batches from and to object stores, and the search for models there."""

import json
import shutil
import signal
import threading
import time

import pytest
from catalog import EXIT_CODES, MODELS, files_below
from store import BUCKET, Remote, forget_uploads, proxy

# Where each file of the zoo comes from: models, the external data of one, and what is none of them.
ZOO = {
    "tiny_int4.onnx": "tiny_int4.onnx",
    "text/gru": "digits_gru.onnx",
    "vision/cnn.onnx": "digits_cnn.onnx",
    "vision/deep er/digits_cnn_dynamo.onnx": "digits_cnn_dynamo.onnx",
    "vision/deep er/digits_cnn_dynamo.onnx.data": "digits_cnn_dynamo.onnx.data",
    "text/words.csv": "digits_test.csv",
}
N_MODELS = 4
OF_MODELS = sorted(name for name in ZOO if not name.endswith(".csv"))


@pytest.fixture
def zoo(tmp_path):
    """A folder of models, as files."""
    for name, source in ZOO.items():
        (tmp_path / "zoo" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODELS / source, tmp_path / "zoo" / name)
    (tmp_path / "zoo" / "empty").touch()
    return tmp_path / "zoo"


def put(server, folder, prefix):
    for name in files_below(folder):
        server.write(f"{prefix}/{name}", (folder / name).read_bytes())


def outputs(server, prefix):
    """What a batch has written to the store, without its records."""
    keys = server.keys(f"{prefix}/")
    return {key.removeprefix(f"{prefix}/"): server.read(key) for key in keys if ".onnxseal/" not in key}


def originals(names=OF_MODELS):
    return {name: (MODELS / ZOO[name]).read_bytes() for name in names}


def batch(remote, operation, *arguments, code=0):
    """Runs a batch and gives its report."""
    identity, recipient = ["-i", remote.tool.identity_file], ["-r", remote.tool.recipient]
    needed = {"protect": recipient, "unprotect": identity, "verify": identity}.get(operation, identity + recipient)
    path = remote.folder.parent / "report.json"
    path.unlink(missing_ok=True)
    done = remote("batch", operation, *arguments, *needed, "--report", path, code=code)
    report = json.loads(path.read_text()) if path.exists() else None
    return done, report


def counts(report):
    totals = report["totals"]
    return {name: totals[name] for name in ("done", "skipped", "failed", "pending") if totals[name]}


def writes(seen):
    return [(method, path) for method, path, _ in seen if method in ("PUT", "POST", "DELETE")]


def test_round_trip(zoo, server, remote, prefix, at, tmp_path):
    # From here to the store. What lies in a store is not on a disk.
    _, report = batch(remote, "protect", zoo, "--out", at("protected/"))
    assert counts(report) == {"done": N_MODELS} and "synced" not in report
    rows = {row["source"]: row for row in report["models"]}
    assert rows[str(zoo / "text/gru")]["output"] == at("protected/text/gru")
    protected = outputs(server, f"{prefix}/protected")
    assert sorted(protected) == OF_MODELS
    assert all(protected[name] != content for name, content in originals().items() if not name.endswith(".data"))
    assert len(server.keys(f"{prefix}/protected/.onnxseal/")) == N_MODELS
    # In the store: the records are no models, and external data is none. A folder may go without its slash.
    _, report = batch(remote, "verify", at("protected"))
    assert counts(report) == {"done": N_MODELS}
    _, report = batch(remote, "rotate", at("protected/"), "--out", at("rotated"))
    assert counts(report) == {"done": N_MODELS}
    rotated = outputs(server, f"{prefix}/rotated")
    assert sorted(rotated) == OF_MODELS and rotated != protected
    # And back.
    _, report = batch(remote, "unprotect", at("rotated/"), "--out", tmp_path / "restored", "--sync")
    assert counts(report) == {"done": N_MODELS} and report["synced"]
    restored = {name: (tmp_path / "restored" / name).read_bytes() for name in OF_MODELS}
    assert restored == originals()
    _, report = batch(remote, "unprotect", at("rotated/"), "--out", tmp_path / "restored", "--resume")
    assert counts(report) == {"skipped": N_MODELS}
    assert server.uploads() == []


def test_rekeying_in_a_store(zoo, server, remote, prefix, at):
    batch(remote, "protect", zoo, "--out", at("protected"))
    _, report = batch(remote, "rekey", at("protected"), "--out", at("rekeyed"))
    assert counts(report) == {"done": N_MODELS}
    _, report = batch(remote, "unprotect", at("rekeyed"), "--out", at("restored"))
    assert outputs(server, f"{prefix}/restored") == originals()


def test_sources_of_all_kinds(zoo, server, remote, prefix, at, tmp_path):
    put(server, zoo, f"{prefix}/in")
    put(server, zoo / "text", f"{prefix}/list/more")
    (tmp_path / "list").write_text(f"# one of these\nzoo/vision\n{at('list/')}\n")
    model = at("in/tiny_int4.onnx")
    sources = [model, model, "--list", tmp_path / "list"]
    _, report = batch(remote, "protect", *sources, "--out", tmp_path / "out")
    assert counts(report) == {"done": 4}
    expected = ["more/gru", "tiny_int4.onnx", "zoo/vision/cnn.onnx", "zoo/vision/deep er/digits_cnn_dynamo.onnx"]
    assert sorted(row["output"] for row in report["models"]) == [str(tmp_path / "out" / name) for name in expected]


def test_what_is_done_is_not_done_again(zoo, server, tool, prefix, at, tmp_path):
    put(server, zoo, f"{prefix}/in")
    with proxy(server, lambda *_: None) as (url, seen):
        remote = Remote(tool, url, tmp_path / "empty")
        arguments = [at("in/"), "--out", at("out/")]
        batch(remote, "protect", *arguments)
        before = outputs(server, f"{prefix}/out")
        seen.clear()
        _, report = batch(remote, "protect", *arguments, "--resume")
        assert counts(report) == {"skipped": N_MODELS}
        assert writes(seen) == [] and seen
        # By entity tags, it reads less than by digests.
        n_read = len(seen)
        seen.clear()
        _, report = batch(remote, "protect", *arguments, "--resume", "--checksum")
        assert counts(report) == {"skipped": N_MODELS} and len(seen) > n_read
        for name in server.keys(f"{prefix}/out/.onnxseal/"):
            record = json.loads(server.read(name))
            assert all("blake3" in file and "e_tag" in file["stamp"] for file in record["input"] + record["output"])
        # Without --resume outputs are in the way, and with another request they are made anew.
        done, report = batch(remote, "protect", *arguments, code=EXIT_CODES["usage"])
        assert counts(report) == {"failed": N_MODELS} and "exists already" in done.stderr
        assert outputs(server, f"{prefix}/out") == before
        _, report = batch(remote, "protect", *arguments, "--resume", "--preset", "strong")
        assert counts(report) == {"done": N_MODELS}
    # An output that is gone is made again, and a source that is another now anew: one file or several.
    server.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/out/text/gru")
    server.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/out/vision/deep er/digits_cnn_dynamo.onnx.data")
    server.write(f"{prefix}/in/vision/cnn.onnx", (MODELS / "digits_cnn_dynamic.onnx").read_bytes())
    remote = Remote(tool, server.url, tmp_path / "empty")
    _, report = batch(remote, "protect", *arguments, "--resume", "--preset", "strong")
    assert counts(report) == {"done": 3, "skipped": 1}
    batch(remote, "unprotect", at("out"), "--out", at("restored"))
    expected = originals() | {"vision/cnn.onnx": (MODELS / "digits_cnn_dynamic.onnx").read_bytes()}
    assert outputs(server, f"{prefix}/restored") == expected


def test_what_others_wrote_stays(zoo, server, remote, prefix, at):
    arguments = [zoo, "--out", at("out")]
    batch(remote, "protect", *arguments)
    server.write(f"{prefix}/out/text/gru", b"somebody else's")
    done, report = batch(remote, "protect", *arguments, "--resume", code=EXIT_CODES["usage"])
    assert counts(report) == {"failed": 1, "skipped": 3}
    assert "not what an earlier run has written" in done.stderr
    assert server.read(f"{prefix}/out/text/gru") == b"somebody else's"
    _, report = batch(remote, "protect", *arguments, "--resume", "--force")
    assert counts(report) == {"done": 1, "skipped": 3}
    remote("verify", at("out/text/gru"), "-i", remote.tool.identity_file)


@pytest.mark.parametrize("held", ["record", "output"])
def test_a_killed_batch_is_resumed(held, zoo, server, tool, prefix, at, tmp_path):
    put(server, zoo, f"{prefix}/in")
    reached, n_written, lock = threading.Event(), 0, threading.Lock()

    def hold(method, path):
        nonlocal n_written
        if method == "PUT" and (".onnxseal" in path) == (held == "record"):
            with lock:
                n_written += 1
            if n_written > 1:
                reached.set()
                time.sleep(3)
                return 500
        return None

    keys = ["-r", tool.recipient]
    with proxy(server, hold) as (url, _):
        remote = Remote(tool, url, tmp_path / "empty")
        started = remote.start("batch", "protect", at("in/"), "--out", at("out"), "--jobs", 2, *keys)
        assert reached.wait(60)
        started.send_signal(signal.SIGKILL)
        assert started.wait(60) == -signal.SIGKILL
        started.communicate()
    assert files_below(tmp_path / "empty") == []
    assert len(outputs(server, f"{prefix}/out")) < len(OF_MODELS)
    remote = Remote(tool, server.url, tmp_path / "empty")
    _, report = batch(remote, "protect", at("in/"), "--out", at("out"), "--resume")
    found = counts(report)
    assert found.get("done", 0) > 0 and found.get("done", 0) + found.get("skipped", 0) == N_MODELS
    batch(remote, "unprotect", at("out"), "--out", at("restored"))
    assert outputs(server, f"{prefix}/restored") == originals()
    forget_uploads(server)


@pytest.mark.parametrize("before", [False, True], ids=["nothing was there", "all is made anew"])
def test_of_two_batches_the_second_fails(before, zoo, server, tool, prefix, at, tmp_path):
    put(server, zoo, f"{prefix}/in")
    arguments, how = [at("in/"), "--out", at("out"), "--resume"], ["--preset", "strong"]
    for name in ("other", "ours"):
        (tmp_path / name).mkdir()
    other = Remote(tool, server.url, tmp_path / "other" / "empty")
    if before:
        batch(other, "protect", *arguments)
    lock, rivals = threading.Lock(), []

    def overtake(method, path):
        """Before the first record of ours is written, another batch does all there is to do."""
        if method == "PUT" and ".onnxseal" in path:
            with lock:
                if not rivals:
                    rivals.append(counts(batch(other, "protect", *arguments, *how)[1]))

    with proxy(server, overtake) as (url, _):
        ours = Remote(tool, url, tmp_path / "ours" / "empty")
        # A model of ours that is still looking at an output while the other batch replaces it says that it changed.
        done, report = batch(ours, "protect", *arguments, *how, code=(EXIT_CODES["usage"], 1))
    assert rivals == [{"done": N_MODELS}] and counts(report) == {"failed": N_MODELS}
    assert "is being written to by another batch" in done.stderr or "exists already" in done.stderr
    # What the other one has made is all there, and known.
    _, report = batch(other, "protect", *arguments, *how)
    assert counts(report) == {"skipped": N_MODELS}
    batch(other, "unprotect", at("out"), "--out", at("restored"))
    assert outputs(server, f"{prefix}/restored") == originals()
    forget_uploads(server)


def test_two_batches_at_once_leave_a_folder_that_goes_on(zoo, server, remote, prefix, at):
    put(server, zoo, f"{prefix}/in")
    arguments = ["batch", "protect", at("in/"), "--out", at("out"), "--resume", "-r", remote.tool.recipient]
    started = [remote.start(*arguments) for _ in range(2)]
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode in (0, EXIT_CODES["usage"], EXIT_CODES["io"], 1), err
    remote(*arguments)
    batch(remote, "unprotect", at("out"), "--out", at("restored"))
    assert outputs(server, f"{prefix}/restored") == originals()
    forget_uploads(server)


def test_a_model_that_fails_takes_no_other_along(zoo, server, remote, prefix, at):
    put(server, zoo, f"{prefix}/in")
    server.write(f"{prefix}/in/broken.onnx", b"no model")
    server.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/in/vision/deep er/digits_cnn_dynamo.onnx.data")
    _, report = batch(remote, "protect", at("in"), "--out", at("out"), code=1)
    assert counts(report) == {"done": 3, "failed": 2}
    failed = {row["source"]: row["error"]["class"] for row in report["models"] if row["outcome"] == "failed"}
    assert failed == {at("in/broken.onnx"): "malformed", at("in/vision/deep er/digits_cnn_dynamo.onnx"): "io"}
    assert sorted(outputs(server, f"{prefix}/out")) == ["text/gru", "tiny_int4.onnx", "vision/cnn.onnx"]
    # What is right by now is done.
    server.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/in/broken.onnx")
    put(server, zoo / "vision", f"{prefix}/in/vision")
    _, report = batch(remote, "protect", at("in"), "--out", at("out"), "--resume")
    assert counts(report) == {"done": 1, "skipped": 3}


def test_two_sources_for_one_output(zoo, server, remote, prefix, at):
    put(server, zoo, f"{prefix}/in")
    done, _ = batch(remote, "protect", zoo, at("in"), "--out", at("out"), code=EXIT_CODES["usage"])
    assert str(zoo / "text/gru") in done.stderr and at("in/text/gru") in done.stderr
    # Nor may an output be a source.
    done, _ = batch(remote, "protect", at("in/text/"), "--out", at("in"), code=EXIT_CODES["usage"])
    assert "lies in the output folder" in done.stderr
    assert sorted(outputs(server, prefix)) == sorted(f"in/{name}" for name in files_below(zoo))


def test_parts_of_a_batch(zoo, server, remote, prefix, at):
    put(server, zoo, f"{prefix}/in")
    n_done = 0
    for part in range(3):
        arguments = [at("in"), "--out", at("out"), "--shard", f"{part}/3"]
        _, report = batch(remote, "protect", *arguments)
        n_done += report["totals"]["done"]
    assert n_done == N_MODELS and sorted(outputs(server, f"{prefix}/out")) == OF_MODELS


def test_nothing_unprotected_passes(zoo, server, remote, prefix, at):
    put(server, zoo, f"{prefix}/in")
    verify = ["verify", "--require-protected"]
    done = remote(*verify, at("in/"), code=EXIT_CODES["policy"])
    assert f"{at('in/text/gru')}: FAILED, not protected" in done.stdout
    assert "4 models: 0 ok, 4 failed" in done.stdout
    batch(remote, "protect", at("in"), "--out", at("out"))
    done = remote(*verify, at("out"), at("out/text/gru"))
    assert "4 models: 4 ok, 0 failed" in done.stdout
    done = remote("verify", at("out"), "-i", remote.tool.identity_file, "--json")
    found = json.loads(done.stdout)
    assert [row["model"] for row in found["models"]] == sorted(row["model"] for row in found["models"])
    assert found["summary"] == {"models": 4, "ok": 4, "not_protected": 0, "failed": 0}
    # One that is not, among others, here and there.
    server.write(f"{prefix}/out/late.onnx", (MODELS / "tiny_int4.onnx").read_bytes())
    done = remote(*verify, at("out"), "--sarif", code=EXIT_CODES["policy"])
    results = json.loads(done.stdout)["runs"][0]["results"]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results]
    assert uris == [at("out/late.onnx")]
    done = remote(*verify, zoo / "tiny_int4.onnx", at("out/text/"), code=EXIT_CODES["policy"])
    assert "2 models: 1 ok, 1 failed" in done.stdout


def test_nothing_found_is_an_error(server, remote, prefix, at):
    server.write(f"{prefix}/notes/readme.txt", b"no model")
    for command in (["verify", "--require-protected"], ["verify"], ["batch", "verify"]):
        done = remote(*command, at("notes/"), code=EXIT_CODES["usage"])
        assert "no" in done.stderr and "model" in done.stderr
        done = remote(*command, at("elsewhere/"), code=EXIT_CODES["io"])
        assert at("elsewhere/") in done.stderr and "no such object" in done.stderr
        # A name that others begin with is no folder.
        remote(*command, at("note"), code=EXIT_CODES["io"])
        done = remote(*command, at("note*/"), code=EXIT_CODES["usage"])
        assert "no patterns" in done.stderr


def test_little_is_fetched_to_find_models(server, tool, prefix, at, tmp_path):
    content = bytes(range(1, 256)) * 40_000
    server.write(f"{prefix}/weights.bin", content)
    # The first field of this one goes on to its end.
    server.write(f"{prefix}/weights.data", b"\x12\xfc\xff\x3f" + content[: (1 << 20) - 4])
    server.write(f"{prefix}/model", (MODELS / "tiny_int4.onnx").read_bytes())
    with proxy(server, lambda *_: None) as (url, seen):
        done = Remote(tool, url, tmp_path / "empty")("verify", at(""))
    assert "1 model: 0 ok, 1 not protected" in done.stdout
    fetched = [headers["range"] for method, path, headers in seen if method == "GET" and "/weights." in path]
    assert fetched == ["bytes=0-15"] * 2, fetched
