"""Modules of the digits' fixtures for finetune_attack.py, and their test images as it reads them.

    python finetune_digits.py rows digits.npz              # nchw, rows, flat or tokens
    python finetune_attack.py ../fixtures/models/digits_lstm.onnx --module finetune_digits.py:lstm --data digits.npz ...

The architectures are those of fixtures/make_models.py. Each function takes the onnx.ModelProto and puts its numbers
into the module's parameters, each at one place.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import torch
from onnx import numpy_helper
from torch import nn

TEST = Path(__file__).parent.parent / "fixtures" / "models" / "digits_test.csv"


def weights(model, op_type):
    """The initializers that each node of a type reads."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == op_type]
    return [[torch.tensor(found[name]) for name in node.input if name in found] for node in nodes]


def put(parameters, values):
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value.reshape(parameter.shape))


def cnn(model):
    # The normalisation is folded into the first convolution.
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    put(net.parameters(), [w for node in weights(model, "Conv") + weights(model, "Gemm") for w in node])
    return net


class Recurrent(nn.Module):
    def __init__(self, cell):
        super().__init__()
        outputs = cell.hidden_size * (2 if cell.bidirectional else 1)
        self.cell, self.head = cell, nn.Linear(outputs, 10)

    def forward(self, rows):
        return self.head(self.cell(rows)[0][:, -1])


def recurrent(model, net, op_type, order):
    """ONNX has `W [D, G*H, I]`, `R [D, G*H, H]`, `B [D, 2*G*H]` with gates in another order than PyTorch."""
    (w, r, b), (head_weight, head_bias) = weights(model, op_type)[0], weights(model, "Gemm")[0]

    def gates(tensor):
        parts = tensor.chunk(len(order))
        return torch.cat([parts[i] for i in order])

    values = []
    for direction in range(len(w)):
        of_input, of_state = b[direction].chunk(2)
        values += [gates(part) for part in (w[direction], r[direction], of_input, of_state)]
    put(net.parameters(), values + [head_weight, head_bias])
    return net


def lstm(model):
    net = Recurrent(nn.LSTM(8, 24, batch_first=True, bidirectional=True))
    # i, o, f, c to i, f, c, o
    return recurrent(model, net, "LSTM", [0, 2, 3, 1])


def gru(model):
    # z, r, h to r, z, h
    return recurrent(model, Recurrent(nn.GRU(8, 24, batch_first=True)), "GRU", [1, 0, 2])


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(17 * 64, 12), nn.Linear(12, 10)

    def forward(self, tokens):
        return self.head(torch.relu(self.table(tokens).sum(1)))


def embedding(model):
    net = Embedding()
    put(net.parameters(), weights(model, "Gather")[0] + weights(model, "Gemm")[0])
    return net


def sklearn_mlp(model):
    """Without what follows the last layer: scores tell the digit as well as its name does."""
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    (first,), (second,) = weights(model, "MatMul")
    (first_bias,), (second_bias,) = weights(model, "Add")
    put(net.parameters(), [first.T, first_bias, second.T, second_bias])
    return net


def main():
    kind, path = sys.argv[1:]
    with open(TEST, newline="") as file:
        rows = np.array([[int(value) for value in row] for row in list(csv.reader(file))[1:]])
    pixels, labels = rows[:, 1:], rows[:, 0]
    scaled = (pixels / 16).astype(np.float32)
    inputs = {
        "nchw": lambda: scaled.reshape(-1, 1, 8, 8),
        "rows": lambda: scaled.reshape(-1, 8, 8),
        "flat": lambda: pixels.astype(np.float32),
        "tokens": lambda: (pixels + 17 * np.arange(64)).astype(np.int64),
    }[kind]()
    np.savez(path, inputs=inputs, labels=labels)


if __name__ == "__main__":
    main()
