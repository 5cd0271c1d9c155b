"""Measures DTLN's masks: the ratio of the original's denoised frames to what an edition's differ by, in dB.

    onnxseal tiers tune dtln_1.onnx --data frames.npz --metric-command "python dtln_snr.py frames.npz" ...
"""

import sys

import numpy as np

frames, answers = np.load(sys.argv[1]), np.load(sys.argv[2])
magnitude = frames["input_2"].reshape(len(frames["input_2"]), -1)[answers["rows"]]
outputs, original = (answers[name].reshape(len(magnitude), -1) for name in ("outputs", "original"))
wanted, error = magnitude * original, magnitude * (outputs - original)
print(10 * np.log10((wanted**2).sum() / max((error**2).sum(), 1e-9 * (wanted**2).sum())))
