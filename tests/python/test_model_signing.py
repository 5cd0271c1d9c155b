"""Protected models are files: sigstore's model-signing signs them from outside, with a local key and no network."""

import os
import shutil
import subprocess
import sys

import pyrage
import pytest
from catalog import MODELS, files_below
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

# Nobody answers there: what wants the network fails.
OFFLINE = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}


class Signer:
    """model_signing's command line with a key pair of its own."""

    def __init__(self, folder):
        key = ec.generate_private_key(ec.SECP256R1())
        self.private, self.public = folder / "key.pem", folder / "key.pub.pem"
        self.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.public.write_bytes(public)
        self.signature = folder / "model.sig"

    def sign(self, folder):
        done = self.run("sign", "key", folder, "--signature", self.signature, "--private_key", self.private)
        assert done.returncode == 0, done.stderr

    def verify(self, folder):
        """`None` where it accepts, else what it says, which quotes in more than one way."""
        done = self.run("verify", "key", folder, "--signature", self.signature, "--public_key", self.public)
        return None if done.returncode == 0 else (done.stdout + done.stderr).replace("\\'", "'")

    @staticmethod
    def run(*arguments):
        command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | OFFLINE)


@pytest.fixture
def signer(tmp_path):
    return Signer(tmp_path)


@pytest.fixture
def signed(signer, tool, tmp_path):
    """A protected model with external data, in a folder that is signed."""
    folder = tmp_path / "model"
    folder.mkdir()
    tool.protect(MODELS / "digits_cnn_dynamo.onnx", folder / "digits.onnx")
    signer.sign(folder)
    assert signer.verify(folder) is None
    return folder


def test_a_signed_model_opens_and_stays_signed(signer, signed, tool, tmp_path):
    tool("verify", signed / "digits.onnx", "-i", tool.identity_file)
    out = tmp_path / "out"
    out.mkdir()
    tool.unprotect(signed / "digits.onnx", out / "digits.onnx")
    assert (out / "digits.onnx").read_bytes() == (MODELS / "digits_cnn_dynamo.onnx").read_bytes()
    assert signer.verify(signed) is None


@pytest.mark.parametrize("name", ["digits.onnx", "digits_cnn_dynamo.onnx.data"])
def test_one_changed_byte_is_refused(name, signer, signed):
    before = (signed / name).read_bytes()
    for at in (0, len(before) // 2, len(before) - 1):
        changed = bytearray(before)
        changed[at] ^= 1
        (signed / name).write_bytes(changed)
        assert f"Hash mismatch for '{name}'" in signer.verify(signed)
    (signed / name).write_bytes(before)
    assert signer.verify(signed) is None


def test_another_key_and_another_model_are_refused(signer, signed, tool, tmp_path):
    (tmp_path / "other").mkdir()
    other = Signer(tmp_path / "other")
    shutil.copy(signer.signature, other.signature)
    assert other.verify(signed) is not None

    names = files_below(signed)
    shutil.rmtree(signed)
    signed.mkdir()
    tool.protect(MODELS / "digits_cnn_dynamo.onnx", signed / "digits.onnx")
    assert files_below(signed) == names
    assert signer.verify(signed) is not None


def test_rekey_breaks_it(signer, signed, tool):
    """It signs whole files, the wrapped data key among them: docs/SIGNING.md."""
    friend = pyrage.x25519.Identity.generate().to_public()
    tool("rekey", signed / "digits.onnx", "-i", tool.identity_file, "-r", friend)
    assert "Hash mismatch for 'digits.onnx'" in signer.verify(signed)
    signer.sign(signed)
    assert signer.verify(signed) is None
