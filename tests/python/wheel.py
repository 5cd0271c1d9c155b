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


def wanted():
    """Models with a weight `w` that looks as if it could be used where it lies, and that optimizations read."""
    node = helper.make_node
    w, end = numbers(64, 128), {"y": [2, 128]}
    normal = {name: np.abs(numbers(128, seed=seed)) for seed, name in enumerate("sbmv")}
    normalized = node("BatchNormalization", ["n", *"sbmv"], ["y"])
    product = node("MatMul", ["x", "w"], ["p"])
    ends = {"x": [2, 64]}, end
    shaped = {"w": w, **normal, "shape": np.array([2, 128], np.int64)}
    return {
        "normalized": made([node("MatMul", ["x", "w"], ["n"]), normalized], {"w": w, **normal}, *ends),
        "biased, normalized": made([product, node("Add", ["p", "b"], ["n"]), normalized], {"w": w, **normal}, *ends),
        "reshaped, normalized": made([product, node("Reshape", ["p", "shape"], ["n"]), normalized], shaped, *ends),
        "folded": folded("w"),
        "folded by a shape": made(
            [
                node("Shape", ["x"], ["i"]),
                node("Gather", ["w", "i"], ["g"]),
                node("ReduceMax", ["g"], ["m"]),
                node("Add", ["x", "m"], ["y"]),
            ],
            {"w": numbers(512, 64)}, {"x": [2, 64]}, {"y": [2, 64]},
        ),
        "folded product": made(
            [node("MatMul", ["a", "w"], ["p"]), node("Add", ["x", "p"], ["y"])],
            {"a": numbers(2, 64), "w": w}, {"x": [2, 128]}, end,
        ),
        "joined": attention(),
    }  # fmt: skip


def attention(size=128, heads=4, length=8):
    """Self-attention as encoders have it, which ONNX Runtime makes one operator of; `w` is the query's weight."""
    node, weights = helper.make_node, {"heads": np.array([0, 0, heads, size // heads], np.int64)}
    weights |= {"scale": numbers(size), "bias": numbers(size, seed=8), "all": np.array([0, 0, size], np.int64)}
    weights |= {"root": np.array((size / heads) ** 0.5, np.float32), "out": numbers(size, size, seed=9)}
    nodes = [node("LayerNormalization", ["x", "scale", "bias"], ["n"])]
    for seed, (name, order) in enumerate({"w": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}.items()):
        weights |= {name: numbers(size, size, seed=seed), name + "b": numbers(size, seed=seed)}
        nodes += [
            node("MatMul", ["n", name], [name + "1"]),
            node("Add", [name + "b", name + "1"], [name + "2"]),
            node("Reshape", [name + "2", "heads"], [name + "3"]),
            node("Transpose", [name + "3"], [name + "4"], perm=order),
        ]
    nodes += [
        node("MatMul", ["w4", "k4"], ["wk"]),
        node("Div", ["wk", "root"], ["d"]),
        node("Add", ["d", "mask"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=3),
        node("MatMul", ["p", "v4"], ["o"]),
        node("Transpose", ["o"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "all"], ["r"]),
        node("MatMul", ["r", "out"], ["m"]),
        node("Add", ["m", "bias"], ["b"]),
        node("Add", ["b", "n"], ["y"]),
    ]
    inputs = {"x": [1, length, size], "mask": [1, 1, 1, length]}
    return made(nodes, weights, inputs, {"y": [1, length, size]})


def folded(name="table"):
    """A weight that looks as if it could be used where it lies, but that ONNX Runtime folds."""
    nodes = [
        helper.make_node("Gather", [name, "rows"], ["g"]),
        helper.make_node("Add", ["x", "g"], ["y"]),
    ]
    weights = {name: numbers(512, 64), "rows": np.array([3, 500], np.int64)}
    return made(nodes, weights, {"x": [2, 64]}, {"y": [2, 64]})


def feed(model):
    return {value.name: numbers(*value.shape, seed=11) for value in model.get_inputs()}


def saved(model, path):
    onnx.save(model, path)
    return path
