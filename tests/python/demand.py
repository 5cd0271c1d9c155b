"""A protected model whose weights are decrypted on demand, and programs that run sessions of it."""

import subprocess
import sys
import textwrap

import numpy as np
import onnx
import onnxseal
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxseal._onnxseal import _obstacle

WIDTH, N_LAYERS = 1024, 16
# The weights of all layers.
N_BYTES = N_LAYERS * WIDTH * WIDTH * 4

on_demand = pytest.mark.skipif(_obstacle() is not None, reason=f"weights are not decrypted on demand here: {_obstacle()}")


def products():
    """A chain of products. The first weight is looked up too, so that it is read whenever the session runs."""
    numbers = np.random.default_rng(1)
    nodes, weights, x = [], [], "x"
    for layer in range(N_LAYERS):
        weights.append(numpy_helper.from_array(numbers.standard_normal((WIDTH, WIDTH), np.float32) / 32, f"w{layer}"))
        y = "y" if layer + 1 == N_LAYERS else f"t{layer}"
        nodes.append(helper.make_node("MatMul", [x, f"w{layer}"], [y]))
        x = y
    nodes.append(helper.make_node("Gather", ["w0", "ids"], ["row"]))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH]),
        helper.make_tensor_value_info("ids", TensorProto.INT64, [1]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("y", "row")]
    graph = helper.make_graph(nodes, "products", inputs, outputs, weights)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


FEED = {"x": np.ones((1, WIDTH), np.float32), "ids": np.array([3])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A plain and a protected model with external data, and the identity."""
    folder = tmp_path_factory.mktemp("memory")
    onnx.save(products(), folder / "plain.onnx", save_as_external_data=True, location="plain.bin")
    identity = onnxseal.generate_identity()
    identity.save(folder / "id.txt")
    (folder / "recipient").write_text(identity.recipient)
    onnxseal.protect(folder / "plain.onnx", folder / "sealed.onnx", recipients=identity, external_data="sealed.bin")
    return folder


HEAD = """
import ctypes, gc, os, signal, statistics, struct, sys, threading, time
import numpy as np, onnxruntime, onnxseal
FEED = {"x": np.ones((1, 1024), np.float32), "ids": np.array([3])}
def options():
    # Versions before 1.23 share nothing with an object that others hold.
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = 1
    return made
def session(**more):
    return onnxseal.InferenceSession("sealed.onnx", options, identity="id.txt", **more)
def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024
def same(some, others):
    return all((one == other).all() for one, other in zip(some, others, strict=True))
def counts():
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
"""


def starts(folder, program, before=(), **more):
    """Starts a program in the folder, which has a session that `session()` makes, and `FEED`."""
    command = [*before, sys.executable, "-c", HEAD + textwrap.dedent(program)]
    return subprocess.Popen(command, cwd=folder, **more)


def runs(folder, program, expected=0, before=()):
    """Runs a program as `starts` starts it, and returns what it says."""
    process = starts(folder, program, before, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == expected, f"{process.returncode}\n{said}"
    return said
