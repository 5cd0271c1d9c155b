import { ascii, base64, type Bytes } from "./bytes.js";
import { need } from "./errors.js";
import type { Json } from "./json.js";
import { arrayOf, checkPaths, members, type File } from "./members.js";
import { firstAbove, union } from "./spans.js";
import { memoryOf } from "./source.js";
import type { Tensor } from "./tensor.js";

/** How to restore the model whose external data were renamed when it was protected. */
export class Original {
  /** Length of the original model file. */
  readonly bytes: number;
  /** Original paths of the external data files. */
  readonly paths: string[];
  private readonly texts: Bytes[];
  private readonly edits: number[];

  constructor(value: Json, files: File[], tensors: Tensor[]) {
    const member = members(value, "original", {
      bytes: "number",
      paths: "array",
      texts: "array",
      edits: "array",
    });
    this.bytes = member.bytes;
    this.paths = arrayOf("string", member.paths, "original.paths");
    this.edits = arrayOf("number", member.edits, "original.edits");
    const length = files[0]!.bytes;
    need(this.bytes <= length + 2 ** 26, "original.bytes: too long");
    const sum = files.reduce((sum, file) => sum + file.bytes, this.bytes);
    need(sum <= Number.MAX_SAFE_INTEGER, "original.bytes: too long");
    checkPaths(this.paths);
    need(this.paths.length === files.length - 1, "original.paths: not one for each file");
    need(member.texts.length <= 262_144, "original.texts: too many");
    this.texts = arrayOf("string", member.texts, "original.texts").map((text) => {
      const decoded = base64(ascii(text), "original.texts");
      need(decoded.length >= 1 && decoded.length <= 8192, "original.texts: illegal length");
      return decoded;
    });

    const { edits } = this;
    need(edits.length > 0 && edits.length % 3 === 0, "original.edits: not in threes");
    const own = tensors.filter((tensor) => tensor.file === 0);
    const kept = union(
      Float64Array.from(own, (tensor) => tensor.offset),
      Float64Array.from(own, (tensor) => tensor.end),
    );
    let place = 0;
    let result = length;
    let used = 0;
    for (let i = 0; i < edits.length; i += 3) {
      const [skip, take, text] = edits.slice(i, i + 3) as [number, number, number];
      need(take > 0 && (skip > 0 || i === 0), "original.edits: an empty edit");
      const start = place + skip;
      place = start + take;
      need(place <= length, "original.edits: beyond the model");
      need(text <= used && text < this.texts.length, "original.edits: texts in another order");
      used = Math.max(used, text + 1);
      result += this.texts[text]!.length - take;
      const next = firstAbove(kept.ends, start);
      need(
        next === kept.starts.length || kept.starts[next]! >= place,
        "original.edits: an edit of a tensor",
      );
    }
    need(used === this.texts.length, "original.texts: one is not used");
    need(result === this.bytes, "original.edits: they make another length");
  }

  /** Makes the original model file of the opened one. */
  restore(model: Uint8Array): Bytes {
    const original = memoryOf(this.bytes);
    let from = 0;
    let to = 0;
    const copy = (bytes: Uint8Array) => {
      original.set(bytes, to);
      to += bytes.length;
    };
    for (let i = 0; i < this.edits.length; i += 3) {
      const [skip, take, text] = this.edits.slice(i, i + 3) as [number, number, number];
      copy(model.subarray(from, from + skip));
      copy(this.texts[text]!);
      from += skip + take;
    }
    copy(model.subarray(from));
    return original;
  }
}
