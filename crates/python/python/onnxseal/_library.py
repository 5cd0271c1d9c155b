"""Where ONNX Runtime's library is."""

import os
import sys


def find():
    """The library of the `onnxruntime` package that Python imports, as a path; `None` where there is none."""
    try:
        import onnxruntime
    except ImportError:
        return None
    folder = os.path.join(os.path.dirname(onnxruntime.__file__), "capi")
    starts = {"win32": "onnxruntime.dll", "darwin": "libonnxruntime."}.get(sys.platform, "libonnxruntime.so")
    found = sorted(name for name in os.listdir(folder) if name.startswith(starts))
    return os.path.join(folder, found[-1]) if found else None
