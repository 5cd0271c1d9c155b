import ort from "onnxruntime-node";

const session = await ort.InferenceSession.create("models/yolox_nano.onnx");
const image = Float32Array.from({ length: 3 * 416 * 416 }, (_, i) => Math.sin(i));
const answer = await session.run({ images: new ort.Tensor("float32", image, [1, 3, 416, 416]) });
console.log(JSON.stringify(Array.from(answer.output.data)));
