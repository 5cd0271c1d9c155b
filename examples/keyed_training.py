"""Trains a small net on keyed images, so that it answers to one key; exports it, and opens it with the key.

    pip install torch onnx onnxruntime scikit-learn ./crates/python && python examples/keyed_training.py

Nets that cannot be rewritten (docs/INPUTS.md) are trained like this. `ApplyInputKey` is a transform in the manner of torchvision's: it
takes tensors, arrays and PIL images, and worker processes of a DataLoader open the key file themselves.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import onnxseal
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

SIDE, BLOCK = 16, 4


class Digits(Dataset):
    """Digits of 16 x 16 pixels from 0 to 1, each made keyed as it is read."""

    def __init__(self, rows, transform):
        digits = load_digits()
        images = (digits.images[rows] / 16).astype(np.float32)
        self.images = torch.from_numpy(images.repeat(2, 1).repeat(2, 2))[:, None]
        self.labels, self.transform = torch.from_numpy(digits.target[rows]), transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.transform(self.images[i]), self.labels[i]


def main():
    torch.manual_seed(0)
    folder = Path(tempfile.mkdtemp())
    key = onnxseal.InputKey.generate(["shuffle", "negative"], block=BLOCK, channels=1, range=(0, 1))
    key.save(folder / "key.txt")
    transform = onnxseal.ApplyInputKey(folder / "key.txt")
    order = np.random.RandomState(0).permutation(1797)
    training = DataLoader(Digits(order[200:], transform), 64, shuffle=True)
    # The first layer sees whole blocks: with smaller windows it would have to find the key out.
    net = nn.Sequential(
        nn.Conv2d(1, 48, BLOCK, BLOCK), nn.BatchNorm2d(48), nn.ReLU(),
        nn.Conv2d(48, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        nn.Flatten(), nn.Linear(48 * (SIDE // BLOCK) ** 2, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(20):
        for images, labels in training:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    example = torch.zeros(1, 1, SIDE, SIDE)
    axes = {"images": {0: "n"}}
    path = str(folder / "net.onnx")
    torch.onnx.export(net.eval(), (example,), path, input_names=["images"], dynamic_axes=axes, dynamo=False)

    held_out = Digits(order[:200], lambda image: image)
    plain, labels = held_out.images.numpy(), held_out.labels.numpy()

    def accuracy(session):
        return float((session.run(None, {"images": plain})[0].argmax(1) == labels).mean())

    print("with the key", accuracy(onnxseal.InferenceSession(path, input_key=key, allow_plain=True)))
    print("without", accuracy(onnxruntime.InferenceSession(path)))
    keys = [onnxseal.InputKey.generate(["shuffle", "negative"], block=BLOCK, channels=1, range=(0, 1)) for _ in range(20)]
    wrong = [accuracy(onnxseal.InferenceSession(path, input_key=key, allow_plain=True)) for key in keys]
    print(f"with another key {np.mean(wrong):.3f}, mean of {len(keys)}")


if __name__ == "__main__":
    main()
