import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { readFileSync, existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const REPOSITORY = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
export const FIXTURES = path.join(REPOSITORY, "fixtures");
export const SEALED = path.join(FIXTURES, "sealed");
export const EXPECTED = JSON.parse(readFileSync(path.join(SEALED, "expected.json"), "utf8"));

/** The kinds of errors that a kind in `expected.json` allows. */
export const KINDS = {
  malformed: ["malformed"],
  authentication: ["authentication"],
  no_matching_key: ["no-matching-key"],
  not_in_force: ["not-in-force"],
  io: ["io"],
  lower_tier: ["no-matching-key", "policy"],
};

/** The command, if it is built. */
export const COMMAND = [process.env.ONNXSEAL_BIN, path.join(REPOSITORY, "target/release/onnxseal")]
  .filter(Boolean)
  .map((program) => path.resolve(REPOSITORY, program))
  .find(existsSync);

export function vectors(name) {
  return JSON.parse(readFileSync(path.join(FIXTURES, "vectors", `${name}.json`), "utf8"));
}

/** Whether a public key's line is on a curve that is not accepted. */
export function isRefused(line) {
  return /^ecdsa-sha2-nistp(384|521) /.test(line);
}

export function identity(name = "id.txt") {
  return readFileSync(path.join(SEALED, "keys", name), "utf8");
}

export function hex(text) {
  return new Uint8Array(Buffer.from(text, "hex"));
}

export function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}

/** The external data of an artifact, as a page would give it. */
export function externalOf(file) {
  return async (name) => {
    try {
      return new Uint8Array(await readFile(path.join(path.dirname(path.join(SEALED, file)), name)));
    } catch {
      return undefined;
    }
  };
}

/** SHA-256 of the files of an original, by path. */
export function digestsOf(files) {
  return Object.fromEntries([...files].map(([name, data]) => [name, sha256(data)]));
}

/**
 * A model with one MatMul, whose weights have so many bytes, as one piece or as unpacked
 * `float_data`: with a tag before each.
 */
export function largeModel(weights, packed = true) {
  const varint = (number) => {
    const bytes = [];
    for (; number > 127; number = Math.floor(number / 128)) bytes.push(number % 128 | 128);
    return Buffer.from([...bytes, number]);
  };
  const message = (tag, ...parts) => {
    const body = Buffer.concat(parts);
    return Buffer.concat([Buffer.from([tag]), varint(body.length), body]);
  };
  const text = (tag, value) => message(tag, Buffer.from(value));
  const columns = weights / 4 / 1024;
  const raw = Buffer.alloc(weights);
  for (let at = 0; at < weights; at += 4) raw.writeFloatLE(((at * 2654435761) % 1000) / 1e6, at);
  const elements = [];
  for (let at = 0; !packed && at < weights; at += 4) {
    elements.push(Buffer.from([0x25]), raw.subarray(at, at + 4));
  }
  const shape = (dims) =>
    message(0x12, ...dims.map((dim) => message(0x0a, Buffer.from([0x08]), varint(dim))));
  const value = (tag, name, dims) =>
    message(
      tag,
      text(0x0a, name),
      message(0x12, message(0x0a, Buffer.from([0x08, 1]), shape(dims))),
    );
  const initializer = message(
    0x2a,
    Buffer.from([0x08]),
    varint(1024),
    Buffer.from([0x08]),
    varint(columns),
    Buffer.from([0x10, 1]),
    text(0x42, "w"),
    packed ? message(0x4a, raw) : Buffer.concat(elements),
  );
  const node = message(
    0x0a,
    text(0x0a, "x"),
    text(0x0a, "w"),
    text(0x12, "y"),
    text(0x1a, "/MatMul"),
    text(0x22, "MatMul"),
  );
  const graph = message(
    0x3a,
    node,
    text(0x12, "g"),
    initializer,
    value(0x5a, "x", [1, 1024]),
    value(0x62, "y", [1, columns]),
  );
  return Buffer.concat([
    Buffer.from([0x08, 8]),
    graph,
    message(0x42, text(0x0a, ""), Buffer.from([0x10, 13])),
  ]);
}
