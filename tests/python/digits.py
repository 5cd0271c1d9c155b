"""The test images of fixtures/models/digits_test.csv, and MNIST where it is present."""

import csv
import gzip

import numpy as np
import runtime
from catalog import MODELS, SHARED


def held_out():
    """(pixels `[200, 64]` from 0 to 16, labels)."""
    with open(MODELS / "digits_test.csv", newline="") as file:
        rows = np.array([[int(v) for v in row] for row in list(csv.reader(file))[1:]])
    return rows[:, 1:], rows[:, 0]


def feed_of(kind, pixels):
    """The images as a model takes them; fixtures/make_models.py trained on the same."""
    scaled = (pixels / 16).astype(np.float32)
    return {
        "nchw": lambda: scaled.reshape(-1, 1, 8, 8),
        "nhwc": lambda: scaled.reshape(-1, 8, 8, 1),
        "rows": lambda: scaled.reshape(-1, 8, 8),
        "flat": lambda: pixels.astype(np.float32),
        "tokens": lambda: (pixels + 17 * np.arange(64)).astype(np.int64),
    }[kind]()


def outputs(path, facts):
    """The model's output that tells the digit, for all test images; `None` where it refuses to run."""
    session = runtime.session(path)
    if session is None:
        return None
    pixels, _ = held_out()
    result = runtime.run(session, {session.get_inputs()[0].name: feed_of(facts["input"], pixels)})
    return None if result is None else result[facts["output"]]


def accuracy(output):
    """Share of the test images that are told rightly; a model that does not run tells none."""
    _, labels = held_out()
    if output is None:
        return 0.0
    return float(((output if output.ndim == 1 else output.argmax(1)) == labels).mean())


def mnist(count):
    """(images `[count, 1, 28, 28]` from 0 to 255, labels), or `None` where MNIST is absent."""
    folder = SHARED / "data" / "mnist"
    if not folder.is_dir():
        return None
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(16 + 784 * count), np.uint8, offset=16)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count), np.uint8, offset=8)
    return images.reshape(-1, 1, 28, 28).astype(np.float32), labels
