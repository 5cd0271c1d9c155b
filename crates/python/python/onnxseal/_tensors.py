"""Tensors of an open model as numpy arrays."""

from collections.abc import Mapping

# numpy's type by the number in TensorProto.DataType. Those that numpy lacks (bfloat16 and other small floats) are
# unsigned integers of the same bits.
_TYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
    13: "<u8", 14: "<c8", 15: "<c16", 16: "<u2", 17: "u1", 18: "u1", 19: "u1", 20: "u1", 24: "u1",
}  # fmt: skip


class Tensors(Mapping):
    """Tensors by name; of several of one name, the first. Those without a name are not among them.

    An array is a view of the model's memory, without a copy: it cannot be written to, need not be aligned, and keeps
    the memory alive. Types that numpy lacks are unsigned integers of the same bits, and below 8 bits the packed bytes.
    """

    def __init__(self, described):
        self._described = {}
        for name, *described_by in described:
            if name:
                self._described.setdefault(name, described_by)

    def __getitem__(self, name):
        return array(*self._described[name])

    def __iter__(self):
        return iter(self._described)

    def __len__(self):
        return len(self._described)

    def __repr__(self):
        return f"<onnxseal tensors: {', '.join(self)}>"


def array(data_type, dims, view):
    """The array of a type, a shape and little-endian bytes."""
    import numpy as np

    if data_type not in _TYPES:
        return np.ndarray(len(view), np.uint8, view)
    return np.ndarray(dims, _TYPES[data_type], view)
