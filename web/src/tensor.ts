import { need } from "./errors.js";
import type { Json } from "./json.js";
import { arrayOf, members, type File } from "./members.js";
import { firstAbove, overlap } from "./spans.js";
import { parseTargets, type Runs } from "./targets.js";

export const BITS = new Map(
  Object.entries({
    2: "INT2 UINT2",
    4: "INT4 UINT4 FLOAT4E2M1",
    6: "FLOAT6E2M3 FLOAT6E3M2",
    8: "BOOL INT8 UINT8 FLOAT8E4M3FN FLOAT8E4M3FNUZ FLOAT8E5M2 FLOAT8E5M2FNUZ FLOAT8E8M0",
    16: "INT16 UINT16 FLOAT16 BFLOAT16",
    32: "INT32 UINT32 FLOAT",
    64: "INT64 UINT64 DOUBLE COMPLEX64",
    128: "COMPLEX128",
  }).flatMap(([bits, names]) => names.split(" ").map((name) => [name, Number(bits)] as const)),
);

/** Sign and mantissa of an element, little-endian. */
const MASKS: Record<string, readonly number[]> = {
  FLOAT: [0xff, 0xff, 0x7f, 0x80],
  FLOAT16: [0xff, 0x83],
  BFLOAT16: [0x7f, 0x80],
  DOUBLE: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x80],
};

/** A node that consumes a tensor. */
export interface Operator {
  opType: string;
  node: string;
}

/** A tensor of the manifest, checked. */
export class Tensor {
  readonly name: string;
  readonly at: string;
  readonly dataType: string;
  readonly dims: number[];
  readonly operators: Operator[];
  /** Index into the files. */
  readonly file: number;
  /** Byte of the file at which the first element begins. */
  readonly offset: number;
  /** Byte of the file after the last element. */
  readonly end: number;
  readonly elements: number;
  readonly bits: number;
  /** Elements in a subsequence. */
  readonly unit: number;
  /** Number of subsequences. */
  readonly n: number;
  /** Target subsequences of each tier, the least first. */
  readonly targets: Runs[];
  readonly mode: "mask" | "shuffle" | undefined;
  /** Bytes that are masked, shuffled and filled as one. */
  readonly size: number;
  /** Bytes from an element (or byte that holds elements) to the next. */
  readonly step: number;
  readonly strided: boolean;
  readonly fill: Uint8Array;
  readonly mask: readonly number[] | undefined;

  constructor(
    value: Json,
    readonly index: number,
    files: File[],
    tiers: number,
  ) {
    const member = members(value, `tensors[${index}]`, {
      name: "string",
      at: "string",
      data_type: "string",
      dims: "array",
      operators: "array",
      file: "number",
      offset: "number",
      unit: "number",
      targets: "array",
      stride: "number?",
      mode: "string?",
      fill: "string?",
    });
    const what = `tensor ${JSON.stringify(member.name)}`;
    this.name = member.name;
    this.at = member.at;
    this.dataType = member.data_type;
    this.dims = arrayOf("number", member.dims, `${what}, dims`);
    this.operators = member.operators.map((operator) => {
      const { op_type, node } = members(operator, `${what}, operators`, {
        op_type: "string",
        node: "string",
      });
      return { opType: op_type, node };
    });
    this.file = member.file;
    this.offset = member.offset;
    this.unit = member.unit;

    const bits = BITS.get(this.dataType);
    need(bits, `${what}: unknown data_type`);
    this.bits = bits;
    this.size = Math.max(1, bits / 8);
    this.elements = 1;
    for (const dim of this.dims) {
      this.elements *= dim;
      need(this.elements <= Number.MAX_SAFE_INTEGER, `${what}: too many elements`);
    }
    this.strided = member.stride !== undefined;
    this.step = member.stride ?? this.size;
    need(
      !this.strided || (bits >= 8 && this.step > this.size && this.step < 2 ** 32),
      `${what}: illegal stride`,
    );
    need(this.unit > 0 && ((this.unit % 8) * bits) % 8 === 0, `${what}: illegal unit`);
    const rest = this.elements % this.unit;
    this.n = (this.elements - rest) / this.unit + Math.sign(rest);
    this.end = this.strided
      ? this.offset + (this.elements - 1) * this.step + this.size
      : this.offset + this.bytesOf(this.elements);
    need(this.file < files.length, `${what}: no such file`);
    need(this.end <= files[this.file]!.bytes, `${what}: it exceeds its file`);

    need(member.targets.length === tiers, `${what}: not one string of targets for each tier`);
    this.targets = arrayOf("string", member.targets, `${what}, targets`).map((text) =>
      parseTargets(text, this.n),
    );
    const count = this.targets.reduce((sum, runs) => sum + runs.length / 2, 0);
    need(count > 0, `${what}: no targets`);
    const starts = new Float64Array(count);
    const ends = new Float64Array(count);
    let at = 0;
    for (const runs of this.targets) {
      for (let i = 0; i < runs.length; i += 2) {
        starts[at] = runs[i]!;
        ends[at++] = runs[i + 1]!;
      }
    }
    need(!overlap(starts, ends), `${what}: a subsequence is in two tiers`);

    const { mode, fill } = member;
    need(mode === undefined || mode === "mask" || mode === "shuffle", `${what}: unknown mode`);
    need(mode === undefined || tiers > 1, `${what}: a mode without tiers`);
    this.mode = mode;
    if (mode === "mask") {
      this.mask = MASKS[this.dataType];
      need(this.mask, `${what}: no mask for its data_type`);
    }
    this.fill = new Uint8Array(this.size);
    if (fill !== undefined) {
      need(tiers > 1 && bits !== 6, `${what}: a fill that has no place here`);
      need(
        /^[0-9a-f]*$/.test(fill) && fill.length === 2 * this.size,
        `${what}: fill is not one element`,
      );
      this.fill.forEach((_, i, bytes) => (bytes[i] = parseInt(fill.slice(2 * i, 2 * i + 2), 16)));
      need(
        this.fill.some((byte) => byte),
        `${what}: a fill of zeros`,
      );
    }
  }

  /** Bytes that elements take if they are contiguous; exact up to 2^53. */
  private bytesOf(elements: number): number {
    if (this.bits >= 8) return elements * this.size;
    const rest = elements % 8;
    return ((elements - rest) / 8) * this.bits + Math.ceil((rest * this.bits) / 8);
  }

  /** The first element of a subsequence, or the number of elements for the one after the last. */
  private element(subsequence: number): number {
    return subsequence === this.n ? this.elements : subsequence * this.unit;
  }

  /** Bytes of all elements. */
  get bytes(): number {
    return this.strided ? this.elements * this.size : this.bytesOf(this.elements);
  }

  /** Number of pieces in which the target bytes of all tiers are counted. */
  get pieceCount(): number {
    let count = 0;
    for (const runs of this.targets) {
      for (let i = 0; i < runs.length; i += 2) {
        count += this.strided ? this.element(runs[i + 1]!) - this.element(runs[i]!) : 1;
      }
    }
    return count;
  }

  /** Target bytes of a tier, counted from 0. */
  targetBytes(tier: number): number {
    let bytes = 0;
    const runs = this.targets[tier]!;
    for (let i = 0; i < runs.length; i += 2) {
      const [first, after] = [this.element(runs[i]!), this.element(runs[i + 1]!)];
      bytes += this.strided
        ? (after - first) * this.size
        : this.bytesOf(after) - this.bytesOf(first);
    }
    return bytes;
  }

  /** Calls with start and end of each piece of a tier in `[low, high)`, cut to it. */
  eachPiece(
    tier: number,
    low: number,
    high: number,
    call: (start: number, end: number) => void,
  ): void {
    const runs = this.targets[tier]!;
    if (low >= this.end || high <= this.offset) return;
    // The runs that end before the element at `low` are passed over.
    const element = Math.max(0, this.elementAt(low));
    const above = firstAbove(runs, (element - (element % this.unit)) / this.unit);
    for (let i = above - (above % 2); i < runs.length; i += 2) {
      const first = this.element(runs[i]!);
      const after = this.element(runs[i + 1]!);
      if (this.strided) {
        for (let e = Math.max(first, element); e < after; e++) {
          const start = this.offset + e * this.step;
          if (start >= high) return;
          if (start + this.size > low)
            call(Math.max(start, low), Math.min(start + this.size, high));
        }
      } else {
        const start = this.offset + this.bytesOf(first);
        if (start >= high) return;
        const end = this.offset + this.bytesOf(after);
        if (end > low) call(Math.max(start, low), Math.min(end, high));
      }
    }
  }

  /** An element that begins at or before a byte of the file: the last, or one of its byte group. */
  private elementAt(byte: number): number {
    const bytes = byte - this.offset;
    if (bytes <= 0) return 0;
    if (this.strided) return Math.floor(bytes / this.step);
    return this.bits >= 8 ? Math.floor(bytes / this.size) : Math.floor(bytes / this.bits) * 8;
  }

  /** The place of a byte of the file in its element. */
  place(byte: number): number {
    return (byte - this.offset) % this.step;
  }
}
