import { concat, type Bytes } from "./bytes.js";
import type { Keys } from "./keys.js";
import type { Manifest, Place } from "./manifest.js";
import { firstAbove } from "./spans.js";
import type { Tensor } from "./tensor.js";

/** Fewer elements than this are not shuffled. */
const FEWEST_SHUFFLED = 64;
const BLOCK = 16;

/** Opens the targets of tiers above the first in one file, or fills them. */
export class TierTargets {
  private constructor(
    private readonly tensors: Tensor[],
    /** For each tensor, the furthest end of it and all before it. */
    private readonly reach: Float64Array,
    /** Keys of the tiers from 2 to the edition. */
    private readonly keys: { stream: CryptoKey; shuffle: CryptoKey }[],
  ) {}

  static async of(
    manifest: Manifest,
    file: number,
    keys: Keys,
    edition: number,
  ): Promise<TierTargets> {
    const tensors = manifest.tensorsOf.get(file) ?? [];
    let furthest = 0;
    const reach = Float64Array.from(
      tensors,
      (tensor) => (furthest = Math.max(furthest, tensor.end)),
    );
    const opened = [];
    for (let tier = 2; tier <= edition; tier++) {
      opened.push({ stream: await keys.stream(tier), shuffle: await keys.shuffle(tier) });
    }
    return new TierTargets(tensors, reach, opened);
  }

  /** Opens a chunk in place, after its targets of tier 1. */
  async open(place: Place, nonce: Bytes, chunk: Bytes): Promise<void> {
    const streams = new Map<number, Bytes>();
    const stream = async (tier: number, key: CryptoKey) => {
      const made = streams.get(tier) ?? (await keystream(key, nonce, 0, chunk.length));
      streams.set(tier, made);
      return made;
    };
    for (let i = firstAbove(this.reach, place.low); i < this.tensors.length; i++) {
      const tensor = this.tensors[i]!;
      if (tensor.offset >= place.high) break;
      for (let tier = 2; tier <= tensor.targets.length; tier++) {
        const parts = partsOf(tensor, tier, place);
        if (parts.whole.length + parts.rest.length === 0) continue;
        const keys = this.keys[tier - 2];
        if (!keys) {
          fill(tensor, parts, place, chunk);
          continue;
        }
        if (parts.rest.length > 0)
          unmask(tensor, parts.rest, place, chunk, await stream(tier, keys.stream));
        if (parts.whole.length > 0)
          await unshuffle(tensor, parts.whole, place, chunk, keys.shuffle);
      }
    }
  }
}

/** Targets of a tensor and a tier in a chunk. */
interface Parts {
  /** Where shuffled elements begin, as bytes of the file. */
  whole: number[];
  /** What is XORed: start and end of each part, as bytes of the file, flat. */
  rest: number[];
}

function partsOf(tensor: Tensor, tier: number, place: Place): Parts {
  const all: number[] = [];
  tensor.eachPiece(tier - 1, place.low, place.high, (start, end) => all.push(start, end));
  if (tensor.mode !== "shuffle") return { whole: [], rest: all };
  const whole: number[] = [];
  const rest: number[] = [];
  for (let i = 0; i < all.length; i += 2) {
    const [start, end] = [all[i]!, all[i + 1]!];
    // A chunk may begin or end within an element.
    const inside = tensor.place(start);
    let at = inside === 0 ? start : Math.min(end, start + tensor.step - inside);
    if (start < at) rest.push(start, at);
    for (; at + tensor.size <= end; at += tensor.size) whole.push(at);
    if (at < end) rest.push(at, end);
  }
  return whole.length < FEWEST_SHUFFLED ? { whole: [], rest: all } : { whole, rest };
}

/** Gives elements that this reader lacks the value `fill`, unless they were masked or shuffled. */
function fill(tensor: Tensor, { rest }: Parts, place: Place, chunk: Bytes): void {
  if (tensor.mode === "mask") return;
  for (let i = 0; i < rest.length; i += 2) {
    for (let at = rest[i]!; at < rest[i + 1]!; at++)
      chunk[at - place.low] = tensor.fill[tensor.place(at)]!;
  }
}

function unmask(tensor: Tensor, rest: number[], place: Place, chunk: Bytes, stream: Bytes): void {
  for (let i = 0; i < rest.length; i += 2) {
    for (let at = rest[i]!; at < rest[i + 1]!; at++) {
      const mask = tensor.mask ? tensor.mask[tensor.place(at)]! : 0xff;
      chunk[at - place.low]! ^= stream[at - place.low]! & mask;
    }
  }
}

async function unshuffle(
  tensor: Tensor,
  whole: number[],
  place: Place,
  chunk: Bytes,
  key: CryptoKey,
): Promise<void> {
  const { size } = tensor;
  const prefix = new Uint8Array(12);
  const view = new DataView(prefix.buffer);
  view.setUint32(0, tensor.index);
  view.setBigUint64(4, BigInt(place.chunk));
  const order = await shuffled(whole.length, key, prefix);
  const elements = new Uint8Array(whole.length * size);
  whole.forEach((at, i) =>
    elements.set(chunk.subarray(at - place.low, at - place.low + size), i * size),
  );
  order.forEach((source, i) =>
    chunk.set(elements.subarray(i * size, (i + 1) * size), whole[source]! - place.low),
  );
}

/** Which element is where after shuffling. */
export async function shuffled(count: number, key: CryptoKey, prefix: Bytes): Promise<Uint32Array> {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let block = 0;
  let words = new DataView(new ArrayBuffer(0));
  let at = 0;
  for (let i = count - 1; i >= 1; ) {
    if (at === words.byteLength) {
      // As many as are left to draw: more only if some are dropped.
      const blocks = Math.ceil((4 * i) / BLOCK);
      words = new DataView((await keystream(key, prefix, block, blocks * BLOCK)).buffer);
      block += blocks;
      at = 0;
    }
    const word = words.getUint32(at, true);
    at += 4;
    const n = i + 1;
    // word * n has up to 56 bits: its upper part by halves of the word, its lower by imul.
    const lower = Math.imul(word, n) >>> 0;
    if (lower < 2 ** 32 % n) continue;
    const upper = Math.floor(
      ((word >>> 16) * n + Math.floor(((word & 0xffff) * n) / 65_536)) / 65_536,
    );
    [order[i], order[upper]] = [order[upper]!, order[i]!];
    i--;
  }
  return order;
}

/** AES-256 of `prefix ‖ u32be(block)`, `prefix ‖ u32be(block + 1)` and so on. */
export async function keystream(
  key: CryptoKey,
  prefix: Bytes,
  block: number,
  bytes: number,
): Promise<Bytes> {
  const counter = concat(prefix, new Uint8Array(4));
  new DataView(counter.buffer).setUint32(12, block);
  const params = { name: "AES-CTR", counter, length: 32 };
  return new Uint8Array(await crypto.subtle.encrypt(params, key, new Uint8Array(bytes)));
}
