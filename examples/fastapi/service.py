"""A service around a protected model. docs/SERVING.md says how to run it."""

import numpy as np
import onnxseal
from fastapi import FastAPI

app = FastAPI()
# The arguments of onnxruntime.InferenceSession, and what opens the model.
session = onnxseal.InferenceSession("/models/digits.onnx", identity="/run/secrets/identity")


@app.post("/digits")
def digits(pixels: list[list[float]]):
    images = np.array(pixels, np.float32).reshape(-1, 1, 8, 8)
    return session.run(None, {"input": images})[0].argmax(1).tolist()
