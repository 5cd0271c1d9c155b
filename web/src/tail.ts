import { ascii, base64, concat, equal, checkUtf8, startsWith, utf8, type Bytes } from "./bytes.js";
import { Authentication, need, NotProtected } from "./errors.js";
import { Fields } from "./fields.js";
import { Manifest } from "./manifest.js";
import { MOST_ARMORED } from "./signature.js";
import type { Source } from "./source.js";
import { field, minimal } from "./wire.js";
import { parseHeader, type Header } from "./header.js";

const METADATA_PROPS = 14;
const PREFIX = ascii("onnxseal.");

/** Stops programs that do not open the model: an opset import and a node, as FORMAT.md has them. */
const LOCK = concat(
  ascii("\x42\x0c\x0a\x08onnxseal\x10\x01"),
  new Uint8Array([0x3a, 154, 1]),
  ascii("\x0a\x7d\x12\x0fonnxseal.locked"),
  ascii("\x1a\x3dThe weights are encrypted: open the model with onnxseal first"),
  ascii("\x22\x21ProtectedModel_OpenItWithOnnxseal\x3a\x08onnxseal"),
  ascii("\x62\x19\x0a\x0fonnxseal.locked\x12\x06\x0a\x04\x08\x01\x12\x00"),
);

/** A wrapped key of a tier. */
export interface WrappedKey {
  /** The tier, counted from 1. */
  tier: number;
  header: Header;
}

/** The tail of a protected model file, parsed. */
export interface Tail {
  manifest: Manifest;
  tags: Bytes;
  /** The MACs of all tiers, the least first. */
  macs: Bytes;
  /** The armored signature, if there is one. */
  signature: Bytes | undefined;
  /** At least one, ascending by tier. */
  keys: WrappedKey[];
}

/** Reads the tail of a model file. Nothing in it is authenticated yet. */
export async function readTail(source: Source): Promise<Tail> {
  const start = await findTail(source);
  return parseTail(await source.read(start, source.bytes - start), start);
}

/**
 * Finds the first top-level entry whose key begins with `onnxseal.`, over fields that it checks and
 * otherwise steps over.
 */
async function findTail(source: Source): Promise<number> {
  const fields = new Fields(source);
  const seen = new Set<number>();
  for await (const { number, wire, at, start, end } of fields.of(0, source.bytes)) {
    need(!seen.has(number), `the field ${number} occurs twice, at byte ${at}`);
    if (number <= 7) seen.add(number);
    if (number === METADATA_PROPS) {
      need(wire === 2, `metadata_props at byte ${at} is not a message`);
      if (startsWith(keyOf(await fields.bytes(start, end - start), at), PREFIX)) return at;
    }
  }
  throw new NotProtected("the model is not protected");
}

/** The key of an entry in any encoding. */
function keyOf(entry: Bytes, place: number): Uint8Array {
  const what = `the entry at byte ${place}`;
  const parts = new Map<number, Uint8Array>();
  for (let at = 0; at < entry.length; ) {
    const { number, wire, start, end } = field(entry, at, entry.length);
    need(end <= entry.length, `${what} is cut`);
    if (number === 1 || number === 2) {
      need(wire === 2 && !parts.has(number), `${what} has a key or value that is no text, or two`);
      checkUtf8(entry.subarray(start, end), what);
      parts.set(number, entry.subarray(start, end));
    }
    at = end;
  }
  return parts.get(1) ?? new Uint8Array();
}

function parseTail(data: Bytes, length: number): Tail {
  let at = 0;
  const next = () => {
    const entry = entryAt(data, at);
    at = entry.end;
    return entry;
  };
  const values = ["manifest", "tags", "mac"].map((name) => {
    const { key, value } = next();
    need(
      equal(key, ascii(`onnxseal.${name}`)),
      `the tail has no onnxseal.${name} where it must stand`,
    );
    return value;
  });
  // A copy, since the rest of the tail is not kept.
  const manifest = new Manifest(values[0]!.slice());
  const tags = base64(values[1]!, "onnxseal.tags");
  const macs = base64(values[2]!, "onnxseal.mac");
  const tiers = manifest.tierCount;
  need(
    tags.length === 16 * tiers * manifest.chunkCount,
    "onnxseal.tags: its length does not fit the manifest",
  );
  need(macs.length === 32 * tiers, "onnxseal.mac: its length does not fit the manifest");
  if (manifest.lock) {
    need(startsWith(data, LOCK, at), "the lock is missing");
    at += LOCK.length;
  }
  let signature: Bytes | undefined;
  const keys: WrappedKey[] = [];
  while (at < data.length) {
    const { key, value } = next();
    const name = utf8(key, "a key of the tail");
    if (name === "onnxseal.sig" && !signature && keys.length === 0) {
      need(value.length <= MOST_ARMORED, "onnxseal.sig is too long");
      checkUtf8(value, name);
      signature = value.slice();
      continue;
    }
    const number = /^onnxseal\.key\.([1-9][0-9]?)$/.exec(name)?.[1];
    const tier = Number(number);
    need(
      number && tier <= tiers && tier > (keys.at(-1)?.tier ?? 0),
      `${JSON.stringify(name)} must not stand in the tail, or not here`,
    );
    keys.push({ tier, header: parseHeader(value, name) });
  }
  need(keys.length > 0, "the tail has no key");
  const { bytes } = manifest.files[0]!;
  if (bytes !== length) {
    throw new Authentication(`the model has ${length} bytes before its tail, and not ${bytes}`);
  }
  return { manifest, tags, macs, signature, keys };
}

/** Reads the entry at a place of the tail, in its one encoding. */
function entryAt(data: Bytes, place: number): { key: Bytes; value: Bytes; end: number } {
  need(data[place] === 0x72, "the tail has something that is no entry");
  const length = minimal(data, place + 1, data.length);
  const end = length.end + length.value;
  need(end <= data.length, "an entry of the tail is cut");
  let at = length.end;
  const part = (tag: number): Bytes => {
    need(at < end && data[at] === tag, "an entry of the tail is not a key and a value");
    const size = minimal(data, at + 1, end);
    at = size.end + size.value;
    need(at <= end, "an entry of the tail is cut");
    return data.subarray(size.end, at);
  };
  const key = part(0x0a);
  const value = part(0x12);
  need(at === end, "an entry of the tail has more than a key and a value");
  return { key, value, end };
}
