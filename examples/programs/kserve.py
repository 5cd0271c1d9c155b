import kserve
import onnxruntime
from kserve.utils.utils import get_predict_response

class Digits(kserve.Model):
    def load(self):
        self.session = onnxruntime.InferenceSession("models/digits.onnx")
        self.ready = True

    def predict(self, request, headers=None):
        scores = self.session.run(None, {"input": request.inputs[0].as_numpy()})[0]
        return get_predict_response(request, scores, self.name)

digits = Digits("digits")
digits.load()
kserve.ModelServer().start([digits])
