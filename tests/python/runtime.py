"""ONNX Runtime as the judge: sessions, inputs made up for any model, and what came out."""

import numpy as np
import onnxruntime as ort

ort.set_default_logger_severity(4)

NUMPY = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int8)": np.int8, "tensor(uint8)": np.uint8, "tensor(int16)": np.int16, "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32, "tensor(uint32)": np.uint32, "tensor(int64)": np.int64, "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}  # fmt: skip


def session(path):
    """The model as ONNX Runtime opens it from disk, or `None` where it does not."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.use_deterministic_compute = True
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        return None


def run(model, feed):
    """What the model computes, or `None` where it refuses."""
    try:
        return model.run(None, feed)
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        return None


def made_up_feed(model):
    """Inputs under which the model runs, or `None`: free dimensions are tried as 1, 2, ... until it does."""
    for size in (1, 2, 4, 16, 64, 128):
        feed = feed_of_size(model, size)
        if feed is None or run(model, feed) is not None:
            return feed
    return None


def feed_of_size(model, size):
    rng, feed = np.random.RandomState(7), {}
    for value in model.get_inputs():
        if value.type not in NUMPY:
            return None
        kind = NUMPY[value.type]
        shape = [dim if isinstance(dim, int) and dim > 0 else size for dim in value.shape]
        if np.issubdtype(kind, np.floating):
            feed[value.name] = rng.standard_normal(shape).astype(kind)
        else:
            feed[value.name] = rng.randint(0, 2, shape).astype(kind)
    return feed


def same(left, right):
    """Whether two runs gave the very same outputs; two refusals are the same."""
    if left is None or right is None:
        return left is right
    return all(equal(a, b) for a, b in zip(left, right, strict=True))


def equal(left, right):
    if isinstance(left, np.ndarray):
        nan = left.dtype.kind == "f"
        return left.shape == right.shape and np.array_equal(left, right, equal_nan=nan)
    return repr(left) == repr(right)
