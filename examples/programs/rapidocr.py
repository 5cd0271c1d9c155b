from pathlib import Path
import rapidocr

models = Path(rapidocr.__file__).parent / "models"
answer = rapidocr.RapidOCR(params={
    "Det.model_path": models / "PP-OCRv6_det_small.onnx",
    "Cls.model_path": models / "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec.model_path": models / "PP-OCRv6_rec_small.onnx",
})("text.png")
print(answer.txts, answer.scores, answer.boxes.tolist())
