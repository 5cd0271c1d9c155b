"""Makes sessions of a model in one of several ways, and prints what that took, a number a line: see main.rs.

`start.py start WAY FOLDER [IDENTITY]` starts it and runs it once, `start.py repeat ...` does so many times; what a way
reads is in FOLDER, as main.rs has put it there. `start.py make-cryptotensors FOLDER` makes the file of that way, and
`start.py has MODULE` tells whether it is there.
"""

import base64
import importlib.util
import os
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


def status(key):
    """A number in /proc/self/status; memory in KiB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def run(session):
    x = session.get_inputs()[0]
    session.run(None, {x.name: np.ones(x.shape, np.float32)})


def start(make, *arguments):
    bare = status("VmRSS")
    begin = time.perf_counter()
    session = make(*arguments)
    created = status("VmRSS")
    run(session)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "bare": bare, "created": created, "ran": status("VmRSS"), "peak": status("VmHWM")}


def repeat(make, *arguments, sessions=100, sessions_before=20):
    def held():
        descriptors = len(os.listdir("/proc/self/fd"))
        return {"descriptors": descriptors, "threads": status("Threads"), "memory": status("VmRSS")}

    for n in range(sessions):
        run(make(*arguments))
        if n + 1 == sessions_before:
            before = held()
    return before | {f"more_{what}": after - before[what] for what, after in held().items()}


def main():
    action, *rest = sys.argv[1:]
    if action == "has":
        print(importlib.util.find_spec(*rest) is not None)
        return
    if action == "make-cryptotensors":
        make_cryptotensors(Path(*rest))
        return
    way, folder, *rest = rest
    # Imports are no part of starting a model.
    if way in ("protected", "with_options", "cryptotensors"):
        importlib.import_module(way if way == "cryptotensors" else "onnxseal")
    numbers = {"start": start, "repeat": repeat}[action](globals()[way], Path(folder), *rest)
    for key, number in numbers.items():
        print(key, number)


main()
