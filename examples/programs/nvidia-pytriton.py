import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton

session = onnxruntime.InferenceSession("models/digits.onnx")

@batch
def answer(input):
    return session.run(["scores"], {"input": input})

with Triton() as triton:
    images = [Tensor(name="input", dtype=np.float32, shape=(1, 8, 8))]
    scores = [Tensor(name="scores", dtype=np.float32, shape=(10,))]
    triton.bind("digits", answer, images, scores, config=ModelConfig(max_batch_size=16))
    triton.serve()
