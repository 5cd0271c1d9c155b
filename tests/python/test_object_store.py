"""Models in an object store: the same as in files, and nothing to be seen of what fails."""

import os
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import onnx
import pytest
from catalog import EXIT_CODES, MODELS, files_below, files_of, fixture_models
from onnx import TensorProto, helper, numpy_helper
from store import BUCKET, AzureServer, Remote, Server, environment, files_in, forget_uploads, proxy, upload


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model of one file and more than 20 MiB: larger than two parts of an upload."""
    return write_mlp(tmp_path_factory.mktemp("large") / "large.onnx", seed=1)


def write_mlp(path, seed, n=1024, layers=6):
    random = np.random.default_rng(seed)
    names = ["x", *(f"h{i}" for i in range(layers))]
    weights = [random.standard_normal((n, n), dtype=np.float32) for _ in range(layers)]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"matmul{i}") for i in range(layers)],
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, [1, n])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize("model", fixture_models(), ids=lambda path: path.stem)
def test_round_trips(model, server, remote, prefix, at, tmp_path):
    name, identity = model.name, remote.tool.identity_file
    # From here to the store.
    # Zero points of some are coded as varints.
    accepted = ["--allow-clear", "*"]
    remote.protect(model, at(f"protected/{name}"), *accepted)
    remote("verify", at(f"protected/{name}"), "-i", identity, "--preset", "balanced", *accepted)
    assert files_in(server, model, f"{prefix}/protected")[""] != model.read_bytes()
    # In the store.
    remote.unprotect(at(f"protected/{name}"), at(f"restored/{name}"))
    assert files_in(server, model, f"{prefix}/restored") == files_of(model)
    # And from the store, in clear and protected, to here.
    (tmp_path / "here").mkdir()
    remote.protect(at(f"restored/{name}"), tmp_path / "here" / name, *accepted)
    remote.unprotect(tmp_path / "here" / name, tmp_path / "back" / name)
    remote.unprotect(at(f"protected/{name}"), tmp_path / "fetched" / name)
    for folder in ("back", "fetched"):
        assert files_of(tmp_path / folder / name) == files_of(model)
    assert server.uploads() == []


@pytest.mark.parametrize("model", [MODELS / "digits_cnn_dynamo.onnx", MODELS / "digits_cnn.onnx"], ids=lambda p: p.stem)
def test_other_recipients_and_keys(model, server, remote, stranger, prefix, at, tmp_path):
    name, identity = model.name, remote.tool.identity_file
    friend = tmp_path / "friend.txt"
    friend.write_text(f"{stranger}\n")
    remote.protect(model, at(f"protected/{name}"))
    remote("rekey", at(f"protected/{name}"), "-i", identity, "-r", stranger.to_public(), "-o", at(f"rekeyed/{name}"))
    options = ["-r", remote.tool.recipient, "-o", at(f"rotated/{name}"), "--preset", "full"]
    remote("rotate", at(f"rekeyed/{name}"), "-i", friend, *options)
    remote("verify", at(f"rotated/{name}"), "-i", friend, code=5)
    remote("verify", at(f"rotated/{name}"), "-i", identity, "--preset", "full")
    remote.unprotect(at(f"rotated/{name}"), at(f"restored/{name}"))
    assert files_in(server, model, f"{prefix}/restored") == files_of(model)
    # Objects are not changed where they lie.
    before = files_in(server, model, f"{prefix}/protected")
    for command in ("rekey", "rotate"):
        done = remote(command, at(f"protected/{name}"), "-i", identity, "-r", stranger.to_public(), code=2)
        assert "--output" in done.stderr
    assert files_in(server, model, f"{prefix}/protected") == before
    assert server.uploads() == []


@pytest.mark.parametrize("model", [MODELS / "digits_cnn_dynamo.onnx", MODELS / "subgraph_if.onnx"], ids=lambda p: p.stem)
def test_reports_are_those_of_files(model, server, remote, tool, prefix, at, tmp_path):
    tool.protect(model, tmp_path / "protected" / model.name)
    upload(server, tmp_path / "protected" / model.name, prefix)
    upload(server, model, f"{prefix}/clear")
    here, there = tmp_path / "protected" / model.name, at(model.name)
    for command in (["inspect", "--json"], ["verify", "--json", "-i", tool.identity_file]):
        expected = tool(*command, here).stdout.replace(str(here), there)
        assert remote(*command, there).stdout == expected
    expected = tool("plan", "--json", model).stdout.replace(str(model), at(f"clear/{model.name}"))
    assert remote("plan", "--json", at(f"clear/{model.name}")).stdout == expected


def test_large_models_go_in_parts(large, server, tool, prefix, at, tmp_path):
    original = large.read_bytes()
    with proxy(server, lambda *_: None) as (url, seen):
        remote = Remote(tool, url, tmp_path / "empty")
        remote.protect(large, at("protected.onnx"))
        parts = [path for method, path, _ in seen if method == "PUT" and "partNumber=" in path]
        assert len(parts) == 4  # 24 MiB and a tail
        stored = server.read(f"{prefix}/protected.onnx")
        seen.clear()

        # Of the weights nothing is read to find out what there is.
        remote("inspect", at("protected.onnx"))
        assert n_fetched(seen) < 2 << 20
        seen.clear()
        remote("verify", at("protected.onnx"), "-i", tool.identity_file)
        gets = [headers for method, _, headers in seen if method == "GET"]
        assert all("if-match" in {name.lower() for name in headers} for headers in gets)
        assert n_fetched(seen) < len(stored) + (2 << 20)

        remote.unprotect(at("protected.onnx"), at("restored.onnx"))
        remote.unprotect(at("protected.onnx"), tmp_path / "restored.onnx")
    assert server.read(f"{prefix}/restored.onnx") == original
    assert (tmp_path / "restored.onnx").read_bytes() == original
    # What was written here is what protecting a file writes.
    (tmp_path / "stored.onnx").write_bytes(stored)
    tool.unprotect(tmp_path / "stored.onnx", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == original
    assert server.uploads() == []


def n_fetched(seen):
    """Bytes that were asked for."""
    ranges = [headers.get("range") or headers.get("Range") for method, _, headers in seen if method == "GET"]
    ends = [span.removeprefix("bytes=").split("-") for span in ranges]
    return sum(int(last) - int(first) + 1 for first, last in ends)


def test_a_file_written_from_a_store_is_its_owners_alone(server, remote, prefix, at, tmp_path):
    upload(server, MODELS / "tiny_int4.onnx", prefix)
    remote.protect(at("tiny_int4.onnx"), tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("nth", [1, 3])
def test_a_part_that_is_refused_leaves_nothing(nth, large, server, tool, prefix, at, tmp_path):
    def refuse(method, path):
        return 403 if method == "PUT" and f"partNumber={nth}&" in path + "&" else None

    with proxy(server, refuse) as (url, seen):
        remote = Remote(tool, url, tmp_path / "empty")
        done = remote.run("protect", large, "-o", at("out.onnx"), "-r", tool.recipient)
        assert done.returncode == EXIT_CODES["io"] and at("out.onnx") in done.stderr
        assert any(method == "DELETE" and "uploadId" in path for method, path, _ in seen)
    assert server.keys(prefix) == [] and server.uploads() == []


def test_a_completion_that_is_refused_leaves_nothing(large, server, tool, prefix, at, tmp_path):
    """Also the other file of the model, which was there a moment before."""
    model = tmp_path / "model" / "model.onnx"
    model.parent.mkdir()
    onnx.save(onnx.load(large), model, save_as_external_data=True, location="weights.bin")

    def refuse(method, path):
        return 403 if method == "PUT" and path.split("?")[0].endswith("out.onnx") else None

    with proxy(server, refuse) as (url, seen):
        remote = Remote(tool, url, tmp_path / "empty")
        remote.protect(model, at("out.onnx"), code=EXIT_CODES["io"])
        completed = [path for method, path, _ in seen if method == "POST" and "uploadId=" in path]
        assert len(completed) == 1 and "weights.bin" in completed[0]
    assert server.keys(prefix) == [] and server.uploads() == []


def test_what_a_server_fails_once_is_asked_again(large, server, tool, prefix, at, tmp_path):
    failing, lock = {"PUT": ["cut", 500], "GET": ["cut", 503]}, threading.Lock()

    def fail(method, path):
        with lock:
            return failing[method].pop() if failing.get(method) else None

    with proxy(server, fail) as (url, _):
        remote = Remote(tool, url, tmp_path / "empty")
        remote.protect(large, at("out.onnx"))
        remote.unprotect(at("out.onnx"), at("back.onnx"))
    assert failing == {"PUT": [], "GET": []}
    assert server.read(f"{prefix}/back.onnx") == large.read_bytes()
    assert server.uploads() == []


def test_a_network_that_stays_away_leaves_nothing_that_can_be_seen(large, server, tool, prefix, at, tmp_path):
    gone = threading.Event()

    def cut(method, path):
        if method == "PUT" and "partNumber=2" in path:
            gone.set()
        return "cut" if gone.is_set() else None

    with proxy(server, cut) as (url, seen):
        remote = Remote(tool, url, tmp_path / "empty")
        done = remote.protect(large, at("out.onnx"), code=EXIT_CODES["io"])
        assert at("out.onnx") in done.stderr
        assert sum("partNumber=2" in path for _, path, _ in seen) > 5
        assert any(method == "DELETE" and "uploadId" in path for method, path, _ in seen)
    assert server.keys(prefix) == []
    forget_uploads(server)


@pytest.mark.parametrize("command", ["protect", "unprotect"])
def test_a_killed_tool_leaves_nothing_that_can_be_seen(command, large, server, tool, prefix, at, tmp_path):
    tool.protect(large, tmp_path / "protected.onnx")
    source = large if command == "protect" else tmp_path / "protected.onnx"
    keys = ["-r", tool.recipient] if command == "protect" else ["-i", tool.identity_file]
    reached = threading.Event()

    def hold(method, path):
        if method == "PUT" and "partNumber=2" in path:
            reached.set()
            time.sleep(5)
        return None

    with proxy(server, hold) as (url, _):
        remote = Remote(tool, url, tmp_path / "empty")
        started = remote.start(command, source, "-o", at("out.onnx"), *keys)
        assert reached.wait(60)
        started.send_signal(signal.SIGKILL)
        assert started.wait(60) == -signal.SIGKILL
        started.communicate()
    assert server.keys(prefix) == [] and files_below(tmp_path / "empty") == []
    # What is left is what a lifecycle rule removes, and does not stand in the way.
    assert server.uploads() == [f"{prefix}/out.onnx"]
    Remote(tool, server.url, tmp_path / "empty")(command, source, "-o", at("out.onnx"), *keys)
    assert server.keys(prefix) == [f"{prefix}/out.onnx"]
    forget_uploads(server)


@pytest.mark.parametrize("how", ["replaced", "removed"])
@pytest.mark.parametrize("command", ["protect", "unprotect", "verify"])
def test_an_object_that_changes_while_it_is_read(command, how, large, server, tool, prefix, at, tmp_path):
    """It has the same length then, and is as good a model."""
    one, other = tmp_path / "one.onnx", tmp_path / "other.onnx"
    write_mlp(other, seed=2)
    shutil.copy(large, one)
    if command != "protect":
        for model in (one, other):
            tool.protect(model, tmp_path / "protected.onnx", "--force")
            shutil.move(tmp_path / "protected.onnx", model)
    server.write(f"{prefix}/model.onnx", one.read_bytes())
    changed, lock, n_gets = other.read_bytes(), threading.Lock(), 0

    def change(method, path):
        nonlocal n_gets
        with lock:
            n_gets += method == "GET"
            if n_gets == 14:
                n_gets += 1
                if how == "replaced":
                    server.write(f"{prefix}/model.onnx", changed)
                else:
                    server.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/model.onnx")
        return None

    arguments = {
        "protect": ["-r", tool.recipient, "-o", at("out.onnx")],
        "unprotect": ["-i", tool.identity_file, "-o", at("out.onnx")],
        "verify": ["-i", tool.identity_file],
    }[command]
    with proxy(server, change) as (url, _):
        done = Remote(tool, url, tmp_path / "empty").run(command, at("model.onnx"), *arguments)
    assert n_gets >= 15
    assert done.returncode == EXIT_CODES["io"] and "changed while it was being read" in done.stderr
    assert f"{prefix}/out.onnx" not in server.keys(prefix) and server.uploads() == []


def test_changed_objects_do_not_authenticate(large, server, remote, prefix, at, tmp_path):
    remote.protect(large, at("model.onnx"))
    content = bytearray(server.read(f"{prefix}/model.onnx"))
    content[len(content) // 2] ^= 1
    server.write(f"{prefix}/model.onnx", bytes(content))
    code = EXIT_CODES["authentication"]
    remote("verify", at("model.onnx"), "-i", remote.tool.identity_file, code=code)
    remote.unprotect(at("model.onnx"), at("out.onnx"), code=code)
    remote.unprotect(at("model.onnx"), tmp_path / "out.onnx", code=code)
    assert server.keys(prefix) == [f"{prefix}/model.onnx"] and server.uploads() == []
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("size", ["small", "large"])
def test_outputs_are_not_replaced_without_force(size, large, server, remote, prefix, at):
    model = large if size == "large" else MODELS / "tiny_int4.onnx"
    server.write(f"{prefix}/out.onnx", b"precious")
    done = remote.protect(model, at("out.onnx"), code=EXIT_CODES["usage"])
    assert "exists already" in done.stderr
    assert server.read(f"{prefix}/out.onnx") == b"precious"
    remote.protect(model, at("out.onnx"), "--force")
    remote.unprotect(at("out.onnx"), at("back.onnx"))
    assert server.read(f"{prefix}/back.onnx") == model.read_bytes()


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("seen_by_us", [True, False])
def test_outputs_that_appear_meanwhile_are_not_replaced(size, seen_by_us, large, server, tool, prefix, at, tmp_path):
    """If the tool cannot look first, the store itself refuses."""
    model, n_heads, lock = large if size == "large" else MODELS / "tiny_int4.onnx", 0, threading.Lock()

    def appear(method, path):
        nonlocal n_heads
        last = method == "POST" and "uploadId=" in path or method == "PUT" and "?" not in path
        with lock:
            n_heads += method == "HEAD"
            if (n_heads == 2 and method == "HEAD") if seen_by_us else last:
                server.write(f"{prefix}/out.onnx", b"precious")
        return None

    with proxy(server, appear) as (url, _):
        remote = Remote(tool, url, tmp_path / "empty")
        done = remote.protect(model, at("out.onnx"), code=EXIT_CODES["usage"])
        assert "exists already" in done.stderr
    assert server.read(f"{prefix}/out.onnx") == b"precious"
    assert server.uploads() == []


def test_several_outputs_replace_nothing(server, remote, prefix, at):
    model = MODELS / "digits_cnn_dynamo.onnx"
    remote.protect(model, at("out.onnx"))
    before = {key: server.read(key) for key in server.keys(prefix)}
    assert len(before) == 2
    remote.protect(model, at("out.onnx"), "--force", code=EXIT_CODES["usage"])
    remote.unprotect(at("out.onnx"), at("other.onnx"), code=EXIT_CODES["usage"])
    assert {key: server.read(key) for key in server.keys(prefix)} == before


def test_inputs_are_not_outputs(server, remote, prefix, at):
    upload(server, MODELS / "tiny_int4.onnx", prefix)
    url = at("tiny_int4.onnx")
    for output in (url, url.replace("s3:", "S3:")):
        done = remote.protect(url, output, "--force", code=EXIT_CODES["usage"])
        assert "is an input" in done.stderr
    for options in (["-r", remote.tool.recipient], []):
        remote("protect", url, "--in-place", *options, code=EXIT_CODES["usage"])
    done = remote("protect", url, "-o", at("out.onnx"), code=EXIT_CODES["usage"])
    assert "--recipient" in done.stderr
    assert server.keys(prefix) == [f"{prefix}/tiny_int4.onnx"]
    assert server.read(f"{prefix}/tiny_int4.onnx") == (MODELS / "tiny_int4.onnx").read_bytes()


def test_external_data_beside_the_original_has_a_name_of_its_own(server, remote, prefix, at, tmp_path):
    model = MODELS / "digits_cnn_dynamo.onnx"
    upload(server, model, prefix)
    before = {key: server.read(key) for key in server.keys(prefix)}
    remote.protect(at(model.name), at("b.onnx"))
    new = {f"{prefix}/b.onnx", f"{prefix}/b.onnx.data"}
    assert set(server.keys(prefix)) == set(before) | new
    assert {key: server.read(key) for key in before} == before
    remote("verify", at("b.onnx"), "-i", remote.tool.identity_file)
    remote.unprotect(at("b.onnx"), at(f"back/{model.name}"))
    assert files_in(server, model, f"{prefix}/back") == files_of(model)
    remote.unprotect(at("b.onnx"), tmp_path / "back" / model.name)
    assert files_of(tmp_path / "back" / model.name) == files_of(model)


def test_what_is_not_there(server, remote, at):
    for url in (at("absent.onnx"), "s3://no-such-bucket/absent.onnx"):
        for command in (["inspect"], ["plan"], ["verify"]):
            done = remote(*command, url, code=EXIT_CODES["io"])
            assert url in done.stderr
    remote.protect(MODELS / "tiny_int4.onnx", "s3://no-such-bucket/out.onnx", code=EXIT_CODES["io"])
    for text in ("http://127.0.0.1/model.onnx", "s3://only-a-bucket", "s3://id:pass@bucket/key"):
        remote("inspect", text, code=EXIT_CODES["usage"])


def test_a_missing_external_file(server, remote, prefix, at):
    model = MODELS / "digits_cnn_dynamo.onnx"
    server.write(f"{prefix}/{model.name}", model.read_bytes())
    done = remote.protect(at(model.name), at("out.onnx"), code=EXIT_CODES["io"])
    assert at(f"{model.name}.data") in done.stderr
    remote.protect(model, at(f"protected/{model.name}"))
    server.s3.delete_object(Bucket=BUCKET, Key=f"{prefix}/protected/{model.name}.data")
    remote("verify", at(f"protected/{model.name}"), code=EXIT_CODES["io"])


def test_what_is_no_model(server, remote, prefix, at):
    for i, content in enumerate([b"", b"\xff" * 100, os.urandom(300_000), b"\x3a\xff\xff\xff\xff\x0f" + bytes(200_000)]):
        server.write(f"{prefix}/{i}", content)
        remote("plan", at(i), code=EXIT_CODES["malformed"])


def test_wrong_credentials(tool, tmp_path, tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("guarded"))
    try:
        iam = server.client("iam")
        iam.create_user(UserName="user")
        key = iam.create_access_key(UserName="user")["AccessKey"]
        statement = '{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}'
        document = f'{{"Version": "2012-10-17", "Statement": [{statement}]}}'
        iam.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=document)
        server.guard()
        good = (key["AccessKeyId"], key["SecretAccessKey"])
        model, url = MODELS / "digits_cnn_dynamo.onnx", f"s3://{BUCKET}/guarded/model.onnx"
        for key_id, secret, code in [
            (good[0], "wrong" * 8, EXIT_CODES["io"]),
            ("AKIAWRONG", good[1], EXIT_CODES["io"]),
            (*good, 0),
            (good[0], "wrong" * 8, EXIT_CODES["io"]),
        ]:
            remote = Remote(tool, server.url, tmp_path / "empty")
            remote.environment = environment(server.url, tmp_path / "empty", key_id, secret)
            protected = remote.protect(model, url if code == 0 else url + "x", code=code)
            verified = remote("verify", url, "-i", tool.identity_file, code=code)
            for done in (protected, verified):
                assert not any(word in done.stdout + done.stderr for word in (key_id, secret))
    finally:
        server.stop()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is absent")
def test_nothing_is_written_here(large, server, remote, at, tmp_path):
    """Not in any folder: what is protected goes from one object to the other through memory."""
    remote.protect(large, at("in.onnx"))
    log = tmp_path / "strace.log"
    trace = ["strace", "-f", "-e", "trace=openat,open,openat2,creat,memfd_create,mknodat,linkat", "-o", log]
    command = [*trace, remote.tool.binary, "unprotect", at("in.onnx"), "-i", remote.tool.identity_file]
    command = [*map(str, command), "-o", at("out.onnx")]
    subprocess.run(command, cwd=remote.folder, env=remote.environment, capture_output=True, check=True)
    calls = log.read_text().splitlines()
    assert any(str(remote.tool.identity_file) in call for call in calls)
    writing = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE", "creat(", "memfd_create(", "mknodat(", "linkat(")
    found = [call for call in calls if any(word in call for word in writing) and '"/dev/' not in call]
    assert found == []


@pytest.mark.skipif(not shutil.which("azurite-blob"), reason="azurite-blob is absent (npm install -g azurite)")
def test_azure(large, tool, tmp_path):
    (tmp_path / "azure").mkdir()
    azure = AzureServer(shutil.which("azurite-blob"), tmp_path / "azure")
    try:
        remote = Remote(tool, "http://127.0.0.1:9", tmp_path / "empty")
        remote.environment |= azure.environment()
        for model in (large, MODELS / "digits_cnn_dynamo.onnx"):
            url = f"az://{BUCKET}/{model.stem}"
            remote.protect(model, f"{url}/protected/{model.name}")
            done = remote.protect(model, f"{url}/protected/{model.name}", code=EXIT_CODES["usage"])
            assert "exists already" in done.stderr
            remote("verify", f"{url}/protected/{model.name}", "-i", tool.identity_file)
            remote.unprotect(f"{url}/protected/{model.name}", f"{url}/restored/{model.name}")
            remote.protect(f"{url}/restored/{model.name}", tmp_path / model.stem / model.name)
            remote.unprotect(tmp_path / model.stem / model.name, tmp_path / "back" / model.name)
            assert files_of(tmp_path / "back" / model.name) == files_of(model)
    finally:
        azure.stop()


def test_file_urls(tool, tmp_path):
    model, folder = MODELS / "tiny_int4.onnx", tmp_path / "a folder"
    folder.mkdir()
    tool.protect(model.as_uri(), (folder / "out.onnx").as_uri())
    tool.unprotect((folder / "out.onnx").as_uri(), folder / "back.onnx")
    assert (folder / "back.onnx").read_bytes() == model.read_bytes()
    assert files_below(folder) == ["back.onnx", "out.onnx"]
