import { utf8, type Bytes } from "./bytes.js";
import { need } from "./errors.js";
import { parseJson } from "./json.js";
import { arrayOf, checkPaths, claimsOf, isTierName, members, type File } from "./members.js";
import { Original } from "./original.js";
import { overlap } from "./spans.js";
import { Tensor } from "./tensor.js";

export const SUITE = "AES-256-GCM/HKDF-SHA256";
const MOST_BYTES = 2 ** 26;
const MOST_PIECES = 2 ** 24;

/** Where a chunk lies. */
export interface Place {
  /** Index of its file. */
  file: number;
  /** Index of the chunk in its file. */
  chunk: number;
  /** First byte in its file, and the one after its last. */
  low: number;
  high: number;
}

/** The manifest of a protected model, checked against the rules of FORMAT.md. */
export class Manifest {
  /** Bytes in a chunk. */
  readonly chunk: number;
  readonly lock: boolean;
  /** Names of the tiers, the least first; empty for a model of one edition. */
  readonly tiers: string[];
  readonly files: File[];
  readonly claims: Map<string, string>;
  readonly tensors: Tensor[];
  /** The tensors of each file that has any. */
  readonly tensorsOf = new Map<number, Tensor[]>();
  readonly original: Original | undefined;
  /** Chunks of each file. */
  readonly chunks: number[];

  /** `data` are the bytes as they were read: what is authenticated. */
  constructor(readonly data: Bytes) {
    need(data.length <= MOST_BYTES, "the manifest is too long");
    const value = parseJson(utf8(data, "the manifest"));
    need(value instanceof Map, "the manifest is not an object");
    need(value.get("format") === 1, "this reader reads format 1");
    need(value.get("suite") === SUITE, `this reader reads the suite ${SUITE}`);
    const member = members(value, "the manifest", {
      format: "number",
      suite: "string",
      chunk: "number",
      lock: "boolean",
      tiers: "array",
      files: "array",
      claims: "object",
      tensors: "array",
      original: "object?",
    });
    this.chunk = member.chunk;
    this.lock = member.lock;
    const power = Math.log2(this.chunk);
    need(Number.isInteger(power) && power >= 16 && power <= 24, "chunk: illegal");

    this.tiers = arrayOf("string", member.tiers, "tiers");
    need(this.tiers.length !== 1 && this.tiers.length <= 16, "tiers: an illegal number");
    need(this.tiers.every(isTierName), "tiers: an illegal name");
    need(new Set(this.tiers).size === this.tiers.length, "tiers: a name is there twice");

    need(member.files.length >= 1 && member.files.length <= 65_536, "files: an illegal number");
    this.files = member.files.map((file) =>
      members(file, "files", { path: "string", bytes: "number" }),
    );
    need(this.files[0]!.path === "", "files: the first is not the model");
    checkPaths(this.files.slice(1).map((file) => file.path));
    const sum = this.files.reduce((sum, file) => sum + file.bytes, 0);
    need(sum <= Number.MAX_SAFE_INTEGER, "files: too long");
    this.chunks = this.files.map((file) => Math.ceil(file.bytes / this.chunk));

    this.claims = claimsOf(member.claims, "claims");

    const tensors = member.tensors;
    this.tensors = tensors.map(
      (tensor, index) => new Tensor(tensor, index, this.files, this.tierCount),
    );
    this.tensors.forEach((tensor, i) => {
      const before = this.tensors[i - 1] ?? tensor;
      need(
        before.file < tensor.file ||
          (before.file === tensor.file && before.offset <= tensor.offset),
        "tensors: not in order",
      );
    });
    need(
      new Set(this.tensors.map((tensor) => tensor.at)).size === tensors.length,
      "tensors: two at one place",
    );
    const pieces = this.tensors.reduce((sum, tensor) => sum + tensor.pieceCount, 0);
    need(pieces <= MOST_PIECES, "tensors: too many pieces");
    for (const tensor of this.tensors) {
      const own = this.tensorsOf.get(tensor.file);
      if (own) own.push(tensor);
      else this.tensorsOf.set(tensor.file, [tensor]);
    }
    if (this.tierCount > 1) {
      const all = Array.from({ length: this.tierCount }, (_, tier) => tier);
      for (const file of this.tensorsOf.keys()) {
        const { starts, ends } = this.pieces(file, all);
        need(!overlap(starts, ends), "tensors: a byte is a target of two");
      }
    }
    if (member.original) this.original = new Original(member.original, this.files, this.tensors);
  }

  /** T: 1 for a model of one edition. */
  get tierCount(): number {
    return Math.max(1, this.tiers.length);
  }

  /** Chunks of all files. */
  get chunkCount(): number {
    return this.chunks.reduce((sum, count) => sum + count, 0);
  }

  /** Start and end of each piece of a file that belongs to one of the tiers (counted from 0). */
  pieces(file: number, tiers: number[]): { starts: Float64Array; ends: Float64Array } {
    const own = this.tensorsOf.get(file) ?? [];
    const count = own.reduce((sum, tensor) => sum + tensor.pieceCount, 0);
    const starts = new Float64Array(count);
    const ends = new Float64Array(count);
    let at = 0;
    for (const tensor of own) {
      for (const tier of tiers) {
        tensor.eachPiece(tier, 0, Infinity, (start, end) => {
          starts[at] = start;
          ends[at++] = end;
        });
      }
    }
    return { starts: starts.subarray(0, at), ends: ends.subarray(0, at) };
  }
}
