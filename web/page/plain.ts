import { Fields } from "../src/fields.js";
import { sourceOf } from "../src/source.js";
import { BITS } from "../src/tensor.js";
import { varint } from "../src/wire.js";
import { element, listed, row, size } from "./report.js";

/** What ONNX calls the numbers of its types. */
const TYPES = (
  "UNDEFINED FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 STRING BOOL FLOAT16 DOUBLE UINT32 UINT64 " +
  "COMPLEX64 COMPLEX128 BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ UINT4 " +
  "INT4 FLOAT4E2M1 FLOAT8E8M0 UINT2 INT2"
).split(" ");
const [GRAPH, INITIALIZER] = [7, 5];
const [DIMS, DATA_TYPE, NAME] = [1, 2, 8];
/** Longest name that is shown. */
const LONGEST = 4096;

/** An initializer of a model that nobody protected. */
export interface Initializer {
  name: string;
  type: string;
  dims: number[];
  bytes: number;
}

/** Lists the initializers of a model's graph. */
export async function initializersOf(file: Blob): Promise<Initializer[]> {
  const fields = new Fields(await sourceOf(file));
  const found: Initializer[] = [];
  for await (const graph of fields.of(0, file.size)) {
    if (graph.number !== GRAPH || graph.wire !== 2) continue;
    for await (const { number, wire, start, end } of fields.of(graph.start, graph.end)) {
      if (number === INITIALIZER && wire === 2) found.push(await initializer(fields, start, end));
    }
  }
  return found;
}

async function initializer(fields: Fields, from: number, to: number): Promise<Initializer> {
  let name = "";
  let type = 0;
  const dims: number[] = [];
  for await (const { number, wire, start, end } of fields.of(from, to)) {
    if (number !== DIMS && number !== DATA_TYPE && number !== NAME) continue;
    const length = Math.min(end - start, LONGEST);
    const content = await fields.bytes(start, length);
    if (number === NAME) name = new TextDecoder().decode(content);
    else if (number === DATA_TYPE) type = varint(content, 0, content.length).value;
    else {
      // A list of numbers may lie in one field, or each in one of its own.
      for (let at = 0; at < content.length; ) {
        const dim = varint(content, at, content.length);
        dims.push(dim.value);
        if (wire === 0) break;
        at = dim.end;
      }
    }
  }
  const n = dims.reduce((product, dim) => product * dim, 1);
  const typeName = TYPES[type] ?? `type ${type}`;
  return { name, type: typeName, dims, bytes: Math.ceil((n * (BITS.get(typeName) ?? 0)) / 8) };
}

/** Shows the tensors that protection would encrypt. */
export function plainParts(tensors: Initializer[], model: string): Node[] {
  const all = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const table = element("table", {}, row("th", "Tensor", "type", "shape", "bytes"));
  listed(table, tensors, ({ name, type, dims, bytes }) =>
    row("td", name, type, `[${dims.join(", ")}]`, size(bytes)),
  );
  return [
    element("h2", {}, "What protection would encrypt"),
    element(
      "p",
      {},
      `${tensors.length} tensors with ${size(all)}, and the constants of nodes and subgraphs. ` +
        "Programs without the key would refuse the model, or run it and get wrong answers if it " +
        "is protected with --runnable. The shapes and the graph stay readable.",
    ),
    element("p", { className: "mono" }, `onnxseal protect ${quoted(model)} -o sealed.onnx`),
    table,
  ];
}

/** A file's name as a shell takes it. */
function quoted(name: string): string {
  return /^[\w.][\w.-]*$/.test(name) ? name : `'./${name.replaceAll("'", "'\\''")}'`;
}
