"""The Python package: what a patched ONNX Runtime says of files that are not onnxseal's, and relative paths."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxseal
import pytest
import runtime
from onnxruntime import InferenceSession
from wheel import OPTIONS, feed, layers, plain, saved


@pytest.fixture(scope="module")
def identity():
    return onnxseal.generate_identity()


@pytest.fixture(autouse=True)
def undone():
    yield
    onnxseal.unpatch()


def small():
    return layers(size=8)


def merged():
    """A model in two messages: the graph's initializers come last, as protobuf allows."""
    whole = small()
    weights, rest = onnx.ModelProto(), onnx.ModelProto()
    rest.CopyFrom(whole)
    weights.graph.initializer.extend(rest.graph.initializer)
    del rest.graph.initializer[:]
    return rest.SerializeToString() + weights.SerializeToString()


def no_models():
    model = small().SerializeToString()
    return {
        "empty": b"",
        "text": b"a model\n" * 100,
        "json": json.dumps({"model": [1, 2]}).encode(),
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n",
        "zip": b"PK\x03\x04" + bytes(60),
        "zeros": bytes(5000),
        "cut": model[: len(model) // 2],
        "version alone": b"\x08\x08",
        "no fields": b"\xff" * 64,
    }


def said(given):
    """The class and the message of what a session raises."""
    with pytest.raises(Exception) as raised:
        InferenceSession(given, **OPTIONS)
    return type(raised.value), str(raised.value)


@pytest.mark.parametrize("name", no_models())
def test_errors_about_files_that_are_no_models_are_onnx_runtime_s(name, tmp_path, identity):
    content, path = no_models()[name], tmp_path / "model.onnx"
    path.write_bytes(content)
    for given in path, str(path), content:
        expected = said(given)
        with onnxseal.patched(identity=identity):
            assert said(given) == expected
        # Whoever demands a protected model gets none.
        for demands in dict(allow_plain=False), dict(require_claims=["customer"]), dict(tier="trial"):
            with onnxseal.patched(identity=identity, **demands):
                assert issubclass(said(given)[0], onnxseal.Error)


def test_errors_about_what_is_no_file_are_onnx_runtime_s(tmp_path, identity):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "link.onnx").symlink_to("nowhere")
    for given in tmp_path / "folder.onnx", tmp_path / "link.onnx", str(tmp_path / "none.onnx"), "a\0b", None, 3, []:
        expected = said(given)
        with onnxseal.patched(identity=identity):
            assert said(given) == expected


def test_merged_models_open_as_ever(tmp_path, identity):
    content, path = merged(), tmp_path / "merged.onnx"
    path.write_bytes(content)
    expected = plain(saved(small(), tmp_path / "whole.onnx"))
    given = feed(expected)
    wanted = expected.run(None, given)
    with onnxseal.patched(identity=identity):
        for model in path, content:
            assert runtime.same(InferenceSession(model, **OPTIONS).run(None, given), wanted)
    assert runtime.same(onnxseal.InferenceSession(path, allow_plain=True, **OPTIONS).run(None, given), wanted)
    with onnxseal.patched(identity=identity, allow_plain=False), pytest.raises(onnxseal.Error):
        InferenceSession(path, **OPTIONS)


def test_onnx_runtime_never_gets_a_protected_model_that_is_damaged(tmp_path, identity):
    """Without the lock, ONNX Runtime would open these, and compute something else."""
    path, sealed = saved(small(), tmp_path / "m.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity, runnable=True)
    content, model = sealed.read_bytes(), path.read_bytes()
    tail = content.index(b"\x0a\x11onnxseal.manifest")
    end = content.rindex(b"\x0a\x0eonnxseal.key.1")
    assert tail > len(model) and content[end - 3] == 0x72
    damaged = {
        "merged after": content + b"\x0a\x00" + small().SerializeToString(),
        "merged before": small().SerializeToString() + content,
        "appended": content + b"\x32\x01x",
        "a name changed": content.replace(b"onnxseal.manifest", b"onnxseal_manifest"),
        "the key alone": model + content[end - 3 :],
        "cut": content[: (tail + end) // 2],
        "cut early": content[: tail + 40],
    }
    # Far from the beginning, and across the pieces in which files are read.
    padding = (1 << 20) - tail - 5
    damaged["far"] = model + b"\x32\x80\x80\x40" + b"\xff" * (1 << 20) + content
    damaged["across"] = b"\x32" + padding_length(padding) + bytes(padding) + content + content
    opened = set()
    for name, changed in damaged.items():
        sealed.write_bytes(changed)
        for given in sealed, changed:
            try:
                InferenceSession(given, **OPTIONS)
                opened.add(name)
            except Exception:
                pass
            with onnxseal.patched(identity=identity):
                assert issubclass(said(given)[0], onnxseal.Error), name
    assert {"appended", "a name changed", "the key alone"} <= opened


def padding_length(length):
    """A varint."""
    return bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])


@pytest.mark.parametrize("how", ["argument", "path", "one of several", "environment"])
def test_relative_paths_start_where_the_program_was(how, tmp_path, identity, monkeypatch):
    path, sealed = saved(small(), tmp_path / "m.onnx"), tmp_path / "sealed.onnx"
    identity.save(tmp_path / "id.txt")
    onnxseal.protect(path, sealed, recipients=identity)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    other = onnxseal.generate_identity()
    given = {
        "argument": "id.txt",
        "path": sealed.relative_to(tmp_path).with_name("id.txt"),
        "one of several": [other.text(), other, other.text().encode(), "id.txt"],
        "environment": None,
    }[how]
    if how == "environment":
        monkeypatch.setenv("ONNXSEAL_IDENTITY", "id.txt")
    onnxseal.patch(identity=given)
    monkeypatch.chdir("elsewhere")
    expected = plain(path)
    assert runtime.same(InferenceSession(sealed, **OPTIONS).run(None, feed(expected)), expected.run(None, feed(expected)))
    assert not (tmp_path / "elsewhere" / "id.txt").exists()


def test_a_relative_path_through_a_link_is_the_system_s(tmp_path, identity, monkeypatch):
    path, sealed = saved(small(), tmp_path / "m.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity)
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/inner")
    identity.save(tmp_path / "far" / "id.txt")
    monkeypatch.chdir(tmp_path)
    onnxseal.patch(identity="link/../id.txt")
    monkeypatch.chdir("/")
    InferenceSession(sealed, **OPTIONS)


def test_signers_and_label_keys_are_found_from_elsewhere(tmp_path, identity, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    path, sealed = saved(small(), "m.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity)
    for signer in None, "me":
        monkeypatch.chdir(tmp_path)
        (tmp_path / "signers").write_text("")
        onnxseal.patch(identity=identity, allowed_signers="signers", signer=signer, label_key="label.key")
        monkeypatch.chdir("elsewhere")
        # It is read, and has no signer.
        with pytest.raises(onnxseal.Error) as raised:
            InferenceSession(sealed, **OPTIONS)
        assert not isinstance(raised.value, onnxseal.IoError), raised.value


PROGRAM = """
import os, sys
import numpy
from onnxruntime import InferenceSession
os.chdir("/")
session = InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
inputs = {v.name: numpy.ones(v.shape, numpy.float32) for v in session.get_inputs()}
print(float(session.run(None, inputs)[0].sum()))
"""


def test_a_program_that_changes_its_folder_finds_its_key(tmp_path, identity):
    path, sealed = saved(small(), tmp_path / "m.onnx"), tmp_path / "sealed.onnx"
    onnxseal.protect(path, sealed, recipients=identity)
    identity.save(tmp_path / "id.txt")
    (tmp_path / "app.py").write_text(PROGRAM)
    session = plain(path)
    [wanted] = session.run(None, {v.name: np.ones(v.shape, np.float32) for v in session.get_inputs()})
    for words, named in (["-i", "id.txt"], ""), ([], "id.txt"):
        command = [sys.executable, "-m", "onnxseal", "run", *words, "app.py", str(sealed)]
        environment = {**os.environ, "ONNXSEAL_IDENTITY": named}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert np.isclose(float(done.stdout), wanted.sum(), rtol=1e-4)
