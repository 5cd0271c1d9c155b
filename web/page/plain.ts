import { need } from "../src/errors.js";
import { BITS } from "../src/tensor.js";
import { field, varint, type Field } from "../src/wire.js";
import { element, listed, row, size } from "./report.js";

/** What ONNX calls the numbers of its types. */
const TYPES = (
  "UNDEFINED FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 STRING BOOL FLOAT16 DOUBLE UINT32 UINT64 " +
  "COMPLEX64 COMPLEX128 BFLOAT16 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ UINT4 " +
  "INT4 FLOAT4E2M1 FLOAT8E8M0 UINT2 INT2"
).split(" ");
const [GRAPH, INITIALIZER] = [7, 5];
const [DIMS, DATA_TYPE, NAME] = [1, 2, 8];
const WINDOW = 65_536;
const FIELD_HEAD = 20;
/** Longest name that is shown. */
const LONGEST = 4096;

/** An initializer of a model that nobody protected. */
export interface Initializer {
  name: string;
  type: string;
  dims: number[];
  bytes: number;
}

/** Reads fields of a file, and steps over the bytes of weights. */
class Fields {
  private from = 0;
  private window = new Uint8Array();

  constructor(private readonly file: Blob) {}

  /** Bytes from `at` on: at least `length` of them, unless the file ends. */
  async bytes(at: number, length: number): Promise<Uint8Array> {
    const end = Math.min(at + length, this.file.size);
    if (at < this.from || end > this.from + this.window.length) {
      const part = this.file.slice(at, at + Math.max(WINDOW, length));
      this.window = new Uint8Array(await part.arrayBuffer());
      this.from = at;
    }
    return this.window.subarray(at - this.from);
  }

  /** The fields of a message, with their places in the file. */
  async *of(from: number, to: number): AsyncGenerator<Field> {
    for (let at = from; at < to; ) {
      const head = await this.bytes(at, Math.min(FIELD_HEAD, to - at));
      const found = field(head, 0, Math.min(head.length, to - at));
      const [start, end] = [at + found.start, at + found.end];
      need(end <= to, `the field at byte ${at} is cut`);
      yield { ...found, start, end };
      at = end;
    }
  }
}

/** Lists the initializers of a model's graph. */
export async function initializersOf(file: Blob): Promise<Initializer[]> {
  const fields = new Fields(file);
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
    const content = (await fields.bytes(start, length)).subarray(0, length);
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
