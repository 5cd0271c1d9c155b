"""Runs a session of the installed package on a sealed model, and compares it with the plain model: session.py SEALED KEY PLAIN"""

import platform
import sys

import numpy
import onnxruntime
import onnxseal

sealed, key, plain = sys.argv[1:]
zeros = {"input": numpy.zeros((1, 1, 8, 8), "float32")}
(ours,) = onnxseal.InferenceSession(sealed, identity=key).run(None, zeros)
(theirs,) = onnxruntime.InferenceSession(plain).run(None, zeros)
assert (ours == theirs).all(), (ours, theirs)
print(f"a session of the wheel on {platform.machine()} computes what the plain model does, bit for bit")
