// Runs a protected model on zeros: node example/node.mjs MODEL IDENTITY_FILE
import { readFile } from "node:fs/promises";
import { createSessionFromFile } from "onnxseal/node";
import ort from "onnxruntime-node";

const [model, identityFile] = process.argv.slice(2);
const identities = [await readFile(identityFile, "utf8")];
const session = await createSessionFromFile(ort.InferenceSession, model, { identities });

const feeds = {};
for (const { name, type, shape } of session.inputMetadata) {
  const dims = shape.map((dim) => (typeof dim === "number" ? dim : 1));
  const size = dims.reduce((product, dim) => product * dim, 1);
  if (type !== "float32")
    throw new Error(`${name} takes ${type}: this example feeds float32 alone`);
  feeds[name] = new ort.Tensor("float32", new Float32Array(size), dims);
}
for (const [name, { dims, data }] of Object.entries(await session.run(feeds))) {
  console.log(name, dims, data.slice(0, 10));
}
