import type { Bytes } from "./bytes.js";
import { Io, Usage } from "./errors.js";

/** A file that is read piece by piece, at any place. */
export interface Source {
  /** Its length. */
  readonly bytes: number;
  /** Its name, for messages. */
  readonly name?: string | undefined;
  /**
   * Reads `length` bytes from `offset` on, into memory that the caller may change and keep: `into`,
   * if it is given and the source can fill it, or memory of its own.
   */
  read(offset: number, length: number, into?: Bytes): Promise<Bytes>;
}

/** What a file of a model may be given as. A stream or response is read once, into memory. */
export type Input =
  | Blob
  | ArrayBuffer
  | ArrayBufferView
  | ReadableStream<Uint8Array>
  | Response
  | Source;

/** Most bytes that memory is taken for because a server announces them. */
const MOST_ANNOUNCED = 2 ** 32;

/** Memory of this package's own: it is opened where it lies. */
export class Owned implements Source {
  readonly bytes: number;
  constructor(readonly memory: Bytes) {
    this.bytes = memory.length;
  }

  async read(offset: number, length: number): Promise<Bytes> {
    return this.memory.slice(offset, offset + length);
  }
}

/** How a stream is collected. */
export interface Collecting {
  /** A stream is read up to so many bytes and one more. */
  most?: number | undefined;
  /** Is called with the bytes that have come, and those that the server announced, if it did. */
  onBytes?: ((done: number, total: number | undefined) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Makes a source of an input. */
export async function sourceOf(input: Input, collecting: Collecting = {}): Promise<Source> {
  if (input instanceof Blob) return new BlobSource(input);
  if (input instanceof ArrayBuffer) return new MemorySource(new Uint8Array(input));
  if (ArrayBuffer.isView(input)) {
    return new MemorySource(new Uint8Array(input.buffer, input.byteOffset, input.byteLength));
  }
  if (input instanceof ReadableStream) return new Owned(await collect(input, 0, collecting));
  if (input instanceof Response) {
    if (!input.ok) throw new Io(`${input.url}: HTTP status ${input.status}`);
    if (!input.body) throw new Io(`${input.url}: no body`);
    // The length that is announced is that of the encoded body.
    const plain = !input.headers.get("content-encoding");
    const announced = plain ? Number(input.headers.get("content-length") ?? 0) : 0;
    return new Owned(await collect(input.body, announced, collecting));
  }
  if (typeof input?.read === "function" && Number.isSafeInteger(input.bytes))
    return new Checked(input);
  throw new Usage("a file is given as a Blob, bytes, a stream, a Response or a Source");
}

/** Memory of the caller's, which is copied first. */
export class MemorySource implements Source {
  readonly bytes: number;
  constructor(private readonly memory: Uint8Array) {
    this.bytes = memory.length;
  }

  async read(offset: number, length: number, into = new Uint8Array(length)): Promise<Bytes> {
    into.set(this.memory.subarray(offset, offset + length));
    return into;
  }
}

class BlobSource implements Source {
  readonly bytes: number;
  constructor(private readonly blob: Blob) {
    this.bytes = blob.size;
  }

  async read(offset: number, length: number, into = memoryOf(length)): Promise<Bytes> {
    // Chromium maps the memory of an `arrayBuffer` anew for each, and needs as long for a small one
    // as for a large one. A stream comes in pieces that it uses again.
    const reader = this.blob.slice(offset, offset + length).stream().getReader();
    let at = 0;
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        throw new Io(`a file cannot be read: ${cause}`, { cause });
      });
      if (done) break;
      into.set(value, at);
      at += value.length;
    }
    if (at < length) throw new Io("a file became shorter while it was read");
    return into;
  }
}

/** A source of the caller's, whose answers are checked. */
class Checked implements Source {
  readonly bytes: number;
  constructor(private readonly source: Source) {
    this.bytes = source.bytes;
  }

  async read(offset: number, length: number, into?: Bytes): Promise<Bytes> {
    const piece = await this.source.read(offset, length, into);
    if (piece.length !== length)
      throw new Io("a source gave another number of bytes than it was asked for");
    return piece;
  }
}

async function collect(
  stream: ReadableStream<Uint8Array>,
  announced: number,
  { most = Infinity, onBytes, signal }: Collecting,
): Promise<Bytes> {
  signal?.throwIfAborted();
  const reader = stream.getReader();
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  // This ends a read that waits.
  signal?.addEventListener("abort", cancel);
  try {
    let memory = memoryOf(
      announced > 0 && announced <= Math.min(most, MOST_ANNOUNCED) ? announced : 2 ** 16,
    );
    let length = 0;
    while (length <= most) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        signal?.throwIfAborted();
        throw new Io(`a stream cannot be read: ${cause}`, { cause });
      });
      signal?.throwIfAborted();
      if (done) break;
      if (!(value instanceof Uint8Array)) throw new Io("a stream gave something else than bytes");
      const piece = value.subarray(0, most + 1 - length);
      if (length + piece.length > memory.length) {
        const larger = memoryOf(Math.max(2 * memory.length, length + piece.length));
        larger.set(memory.subarray(0, length));
        memory = larger;
      }
      memory.set(piece, length);
      length += piece.length;
      onBytes?.(length, length <= announced ? announced : undefined);
    }
    return memory.subarray(0, length);
  } finally {
    signal?.removeEventListener("abort", cancel);
    cancel();
  }
}

/** Takes memory for `bytes` bytes. */
export function memoryOf(bytes: number): Bytes {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw new Io(`there is no memory for ${bytes} bytes in one piece`, { cause });
  }
}
