// Every artifact of fixtures/sealed, valid and invalid.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { inspect, OnnxsealError, open } from "../dist/index.js";
import { openFile, verifyFile } from "../dist/node.js";
import { digestsOf, EXPECTED, externalOf, identity, KINDS, SEALED, sha256 } from "./fixtures.mjs";

const at = (file) => path.join(SEALED, file);
const bytesOf = (file) => readFile(at(file));

/** What the files that `original` makes must be: the model and what it refers to. */
async function originals(opened, original) {
  const files = {};
  for (const name of opened.keys()) {
    const place = name ? path.join(path.dirname(at(original)), name) : at(original);
    files[name] = sha256(await readFile(place));
  }
  return files;
}

for (const { file, original } of EXPECTED.valid) {
  test(`opens ${file}`, async () => {
    const opened = await openFile(at(file), { identities: [identity()] });
    const files = opened.original();
    assert.deepEqual(digestsOf(files), await originals(files, original));
    assert.equal(opened.tier, null);
    const { length } = opened.model;
    opened.wipe();
    assert.deepEqual(opened.model, new Uint8Array(length));

    const verified = await verifyFile(at(file), { identities: [identity()] });
    assert.equal(verified.authenticated, true);
    assert.equal(verified.files[0].bytes, length);
  });

  test(`opens ${file} from a stream, and from bytes that stay as they are`, async () => {
    const bytes = new Uint8Array(await bytesOf(file));
    const before = bytes.slice();
    const options = { identities: [identity()], external: externalOf(file) };
    const fromBytes = (await open(bytes, options)).original();
    assert.deepEqual(bytes, before);
    const fromStream = (await open(new Blob([bytes]).stream(), options)).original();
    const fromBlob = (await open(new Blob([bytes]), options)).original();
    const fromResponse = (await open(new Response(bytes), options)).original();
    const wanted = await originals(fromBytes, original);
    for (const files of [fromBytes, fromStream, fromBlob, fromResponse])
      assert.deepEqual(digestsOf(files), wanted);
  });
}

for (const { file, files } of EXPECTED.unwritten) {
  test(`opens ${file}`, async () => {
    const opened = await openFile(at(file), { identities: [identity()] });
    assert.deepEqual(digestsOf(opened.original()), files);
  });
}

for (const { file, tiers } of EXPECTED.tiers_valid) {
  test(`opens each edition of ${file} by each key`, async () => {
    for (const [held, holder] of tiers.entries()) {
      if (!holder.identity) continue;
      const identities = [identity(holder.identity)];
      for (const tier of tiers.slice(0, held + 1)) {
        const opened = await openFile(at(file), { identities, tier: tier.name });
        assert.deepEqual(digestsOf(opened.original()), tier.files, tier.name);
        assert.equal(opened.tier, tier.name);
      }
      const highest = await openFile(at(file), { identities, tier: "any" });
      const opens = tiers.findLast((tier) => tier.identity === holder.identity);
      assert.equal(highest.tier, opens.name);
      const streamed = await open(new Blob([await bytesOf(file)]).stream(), {
        identities,
        tier: "any",
        external: externalOf(file),
      });
      assert.deepEqual(digestsOf(streamed.original()), opens.files);
      if (opens !== tiers.at(-1)) {
        await assert.rejects(openFile(at(file), { identities }), { kind: "no-matching-key" });
      } else {
        assert.deepEqual(
          digestsOf((await openFile(at(file), { identities })).original()),
          opens.files,
        );
      }
    }
    const identities = [identity(tiers.find((tier) => tier.identity).identity)];
    await assert.rejects(openFile(at(file), { identities, tier: "none" }), { kind: "policy" });
  });
}

for (const { file, class: classes, identity: name, tier } of [
  ...EXPECTED.invalid,
  ...EXPECTED.tiers_invalid,
]) {
  test(`refuses ${[file, name, tier].filter(Boolean).join(", ")}`, async () => {
    const kinds = [classes].flat().flatMap((kind) => KINDS[kind]);
    const refused = (error) =>
      kinds.includes(error.kind) || assert.fail(`${error.stack}, not ${kinds}`);
    const options = { identities: [identity(name)], tier };
    await assert.rejects(openFile(at(file), options), refused);
    await assert.rejects(verifyFile(at(file), options), refused);
    const external = externalOf(file);
    await assert.rejects(
      open(new Blob([await bytesOf(file)]).stream(), { ...options, external }),
      refused,
    );
    // Without a key some faults are not seen, but nothing else is thrown.
    await inspect(await bytesOf(file)).catch((error) =>
      assert.ok(error instanceof OnnxsealError, error),
    );
  });
}

for (const { file, identity: name, tier } of EXPECTED.tiers_unnoticed) {
  test(`opens ${file} by ${name}, who cannot notice`, async () => {
    await openFile(at(file), { identities: [identity(name)], tier });
  });
}
