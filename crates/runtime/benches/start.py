"""Starts a model in one of several ways, runs it once, and prints the seconds that took: see start.rs.

start.py WAY FOLDER [IDENTITY]: what a way reads is in FOLDER, as start.rs has put it there.
`start.py make-cryptotensors FOLDER` makes the file of that way.
"""

import base64
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort


def cryptotensors_keys():
    def value(seed):
        return base64.b64encode(bytes([seed] * 32)).decode()

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(bytes([2] * 32)).public_key().public_bytes_raw()
    public = base64.b64encode(public).decode()
    return (
        {"kty": "oct", "alg": "aes256gcm", "k": value(1), "kid": "enc"},
        {"kty": "okp", "alg": "ed25519", "crv": "Ed25519", "d": value(2), "x": public, "kid": "sign"},
    )


def make_cryptotensors(folder):
    """All weights of the model, encrypted, and the model without them."""
    import onnx
    from cryptotensors.numpy import save_file

    model = onnx.load(folder / "plain.onnx")
    large = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= 1024]
    enc, sign = cryptotensors_keys()
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in large}
    save_file(arrays, str(folder / "weights.cryptotensors"), config={"enc_key": enc, "sign_key": sign})
    for tensor in large:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="none.bin")
    (folder / "none.bin").touch()
    (folder / "bare.onnx").write_bytes(model.SerializeToString())


def plain(folder):
    return ort.InferenceSession(str(folder / "plain.onnx"))


def protected(folder, identity):
    import onnxseal

    return onnxseal.InferenceSession(str(folder / "protected.onnx"), identity=identity)


def with_options(folder, identity):
    import onnxseal

    return onnxseal.InferenceSession(str(folder / "protected.onnx"), ort.SessionOptions(), identity=identity)


def temp_file(folder, identity, tool):
    with tempfile.TemporaryDirectory(dir=folder) as clear:
        path = Path(clear) / "plain.onnx"
        arguments = ["unprotect", folder / "protected.onnx", "-i", identity, "-o", path, "--quiet"]
        subprocess.run([tool, *arguments], check=True)
        return ort.InferenceSession(str(path))


def age(folder, identity):
    opened = subprocess.run(["age", "-d", "-i", identity, folder / "plain.onnx.age"], check=True, stdout=subprocess.PIPE)
    return ort.InferenceSession(opened.stdout)


def cryptotensors(folder):
    import cryptotensors as library
    from cryptotensors.numpy import load_file

    library.register_direct_key_provider(keys=list(cryptotensors_keys()))
    weights = load_file(str(folder / "weights.cryptotensors"))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in weights.items()}
    options.add_external_initializers(list(values), list(values.values()))
    return ort.InferenceSession((folder / "bare.onnx").read_bytes(), options)


def main():
    way, folder, *rest = sys.argv[1:]
    folder = Path(folder)
    if way == "has":
        print(importlib.util.find_spec(str(folder)) is not None)
        return
    if way == "make-cryptotensors":
        make_cryptotensors(folder)
        return
    # Imports are no part of starting a model.
    if way in ("protected", "with_options", "cryptotensors"):
        importlib.import_module(way if way == "cryptotensors" else "onnxseal")
    start = time.perf_counter()
    session = globals()[way](folder, *rest)
    x = session.get_inputs()[0]
    session.run(None, {x.name: np.ones(x.shape, np.float32)})
    seconds = time.perf_counter() - start
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"seconds": seconds, "peak_kib": int(status["VmHWM"].split()[0])}))


main()
