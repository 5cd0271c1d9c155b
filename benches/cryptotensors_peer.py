"""Encrypts a file's bytes as one tensor with cryptotensors and opens them again; prints the seconds each took.

python cryptotensors_peer.py FILE OUTPUT    (needs cryptotensors, cryptography and numpy)
"""
import base64
import secrets
import sys
import time

import cryptotensors
import numpy
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptotensors.numpy import load_file, save_file


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def main(source: str, output: str) -> None:
    raw = serialization.Encoding.Raw
    signer = Ed25519PrivateKey.generate()
    secret = signer.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = signer.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    enc_key = {"kty": "oct", "alg": "aes256gcm", "use": "enc", "kid": "enc", "k": b64(secrets.token_bytes(32)),
               "key_ops": ["encrypt", "decrypt"]}
    sign_key = {"kty": "okp", "alg": "ed25519", "crv": "ed25519", "use": "sig", "kid": "sign", "x": b64(public),
                "d": b64(secret), "key_ops": ["sign", "verify"]}
    cryptotensors.register_direct_key_provider(keys=[enc_key, sign_key])
    tensors = {"model": numpy.fromfile(source, dtype=numpy.uint8)}
    begun = time.perf_counter()
    save_file(tensors, output, config={"enc_key": enc_key, "sign_key": sign_key})
    saved = time.perf_counter()
    load_file(output)
    print(saved - begun, time.perf_counter() - saved)


main(*sys.argv[1:])
