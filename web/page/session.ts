import * as ort from "onnxruntime-web/wasm";
import type { OpenedModel } from "../src/index.js";
import { element } from "./report.js";

let ready: Promise<void> | undefined;

/** Unpacks ONNX Runtime, which is in the page. */
function prepare(): Promise<void> {
  return (ready ??= (async () => {
    const packed = atob(document.getElementById("wasm")!.textContent!);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    ort.env.wasm.wasmBinary = await new Response(unpacked).arrayBuffer();
    ort.env.wasm.numThreads = 1;
    ort.env.logLevel = "error";
  })());
}

export async function sessionOf(opened: OpenedModel): Promise<ort.InferenceSession> {
  await prepare();
  const external = opened.externalData.length > 0 ? { externalData: opened.externalData } : {};
  return ort.InferenceSession.create(opened.model, { executionProviders: ["wasm"], ...external });
}

const ARRAYS: Record<string, { from(source: ArrayLike<number>): ort.Tensor["data"] }> = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  bool: Uint8Array,
  int64: {
    from: (source) => BigInt64Array.from(Array.from(source, (value) => BigInt(Math.round(value)))),
  },
};

/** Shows the inputs of a session, and runs it on the numbers that are typed in, repeated. */
export function runner(session: ort.InferenceSession): Node[] {
  const form = element("form");
  const fields = session.inputMetadata.map((input) => {
    if (!input.isTensor) throw new Error(`the input ${input.name} is no tensor`);
    const dims = input.shape.map((dim) => (typeof dim === "number" && dim > 0 ? dim : 1));
    const values = element("input", { value: "0", ariaLabel: input.name });
    form.append(element("label", {}, `${input.name}: ${input.type} [${dims.join(", ")}]`, values));
    return { name: input.name, type: input.type, dims, values };
  });
  const outputs = element("div", { className: "mono", id: "outputs" });
  const button = element("button", { id: "run" }, "Run");
  form.append(
    element("div", { className: "buttons" }, button),
    element(
      "p",
      { className: "note" },
      "Numbers, with commas between them. Fewer than the input takes are repeated.",
    ),
  );
  form.onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const feeds: Record<string, ort.Tensor> = {};
      for (const { name, type, dims, values } of fields) {
        const array = ARRAYS[type];
        if (!array) throw new Error(`${name} takes ${type}, which this page does not feed`);
        const numbers = values.value.split(",").map(Number);
        if (numbers.some(Number.isNaN)) throw new Error(`${name}: not numbers`);
        const length = dims.reduce((product, dim) => product * dim, 1);
        const data = array.from(Array.from({ length }, (_, i) => numbers[i % numbers.length]!));
        feeds[name] = new ort.Tensor(type as "float32", data as Float32Array, dims);
      }
      const started = performance.now();
      const results = await session.run(feeds);
      const took = `${(performance.now() - started).toFixed(1)} ms`;
      outputs.replaceChildren(
        element("p", {}, took),
        ...Object.entries(results).map(([name, { dims, data }]) => {
          const first = Array.from(data as ArrayLike<number>)
            .slice(0, 20)
            .map((value) => (typeof value === "number" ? +value.toPrecision(7) : String(value)));
          return element(
            "p",
            {},
            `${name} [${dims.join(", ")}]: ${first.join(", ")}${data.length > 20 ? ", ..." : ""}`,
          );
        }),
      );
    } catch (error) {
      outputs.replaceChildren(element("p", {}, String(error)));
    }
    button.disabled = false;
  };
  return [element("h2", {}, "Run it"), form, outputs];
}
