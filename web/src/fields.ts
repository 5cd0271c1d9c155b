import type { Bytes } from "./bytes.js";
import { need } from "./errors.js";
import type { Source } from "./source.js";
import { field, type Field } from "./wire.js";

/** Bytes that the head of a field has at most: two varints. */
const FIELD_HEAD = 20;
const WINDOW = 65_536;

/** Reads the fields of a file through a window, and steps over contents that nobody asks for. */
export class Fields {
  private from = 0;
  private window: Bytes = new Uint8Array();

  constructor(private readonly source: Source) {}

  /** The bytes from `at` on, up to the end of the file. */
  async bytes(at: number, length: number): Promise<Bytes> {
    const end = Math.min(at + length, this.source.bytes);
    if (at < this.from || end > this.from + this.window.length) {
      const size = Math.min(Math.max(WINDOW, length), this.source.bytes - at);
      this.window = await this.source.read(at, size);
      this.from = at;
    }
    return this.window.subarray(at - this.from, end - this.from);
  }

  /** The fields of a message, with their places in the file. */
  async *of(from: number, to: number): AsyncGenerator<Field & { at: number }> {
    for (let at = from; at < to; ) {
      const head = await this.bytes(at, Math.min(FIELD_HEAD, to - at));
      const { number, wire, ...content } = field(head, 0, head.length);
      const [start, end] = [at + content.start, at + content.end];
      need(end <= to, `the field at byte ${at} is cut`);
      yield { number, wire, at, start, end };
      at = end;
    }
  }
}
