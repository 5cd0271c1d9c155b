"""The Python package under test, and models made for it."""

import numpy as np
import onnx
import onnxruntime
import onnxseal
from onnx import TensorProto, helper, numpy_helper

OPTIONS = dict(providers=["CPUExecutionProvider"])


def options():
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = 1
    made.use_deterministic_compute = True
    return made


def session(model, identity, sess_options=options, **more):
    return onnxseal.InferenceSession(model, sess_options, identity=identity, **OPTIONS, **more)


def plain(model):
    return onnxruntime.InferenceSession(model, options(), **OPTIONS)


def made(nodes, weights, inputs, outputs, opsets=(("", 17),)):
    """A model of float inputs and outputs, given as shapes by name."""
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in some.items()]
        for some in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", *values, initializers)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid(*opset) for opset in opsets])


def numbers(*shape, seed=7):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def layers(size=256):
    """Two weights that ONNX Runtime can use where they lie, and a Conv's, that it cannot."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "first"], ["m"]),
        helper.make_node("Relu", ["m"], ["a"]),
        helper.make_node("MatMul", ["a", "second"], ["y"]),
    ]
    side = 16
    weights = {
        "kernel": numbers(32, 16, 3, 3, seed=1),
        "shape": np.array([1, -1], np.int64),
        "first": numbers(32 * side * side, size, seed=2),
        "second": numbers(size, size, seed=3),
    }
    return made(nodes, weights, {"x": [1, 16, side, side]}, {"y": [1, size]})


def folded():
    """A weight that looks as if it could be used where it lies, but that ONNX Runtime folds."""
    nodes = [
        helper.make_node("Gather", ["table", "rows"], ["g"]),
        helper.make_node("Add", ["x", "g"], ["y"]),
    ]
    weights = {"table": numbers(512, 64), "rows": np.array([3, 500], np.int64)}
    return made(nodes, weights, {"x": [2, 64]}, {"y": [2, 64]})


def feed(model):
    return {value.name: numbers(*value.shape, seed=11) for value in model.get_inputs()}


def saved(model, path):
    onnx.save(model, path)
    return path
