"""Fingerprints from Python: the same copies and traces as those of the command."""

import io
import json
import os
import stat

import numpy as np
import onnx
import onnxruntime
import onnxseal
import pytest
from catalog import MODELS, digits_models
from digits import feed_of, held_out
from onnx import numpy_helper

NAME = "digits_cnn.onnx"
MODEL = MODELS / NAME
SESSION = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
OTHERS = [f"customer {i}" for i in range(40)]


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    path = tmp_path_factory.mktemp("vendor") / "secret"
    onnxseal.generate_fingerprint_secret(path)
    return path


def marked(secret, **more):
    """The bytes of a copy for acme, and the report."""
    into = io.BytesIO()
    report = onnxseal.apply_fingerprint(MODEL, into, customer="acme", secret=secret, **more)
    return into.getvalue(), report


def digits():
    """The samples by the name of the model's input, and their labels."""
    pixels, labels = held_out()
    return {SESSION.get_inputs()[0].name: feed_of(digits_models()[NAME]["input"], pixels)}, labels


def traced(leak, secret, **more):
    customers = ["acme", "globex", *OTHERS]
    return onnxseal.trace_fingerprint(leak, original=MODEL, secret=secret, customers=customers, **more)


def accused(report):
    return [suspect["customer"] for suspect in report["suspects"] if suspect["accused"]]


def test_a_secret_is_written_once_and_encrypted_to_recipients(secret, tmp_path):
    assert stat.S_IMODE(os.stat(secret).st_mode) == 0o600
    before = secret.read_bytes()
    with pytest.raises(onnxseal.UsageError, match="never overwritten"):
        onnxseal.generate_fingerprint_secret(secret)
    assert secret.read_bytes() == before
    identity = onnxseal.generate_identity()
    path = tmp_path / "secret.age"
    onnxseal.generate_fingerprint_secret(path, identity)
    assert path.read_bytes().startswith(b"-----BEGIN AGE ENCRYPTED FILE-----")
    with pytest.raises(onnxseal.UsageError, match="identity"):
        marked(path, check=False)
    with pytest.raises(onnxseal.NoMatchingKeyError):
        marked(path, check=False, identity=onnxseal.generate_identity())
    copy, _ = marked(path, check=False, identity=identity)
    assert accused(traced(copy, path, identity=identity)) == ["acme"]
    # Of another secret, nothing is known.
    assert accused(traced(copy, secret)) == []


def test_the_command_and_python_make_and_trace_the_same(secret, tmp_path, tool):
    copy, report = marked(secret, check=False)
    at = tmp_path / "copy.onnx"
    command = tool("fingerprint", "apply", MODEL, "--customer", "acme", "--secret", secret, "--no-check", "-o", at, "--json")
    assert at.read_bytes() == copy
    found = json.loads(command.stdout)
    assert report["not_compared"] == "check=False was given"
    assert {**found, "not_compared": None} == {**report, "not_compared": None}
    names = [name for customer in ["acme", "globex", *OTHERS] for name in ("--customer", customer)]
    command = tool("fingerprint", "trace", at, "--original", MODEL, "--secret", secret, *names, "--json")
    assert json.loads(command.stdout) == traced(copy, secret)


def test_a_copy_answers_as_the_original(secret):
    feed, labels = digits()
    copy, report = marked(secret, data=feed, labels=labels)
    onnx.checker.check_model(onnx.load_model_from_string(copy))
    compared = report["comparison"]
    session = onnxruntime.InferenceSession(copy, providers=["CPUExecutionProvider"])
    answers = [run.run(None, feed)[0] for run in (SESSION, session)]
    classes = [answer.argmax(1) for answer in answers]
    assert compared["samples"] == len(labels) and not compared["is_random"] and not compared["is_moved"]
    assert compared["changed_classes"] == (classes[0] != classes[1]).sum()
    assert compared["accuracy"] == pytest.approx([(found == labels).mean() for found in classes])
    largest = np.abs(answers[0]).max()
    assert compared["difference"] == pytest.approx(np.abs(answers[1] - answers[0]).max() / largest, rel=1e-2)
    assert 0 < compared["difference"] < 0.05


def test_answers_that_move_are_told(secret):
    """Labels that are what the original says: whatever changes is wrong."""
    feed, _ = digits()
    answers = SESSION.run(None, feed)[0]
    labels = answers.argmax(1)
    # Only the pictures whose two best classes are close.
    scores = np.sort(answers, axis=1)
    close = np.argsort(scores[:, -1] - scores[:, -2])[:40]
    feed, labels = {name: values[close] for name, values in feed.items()}, labels[close]
    copy, report = marked(secret, data=feed, labels=labels, strength=0.2)
    changed = report["comparison"]["changed_classes"]
    assert report["comparison"]["accuracy"] == [1.0, pytest.approx(1 - changed / 40)]
    assert report["comparison"]["is_moved"] == (changed > 6)
    _, report = marked(secret, data=feed, strength=0.2)
    assert report["comparison"]["accuracy"] is None
    assert report["comparison"]["is_moved"] == (changed > 0)


def test_protect_marks_what_it_protects(secret, tmp_path):
    identity = onnxseal.generate_identity()
    copy, _ = marked(secret, check=False)
    mark = {"fingerprint": "acme", "fingerprint_secret": secret}
    onnxseal.protect(MODEL, tmp_path / "sealed.onnx", recipients=identity, **mark)
    assert [path.name for path in tmp_path.iterdir()] == ["sealed.onnx"]
    assert bytes(onnxseal.open(tmp_path / "sealed.onnx", identity).model_bytes) == copy
    into = io.BytesIO()
    onnxseal.protect(MODEL.read_bytes(), into, recipients=identity, **mark)
    assert bytes(onnxseal.open(into.getvalue(), identity).model_bytes) == copy
    (tmp_path / "model.onnx").write_bytes(MODEL.read_bytes())
    onnxseal.protect(tmp_path / "model.onnx", recipients=identity, in_place=True, **mark)
    assert bytes(onnxseal.open(tmp_path / "model.onnx", identity).model_bytes) == copy
    for part in ({"fingerprint": "acme"}, {"fingerprint_secret": secret}, {"fingerprint_identity": identity}):
        with pytest.raises((onnxseal.UsageError, TypeError)):
            onnxseal.protect(MODEL, io.BytesIO(), recipients=identity, **part)
    # A protected leak has to be opened first.
    with pytest.raises(onnxseal.UsageError, match="unprotect"):
        traced(tmp_path / "model.onnx", secret)
    with pytest.raises(onnxseal.UsageError, match="unprotect"):
        onnxseal.apply_fingerprint(tmp_path / "model.onnx", io.BytesIO(), customer="acme", secret=secret)


def test_a_leak_that_was_changed_is_traced(secret):
    copy, _ = marked(secret, check=False)
    model = onnx.load_model_from_string(copy)
    for i, tensor in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        name = tensor.name
        if values.dtype == np.float32 and values.size >= 256:
            noise = np.random.default_rng(i).normal(0, 0.02 * values.std(), values.shape)
            tensor.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), name))
    report = traced(model, secret)
    assert accused(report) == ["acme"]
    assert 10 < report["suspects"][0]["z"] and report["suspects"][1]["z"] < report["threshold"]
    assert accused(traced(MODEL, secret)) == []


def test_mistakes_are_told(secret, tmp_path):
    with pytest.raises(onnxseal.UsageError, match="name"):
        onnxseal.apply_fingerprint(MODEL, io.BytesIO(), customer="", secret=secret, check=False)
    with pytest.raises(onnxseal.UsageError, match="no customers"):
        onnxseal.trace_fingerprint(MODEL, original=MODEL, secret=secret, customers=[])
    with pytest.raises(onnxseal.UsageError, match="listed twice"):
        onnxseal.trace_fingerprint(MODEL, original=MODEL, secret=secret, customers=["a", "a"])
    with pytest.raises(onnxseal.MalformedError, match="not a fingerprint secret"):
        marked(MODEL.with_name("models.json"))
    with pytest.raises(onnxseal.UsageError):
        onnxseal.apply_fingerprint(MODEL, secret, customer="acme", secret=secret, check=False, replace=True)
    # A single customer needs no list, and nothing of the secret is in an answer.
    report = onnxseal.trace_fingerprint(MODEL, original=MODEL, secret=secret, customers="acme")
    assert [suspect["customer"] for suspect in report["suspects"]] == ["acme"]


def test_a_call_ends_when_its_progress_fails(secret):
    def stop(done, total):
        raise KeyError("enough")

    into = io.BytesIO()
    with pytest.raises(KeyError):
        onnxseal.apply_fingerprint(MODEL, into, customer="acme", secret=secret, check=False, progress=stop)
    assert not into.getvalue()
