from rapidocr_onnxruntime import RapidOCR

print(RapidOCR()("text.png")[0])
