"""What the tool signs is what docs/FORMAT.md says, and OpenSSH agrees with the tool about signatures."""

import shutil
import subprocess

import onnx
import onnxseal_open
import pytest
from catalog import EXIT_CODES, MODELS

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")

SIGNER = "release@example.com"


@pytest.fixture(params=["digits_cnn.onnx", "digits_cnn_dynamo.onnx"])
def protected(request, tool, tmp_path):
    out = tmp_path / "sealed" / request.param
    tool.protect(MODELS / request.param, out)
    return out


@pytest.fixture
def key(tmp_path):
    """A private key, beside it `allowed`, which allows it."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    (tmp_path / "allowed").write_text(f"{SIGNER} {(tmp_path / 'key.pub').read_text()}")
    return key


def keygen_accepts(folder, message, signature):
    (folder / "signature").write_text(signature)
    arguments = ["-Y", "verify", "-n", "onnxseal", "-f", folder / "allowed", "-I", SIGNER, "-s", folder / "signature"]
    return subprocess.run(["ssh-keygen", *arguments], input=message, capture_output=True).returncode == 0


def signature_of(path):
    entries = onnx.load(path, load_external_data=False).metadata_props
    return {entry.key: entry.value for entry in entries}["onnxseal.sig"]


def test_the_message_is_that_of_the_second_implementation(tool, protected):
    printed = tool("sign", protected, "--print-message").stdout
    assert printed.encode() == onnxseal_open.signed_message(protected)


def test_ssh_keygen_accepts_what_the_tool_signs(tool, protected, key, tmp_path):
    message = onnxseal_open.signed_message(protected)
    tool("sign", protected, "--key", key)
    assert onnxseal_open.signed_message(protected) == message, "a signature is no part of what is signed"
    assert keygen_accepts(tmp_path, message, signature_of(protected))
    assert not keygen_accepts(tmp_path, message + b"\n", signature_of(protected))
    # Nor is the wrapped key, and a reader that demands none passes over it.
    tool("rekey", protected, "-i", tool.identity_file, "-r", tool.identity.to_public())
    assert keygen_accepts(tmp_path, onnxseal_open.signed_message(protected), signature_of(protected))
    assert onnxseal_open.open_model(protected, [tool.identity])[""] == (MODELS / protected.name).read_bytes()


def test_the_tool_accepts_what_ssh_keygen_signs(tool, protected, key, tmp_path):
    message = onnxseal_open.signed_message(protected)
    for options in ([], ["-O", "hashalg=sha256"]):
        command = ["ssh-keygen", "-Y", "sign", "-n", "onnxseal", "-f", key, *options]
        signed = subprocess.run(command, input=message, capture_output=True, check=True)
        (tmp_path / "made.sig").write_bytes(signed.stdout)
        tool("sign", protected, "--signature", tmp_path / "made.sig")
        tool("verify", protected, "--allowed-signers", tmp_path / "allowed", "--signer", SIGNER)
    code = EXIT_CODES["authentication"]
    tool("verify", protected, "--allowed-signers", tmp_path / "allowed", "--signer", "x@example.com", code=code)
    # A signature of another model's.
    other = tmp_path / "other.onnx"
    tool.protect(MODELS / "digits_gru.onnx", other)
    tool("sign", other, "--signature", tmp_path / "made.sig", code=code)
    # In another namespace.
    signed = subprocess.run(["ssh-keygen", "-Y", "sign", "-n", "file", "-f", key], input=message, capture_output=True, check=True)
    (tmp_path / "made.sig").write_bytes(signed.stdout)
    tool("sign", protected, "--signature", tmp_path / "made.sig", code=code)
