#!/usr/bin/env python3
"""Trains marked copies of a model further, as leakers do, and traces what comes of it.

    python fingerprint_finetune.py [FOLDER]

FOLDER has the images and labels of MNIST (*-images-idx3-ubyte.gz, *-labels-idx1-ubyte.gz). 5,000 are
taken, in a quarter of an hour. Without it the net learns the 200 digits of the fixtures in a minute.
Half of the images train the original, a convolutional net of 400,000 weights. A vendor marks it for a
customer, who trains their copy on most of the other half. The rest is the test.

    SGD          three settings, from a mild one to one that moves weights far
    Adam         two settings
    head anew    the last layer starts from random numbers, all layers are trained
    anew         no weight of the copy is used: the architecture alone
    distilled    as above, and the labels are the copy's answers

The table has the accuracy, how far weights moved (the difference from the copy over the deviation of the
original's weights, of the layer that moved least and of the one that moved most), and z. Of 51 customers
one is accused from 6.0 on. Weights that owe nothing to the copy have no mark: `anew` and `distilled`.

Needs numpy, onnx, and the command onnxseal.
"""

import argparse
import csv
import gzip
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, load, numpy_helper, save
from numpy.lib.stride_tricks import sliding_window_view

DIGITS = Path(__file__).parent.parent / "fixtures" / "models" / "digits_test.csv"
CUSTOMER = "acme"
INNOCENTS = 50
IMAGES = 5000
BATCH = 25
# Name, what the weights begin with, and how they are trained.
LEAKS = [
    ("as it is", "copy", {"epochs": 0}),
    ("SGD 0.01, 3 epochs", "copy", {"rate": 0.01, "epochs": 3}),
    ("SGD 0.05, 10 epochs", "copy", {"rate": 0.05, "epochs": 10}),
    ("SGD 0.1, 10 epochs", "copy", {"rate": 0.1, "epochs": 10}),
    ("Adam 0.0001, 5 epochs", "copy", {"rate": 1e-4, "epochs": 5, "adam": True}),
    ("Adam 0.001, 10 epochs", "copy", {"rate": 1e-3, "epochs": 10, "adam": True}),
    ("head anew, SGD 0.05, 5 epochs", "head", {"rate": 0.05, "epochs": 5}),
    ("anew", "nothing", {"rate": 1e-3, "epochs": 10, "adam": True}),
    ("distilled", "nothing", {"rate": 1e-3, "epochs": 10, "adam": True, "teacher": True}),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", nargs="?", type=Path, metavar="FOLDER", help="MNIST; the fixtures' digits without it")
    parser.add_argument("--onnxseal", default="onnxseal", help="the command")
    options = parser.parse_args()
    images, labels = mnist(options.mnist) if options.mnist else digits()
    order = np.random.default_rng(0).permutation(len(images))[:IMAGES]
    vendor, leaker, test = np.split(order, [len(order) // 2, len(order) * 4 // 5])
    original = train(fresh(images.shape[-1], 1), images[vendor], labels[vendor], rate=1e-3, epochs=10, adam=True)

    with tempfile.TemporaryDirectory() as folder:
        vault = Vault(options.onnxseal, Path(folder), original, images.shape[-1])
        copy = vault.copy()
        right = accuracy(original, images[test], labels[test])
        print(f"{sum(w.size for w in original.values()):,} weights, accuracy {right:.1%}")
        print("| leak | accuracy | weights moved by | z | best of the innocents | |\n|---|---|---|---|---|---|")
        for name, begin, how in LEAKS:
            anew = fresh(images.shape[-1], 2)
            weights = {"copy": copy, "head": copy | {"w4": anew["w4"], "b4": anew["b4"]}, "nothing": anew}[begin]
            answers = softmax(forward(copy, images[leaker])[0]) if how.get("teacher") else labels[leaker]
            leak = train(weights, images[leaker], answers, **{key: how[key] for key in how if key != "teacher"})
            moved = [np.std(leak[key] - copy[key]) / np.std(original[key]) for key in original if key[0] == "w"]
            right = accuracy(leak, images[test], labels[test])
            guilty, innocent, verdict = vault.trace(leak)
            span = f"{min(moved):.0%} to {max(moved):.0%}"
            print(f"| {name} | {right:.1%} | {span} | {guilty:.1f} | {innocent:.1f} | {verdict} |", flush=True)


class Vault:
    """A vendor's secret, with which copies are marked and leaks traced."""

    def __init__(self, command, folder, original, side):
        self.command, self.folder, self.side = command, folder, side
        self.run("keygen", "-o", self.at("secret"))
        write(self.at("original.onnx"), original, side)
        names = [CUSTOMER, *(f"innocent {i}" for i in range(INNOCENTS))]
        self.at("customers").write_text("\n".join(names) + "\n")

    def at(self, name):
        return self.folder / name

    def run(self, *arguments):
        command = [self.command, "fingerprint", *map(str, arguments)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def copy(self):
        where = ["--secret", self.at("secret"), "-o", self.at("copy.onnx")]
        self.run("apply", self.at("original.onnx"), "--customer", CUSTOMER, *where)
        tensors = load(self.at("copy.onnx")).graph.initializer
        return {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in tensors}

    def trace(self, weights):
        """The guilty's z, the innocents' highest, and the verdict."""
        write(self.at("leak.onnx"), weights, self.side)
        where = ["--original", self.at("original.onnx"), "--secret", self.at("secret")]
        among = ["--customers", self.at("customers"), "--json"]
        report = json.loads(self.run("trace", self.at("leak.onnx"), *where, *among))
        z = {suspect["customer"]: suspect["z"] for suspect in report["suspects"]}
        accused = [suspect["customer"] for suspect in report["suspects"] if suspect["accused"]]
        guilty = z.pop(CUSTOMER)
        return guilty, max(z.values()), f"accused: {', '.join(accused)}" if accused else "no one accused"


# --- data -----------------------------------------------------------------------------------------


def mnist(folder):
    def read(pattern, skip, dtype):
        files = sorted(folder.glob(pattern))
        return np.concatenate([np.frombuffer(gzip.decompress(file.read_bytes())[skip:], dtype) for file in files])

    images = read("*images-idx3-ubyte.gz", 16, np.uint8).reshape(-1, 1, 28, 28)
    return images.astype(np.float32) / 255, read("*labels-idx1-ubyte.gz", 8, np.uint8).astype(int)


def digits():
    with open(DIGITS) as file:
        rows = np.array([[int(value) for value in row] for row in list(csv.reader(file))[1:]])
    return rows[:, 1:].reshape(-1, 1, 8, 8).astype(np.float32) / 16, rows[:, 0]


# --- the net --------------------------------------------------------------------------------------


def fresh(side, seed):
    """Random weights: two convolutions, each with pooling if pictures are large, and two layers."""
    rng = np.random.default_rng(seed)
    flat = 32 * (side // 4) ** 2 if side > 16 else 32 * (side // 2) ** 2
    shapes = [(16, 1, 3, 3), (32, 16, 3, 3), (400_000 // flat, flat), (10, 400_000 // flat)]
    weights = {}
    for i, shape in enumerate(shapes, 1):
        deviation = (2 / np.prod(shape[1:])) ** 0.5
        weights[f"w{i}"] = (deviation * rng.standard_normal(shape)).astype(np.float32)
        weights[f"b{i}"] = np.zeros(shape[0], np.float32)
    return weights


def pools(side):
    return [side > 16, True]


def patches(x):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), (2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(len(x) * x.shape[2] * x.shape[3], -1)


def forward(weights, x):
    """The scores, and what the way back needs."""
    kept = []
    for i, pool in enumerate(pools(x.shape[-1]), 1):
        columns, shape = patches(x), x.shape
        y = columns @ weights[f"w{i}"].reshape(len(weights[f"w{i}"]), -1).T + weights[f"b{i}"]
        y = y.reshape(shape[0], shape[2], shape[3], -1).transpose(0, 3, 1, 2)
        mask = y > 0
        x = y * mask
        first = None
        if pool:
            n, c, h, w = x.shape
            blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
            first = blocks.argmax(-1)[..., None]
            x = np.take_along_axis(blocks, first, -1)[..., 0]
        kept.append((columns, shape, mask, first))
    flat = x.reshape(len(x), -1)
    hidden = np.maximum(flat @ weights["w3"].T + weights["b3"], 0)
    return hidden @ weights["w4"].T + weights["b4"], (kept, x.shape, flat, hidden)


def slopes(weights, x, answers):
    """The gradient of the cross entropy; answers are shares of classes."""
    scores, (kept, shape, flat, hidden) = forward(weights, x)
    up = (softmax(scores) - answers) / len(x)
    found = {"w4": up.T @ hidden, "b4": up.sum(0)}
    up = up @ weights["w4"] * (hidden > 0)
    found |= {"w3": up.T @ flat, "b3": up.sum(0)}
    up = (up @ weights["w3"]).reshape(shape)
    for i, (columns, shape, mask, first) in reversed(list(enumerate(kept, 1))):
        if first is not None:
            n, c, h, w = up.shape
            blocks = np.zeros((n, c, h, w, 4), np.float32)
            np.put_along_axis(blocks, first, up[..., None], -1)
            up = blocks.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)
        up = (up * mask).transpose(0, 2, 3, 1).reshape(len(columns), -1)
        found |= {f"w{i}": (up.T @ columns).reshape(weights[f"w{i}"].shape), f"b{i}": up.sum(0)}
        if i > 1:
            n, c, h, w = shape
            back = (up @ weights[f"w{i}"].reshape(up.shape[1], -1)).reshape(n, h, w, c, 3, 3)
            padded = np.zeros((n, c, h + 2, w + 2), np.float32)
            for row in range(3):
                for column in range(3):
                    padded[:, :, row : row + h, column : column + w] += back[..., row, column].transpose(0, 3, 1, 2)
            up = padded[:, :, 1:-1, 1:-1]
    return found


def train(weights, x, labels, rate=0.0, epochs=1, adam=False):
    weights = {name: value.copy() for name, value in weights.items()}
    answers = labels if labels.ndim == 2 else np.eye(10, dtype=np.float32)[labels]
    first = {name: np.zeros_like(value) for name, value in weights.items()}
    second = {name: np.zeros_like(value) for name, value in weights.items()}
    rng, step = np.random.default_rng(3), 0
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(len(x)), max(len(x) // BATCH, 1)):
            step += 1
            for name, slope in slopes(weights, x[batch], answers[batch]).items():
                first[name] = 0.9 * first[name] + (0.1 if adam else 1) * slope
                change = first[name]
                if adam:
                    second[name] = 0.999 * second[name] + 0.001 * slope**2
                    change = change / (1 - 0.9**step) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
                weights[name] -= np.float32(rate) * change
    return weights


def softmax(scores):
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def accuracy(weights, x, labels):
    parts = np.array_split(np.arange(len(x)), max(len(x) // 500, 1))
    return np.mean(np.concatenate([forward(weights, x[part])[0].argmax(1) == labels[part] for part in parts]))


def write(path, weights, side):
    nodes, name = [], "x"
    for i, pool in enumerate(pools(side), 1):
        nodes += [helper.make_node("Conv", [name, f"w{i}", f"b{i}"], [f"c{i}"], pads=[1, 1, 1, 1])]
        nodes += [helper.make_node("Relu", [f"c{i}"], [f"r{i}"])]
        name = f"r{i}"
        if pool:
            nodes += [helper.make_node("MaxPool", [name], [f"p{i}"], kernel_shape=[2, 2], strides=[2, 2])]
            name = f"p{i}"
    nodes += [
        helper.make_node("Flatten", [name], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["hr"]),
        helper.make_node("Gemm", ["hr", "w4", "b4"], ["y"], transB=1),
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, side, side])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])]
    graph = helper.make_graph(nodes, "digits", inputs, outputs, tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


if __name__ == "__main__":
    main()
