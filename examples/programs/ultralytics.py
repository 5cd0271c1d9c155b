from ultralytics import YOLO

yolo = YOLO("models/yolo11n.onnx", task="detect")
for answer in yolo.predict("photo.jpg", conf=1e-3, verbose=False):
    print(answer.boxes.data.tolist())
