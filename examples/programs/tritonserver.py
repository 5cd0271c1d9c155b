from pathlib import Path
import onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"], args["model_version"])
        self.session = onnxruntime.InferenceSession(folder / "model.onnx")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        image = triton.get_input_tensor_by_name(request, "input").as_numpy()
        scores = self.session.run(["scores"], {"input": image})[0]
        return triton.InferenceResponse([triton.Tensor("scores", scores)])
