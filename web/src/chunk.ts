import { concat, type Bytes } from "./bytes.js";
import { Authentication } from "./errors.js";
import type { Keys } from "./keys.js";
import type { Place } from "./manifest.js";
import { union, within, type Spans } from "./spans.js";
import type { Tail } from "./tail.js";
import { TierTargets } from "./tiers.js";

/** Bytes of a tag. */
export const TAG = 16;

/** Opens chunks of one file for an edition. */
export class ChunkOpener {
  private constructor(
    private readonly tail: Tail,
    private readonly firstTag: number,
    private readonly lowest: Spans,
    private readonly verifier: CryptoKey,
    private readonly chunkKey: CryptoKey,
    private readonly tiers: TierTargets | undefined,
  ) {}

  /** `edition` is the highest tier whose targets are opened, counted from 1. */
  static async of(tail: Tail, file: number, keys: Keys, edition: number): Promise<ChunkOpener> {
    const { manifest } = tail;
    const before = manifest.chunks.slice(0, file).reduce((sum, count) => sum + count, 0);
    const { starts, ends } = manifest.pieces(file, [0]);
    const single = keys.tier === 1;
    const chunkKey = await keys.chunk(single ? "AES-GCM" : "AES-CTR");
    return new ChunkOpener(
      tail,
      (keys.tier - 1) * manifest.chunkCount + before,
      union(starts, ends),
      single ? chunkKey : await keys.auth(),
      chunkKey,
      manifest.tierCount > 1 ? await TierTargets.of(manifest, file, keys, edition) : undefined,
    );
  }

  /**
   * Verifies a chunk and writes its plaintext to `into`, which is as long, or nowhere.
   *
   * `piece` has the chunk as it is stored at `at`, and may have others around it. It may be the
   * memory of `into`.
   */
  async open(place: Place, piece: Bytes, at: number, into: Bytes | undefined): Promise<void> {
    const length = place.high - place.low;
    const stored = piece.subarray(at, at + length);
    const nonce = nonceOf(place);
    const from = TAG * (this.firstTag + place.chunk);
    const tag = this.tail.tags.subarray(from, from + TAG);
    const spans = within(this.lowest, place.low, place.high).map((byte) => byte - place.low);
    if (this.verifier !== this.chunkKey) {
      await this.decrypt(place, this.verifier, { iv: nonce, additionalData: stored }, tag);
      if (!into) return;
      if (into.buffer !== stored.buffer) into.set(stored);
      if (spans.length > 0) {
        // The counter of AES-GCM, after the block that is for the tag.
        const counter = concat(nonce, new Uint8Array([0, 0, 0, 2]));
        const secret = await crypto.subtle.decrypt(
          { name: "AES-CTR", counter, length: 32 },
          this.chunkKey,
          gather(stored, spans),
        );
        scatter(new Uint8Array(secret), spans, into);
      }
    } else if (spans.length === 2 && spans[1]! - spans[0]! === length) {
      const secret = await this.decryptWhole(place, nonce, piece, at, length, tag);
      into?.set(secret);
    } else {
      const rest = gather(stored, [0, ...spans, length]);
      const secret = await this.decrypt(
        place,
        this.chunkKey,
        { iv: nonce, additionalData: rest },
        concat(gather(stored, spans), tag),
      );
      if (into) {
        if (into.buffer !== stored.buffer) into.set(stored);
        scatter(secret, spans, into);
      }
    }
    if (into) await this.tiers?.open(place, nonce, into);
  }

  /** Decrypts a chunk that is all targets. */
  private decryptWhole(
    place: Place,
    nonce: Bytes,
    piece: Bytes,
    at: number,
    length: number,
    tag: Bytes,
  ): Promise<Bytes> {
    const end = at + length + TAG;
    if (end > piece.length)
      return this.decrypt(
        place,
        this.chunkKey,
        { iv: nonce },
        concat(piece.subarray(at, at + length), tag),
      );
    // WebCrypto wants the tag behind the ciphertext, and copies both before it returns. So the tag
    // stands in place of the next chunk's first bytes just for the call, which saves a copy.
    const next = piece.slice(at + length, end);
    piece.set(tag, at + length);
    const secret = this.decrypt(place, this.chunkKey, { iv: nonce }, piece.subarray(at, end));
    piece.set(next, at + length);
    return secret;
  }

  private async decrypt(
    place: Place,
    key: CryptoKey,
    params: Omit<AesGcmParams, "name">,
    data: Bytes,
  ): Promise<Bytes> {
    try {
      return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", ...params }, key, data));
    } catch (cause) {
      const file = nameOf(this.tail.manifest.files[place.file]!.path);
      throw new Authentication(
        `something in bytes ${place.low} to ${place.high} of ${file} was changed`,
        { cause },
      );
    }
  }
}

/** A file in a message. */
export function nameOf(path: string): string {
  return path ? JSON.stringify(path) : "the model";
}

/** u32be(file) followed by u64be(chunk). */
function nonceOf({ file, chunk }: Place): Bytes {
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  view.setUint32(0, file);
  view.setBigUint64(4, BigInt(chunk));
  return nonce;
}

/** Copies parts (start and end of each, flat) one after the other. A chunk may have millions. */
function gather(from: Uint8Array, parts: number[]): Bytes {
  let length = 0;
  for (let i = 0; i < parts.length; i += 2) length += parts[i + 1]! - parts[i]!;
  const gathered = new Uint8Array(length);
  let at = 0;
  for (let i = 0; i < parts.length; i += 2) {
    gathered.set(from.subarray(parts[i], parts[i + 1]), at);
    at += parts[i + 1]! - parts[i]!;
  }
  return gathered;
}

function scatter(from: Uint8Array, parts: number[], into: Uint8Array): void {
  let at = 0;
  for (let i = 0; i < parts.length; i += 2) {
    const length = parts[i + 1]! - parts[i]!;
    into.set(from.subarray(at, at + length), parts[i]!);
    at += length;
  }
}
