// The vectors of single functions.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { decrypterOf, unwrap } from "../dist/age.js";
import { ascii, concat, utf8 } from "../dist/bytes.js";
import { ChunkOpener } from "../dist/chunk.js";
import { parseHeader } from "../dist/header.js";
import { Keys } from "../dist/keys.js";
import { holds, parseSignature, signedMessage, signerOf } from "../dist/signature.js";
import { keystream, shuffled } from "../dist/tiers.js";
import { readTail } from "../dist/tail.js";
import { EXPECTED, externalOf, hex, isRefused, SEALED, sha256, vectors } from "./fixtures.mjs";

const plainOf = (length, seed) => Uint8Array.from({ length }, (_, i) => 31 * i + (i >> 8) + seed);

/** A manifest of which only its bytes count. */
const manifestOf = (data, more = {}) => ({
  data: hex(data),
  tierCount: 1,
  chunkCount: 0,
  chunks: [],
  tensorsOf: new Map(),
  files: [],
  ...more,
});

for (const artifact of vectors("chunks").artifacts) {
  test(`chunks: ${artifact.name}`, async () => {
    const tags = concat(...artifact.chunks.map((chunk) => hex(chunk.tag)));
    const manifest = manifestOf(artifact.manifest);
    const keys = await Keys.unlock(
      { manifest, tags, macs: hex(artifact.mac) },
      1,
      hex(artifact.dek),
    );
    let tried = 0;
    for (const { file, chunk, len, seed, targets, sealed, sealed_sha256, tag } of artifact.chunks) {
      if (!Number.isSafeInteger(chunk) || len > 2 ** 24) continue; // beyond what a manifest may say
      const plain = plainOf(len, seed);
      const starts = Float64Array.from(targets, ([start]) => start);
      const ends = Float64Array.from(targets, ([, end]) => end);
      const tail = {
        manifest: manifestOf(artifact.manifest, {
          files: Array.from({ length: 4 }, () => ({ path: "" })),
          pieces: () => ({ starts, ends }),
        }),
        tags: { subarray: () => hex(tag) },
      };
      const opener = await ChunkOpener.of(tail, file, keys, 1);
      const place = { file, chunk, low: 0, high: len };
      if (sealed !== undefined) {
        const into = new Uint8Array(len);
        await opener.open(place, hex(sealed), 0, into);
        assert.deepEqual(into, plain);
        // Among other bytes, in place, and with a bit changed.
        const around = concat(new Uint8Array(3).fill(7), hex(sealed), new Uint8Array(20).fill(9));
        await opener.open(place, around, 3, around.subarray(3, 3 + len));
        assert.deepEqual(
          around,
          concat(new Uint8Array(3).fill(7), plain, new Uint8Array(20).fill(9)),
        );
        if (len > 0) {
          const changed = hex(sealed);
          changed[len - 1] ^= 1;
          await assert.rejects(opener.open(place, changed, 0, into), { kind: "authentication" });
        }
        assert.equal(sha256(hex(sealed)), sealed_sha256);
        tried++;
      }
    }
    assert.ok(tried > 0 || artifact.name === "chunk edges", "nothing was tried");
  });
}

test("MACs of three tiers, and keys of lower ones", async () => {
  const { derived, macs } = vectors("tiers");
  const tail = {
    manifest: manifestOf(macs.manifest, { tierCount: 3 }),
    tags: hex(macs.tags),
    macs: concat(...macs.macs.map(hex)),
  };
  for (const { tier, key } of derived.tiers)
    assert.equal((await Keys.unlock(tail, tier, hex(key))).tier, tier);
  for (let byte = 0; byte < tail.macs.length; byte += 7) {
    const changed = { ...tail, macs: tail.macs.slice() };
    changed.macs[byte] ^= 1;
    await assert.rejects(Keys.unlock(changed, 1, hex(derived.tiers[0].key)), {
      kind: "authentication",
    });
  }
});

test("streams and shuffles", async () => {
  const { streams, shuffles } = vectors("tiers");
  const aes = (key) => crypto.subtle.importKey("raw", hex(key), "AES-CTR", false, ["encrypt"]);
  const prefix = (first, chunk) => {
    const bytes = new Uint8Array(12);
    new DataView(bytes.buffer).setUint32(0, first);
    new DataView(bytes.buffer).setBigUint64(4, BigInt(chunk));
    return bytes;
  };
  for (const { stream_key, file, chunk, start, len, stream } of streams) {
    if (!Number.isSafeInteger(chunk)) continue;
    const made = await keystream(await aes(stream_key), prefix(file, chunk), 0, start + len);
    assert.deepEqual(made.subarray(start), hex(stream));
  }
  for (const { shuffle_key, tensor, chunk, elements, order } of shuffles) {
    if (!Number.isSafeInteger(chunk)) continue;
    const made = await shuffled(elements, await aes(shuffle_key), prefix(tensor, chunk));
    if (order) assert.deepEqual([...made], order);
  }
  assert.ok(
    shuffles.some(({ order, dropped }) => order && dropped > 0),
    "no draw was dropped",
  );
});

const wrapped = (armored) => ({
  keys: [{ tier: 1, header: parseHeader(ascii(armored), "onnxseal.key.1") }],
});

test("age files", async () => {
  const { identity, dek, cases } = vectors("age");
  const kinds = { malformed: "malformed", "no matching key": "no-matching-key" };
  for (const { name, expected, armored } of cases) {
    const opened = unwrap(
      wrapped(armored),
      decrypterOf({ identities: [`# a comment\n${identity}\n`] }),
    );
    if (expected === "ok") assert.deepEqual((await opened).key, hex(dek), name);
    else await assert.rejects(opened, { kind: kinds[expected] }, name);
  }
});

test("a passphrase", async () => {
  const { dek, passphrase, scrypt: armored } = vectors("keys");

  assert.deepEqual((await unwrap(wrapped(armored), decrypterOf({ passphrase }))).key, hex(dek));
  await assert.rejects(unwrap(wrapped(armored), decrypterOf({ passphrase: "wrong" })), {
    kind: "no-matching-key",
  });
  // A work factor of 2^21 would take 2 GiB.
  const costly = parseHeader(ascii(armored), "onnxseal.key.1").file;
  const text = utf8(costly.subarray(0, costly.indexOf(10, 22)), "");
  const changed = concat(ascii(text.replace(/[0-9]+$/, "21")), costly.subarray(text.length));
  const tail = { keys: [{ tier: 1, header: { file: changed, stanzas: [] } }] };
  await assert.rejects(unwrap(tail, decrypterOf({ passphrase })), { kind: "authentication" });
});

test("identities of other kinds are refused, and not repeated", () => {
  const secret = "AGE-SECRET-KEY-1QQQQQQ";
  for (const identities of [
    [secret],
    ["AGE-PLUGIN-X-1"],
    ["-----BEGIN OPENSSH PRIVATE KEY-----"],
  ]) {
    assert.throws(
      () => decrypterOf({ identities }),
      (error) => error.kind === "usage" && !error.stack.includes(secret),
    );
  }
  assert.equal(decrypterOf({}), undefined);
});

test("signatures by keys of every type", async () => {
  const { message, cases } = vectors("sshsig");
  for (const { name, public: line, fingerprint, armored } of cases) {
    const signature = await parseSignature(ascii(armored));
    if (isRefused(line)) {
      assert.throws(() => signerOf(line), { kind: "usage" }, name);
      assert.equal(await holds(signature, ascii(message)), false, name);
      continue;
    }
    assert.equal(signature.key.line, signerOf(line), name);
    assert.equal(signature.key.fingerprint, fingerprint, name);
    assert.equal(await holds(signature, ascii(message)), true, name);
    assert.equal(await holds(signature, ascii(`${message} `)), false, name);
    for (const at of [0, signature.value.length >> 1, signature.value.length - 1]) {
      const value = signature.value.slice();
      value[at] ^= 4;
      assert.equal(await holds({ ...signature, value }, ascii(message)), false, name);
    }
    for (const other of [
      armored.trimEnd(),
      armored.replace("\n", "\r\n"),
      `${armored}\n`,
      armored.replace("=", ""),
    ]) {
      if (other !== armored)
        await assert.rejects(parseSignature(ascii(other)), { kind: "authentication" }, name);
    }
  }
});

test("what a publisher signs", async () => {
  for (const { file, signed_message } of EXPECTED.tiers_valid) {
    const model = new Uint8Array(await readFile(path.join(SEALED, file)));
    const tail = await readTail({
      bytes: model.length,
      read: async (at, length) => model.slice(at, at + length),
    });
    const digests = [];
    for (const { path: name, bytes } of tail.manifest.files) {
      const stored = name ? await externalOf(file)(name) : model;
      for (let at = 0; at < bytes; at += tail.manifest.chunk) {
        digests.push(hex(sha256(stored.subarray(at, Math.min(at + tail.manifest.chunk, bytes)))));
      }
    }
    assert.equal(sha256(await signedMessage(tail, concat(...digests))), signed_message, file);
  }
});
