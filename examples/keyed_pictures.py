"""Draws the picture of docs/INPUTS.md: images of the fixtures, and what keys make of them.

    pip install pillow numpy ./crates/python && python examples/keyed_pictures.py docs/keyed_images.png
"""

import sys
from pathlib import Path

import numpy as np
import onnxseal
from PIL import Image

ROWS = [
    ("plain", None),
    ("shuffle, 4 x 4", "shuffle"),
    ("negative, 4 x 4", "negative"),
    ("shuffle, negative, 4 x 4", "shuffle,negative"),
]
SEED = "00" * 31 + "07"  # a fixed key, so that the picture stays the same
N, SCALE, GAP = 8, 4, 4


def key(transforms):
    names = ", ".join(f'"{name}"' for name in transforms.split(","))
    lines = ["version = 1", f"transforms = [{names}]", "block = 4", "channels = 3", 'layout = "nchw"', "range = [0.0, 255.0]"]
    return onnxseal.InputKey.parse("\n".join([*lines, f'seed = "{SEED}"', ""]))


def main(output):
    images = np.load(Path(__file__).parent.parent / "fixtures" / "inputs" / "images.npz")["colour"][:N]
    rows = [images if transforms is None else key(transforms).apply(images) for _, transforms in ROWS]
    side = images.shape[2] * SCALE
    sheet = np.full((len(rows) * (side + GAP) - GAP, N * (side + GAP) - GAP, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            large = image.transpose(1, 2, 0).repeat(SCALE, 0).repeat(SCALE, 1)
            y, x = i * (side + GAP), j * (side + GAP)
            sheet[y : y + side, x : x + side] = large
    Image.fromarray(sheet).save(output, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
