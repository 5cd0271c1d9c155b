import rapidocr

answer = rapidocr.RapidOCR()("text.png")
print(answer.txts, answer.scores, answer.boxes.tolist())
