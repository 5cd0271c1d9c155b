// The package in Chromium: every artifact of fixtures/sealed, from memory and from a stream.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { CHROMIUM, launch, pageOf } from "./chromium.mjs";
import {
  EXPECTED,
  externalOf,
  FIXTURES,
  identity,
  isRefused,
  KINDS,
  SEALED,
  sha256,
  vectors,
} from "./fixtures.mjs";

const skip = !CHROMIUM && "there is no Chromium";
const folder = mkdtempSync(path.join(os.tmpdir(), "onnxseal-chromium-"));

let browser;
let page;
let script;
before(async () => {
  if (skip) return;
  const {
    outputFiles: [{ text }],
  } = await build({
    stdin: {
      contents: 'export * from "./dist/index.js"; export * from "./dist/signature.js";',
      resolveDir: path.resolve(import.meta.dirname, ".."),
    },
    bundle: true,
    format: "iife",
    globalName: "onnxseal",
    write: false,
  });
  script = text;
  // WebCrypto wants an origin that is secure: a file's is.
  const blank = path.join(folder, "blank.html");
  writeFileSync(blank, `<script>${text.replaceAll("</script", "<\\/script")}</script>`);
  browser = await launch();
  page = await pageOf(browser);
  await page.goto(pathToFileURL(blank).href);
});
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

/** Opens an artifact: the digests of its files by path, or the kind of the refusal. */
async function open({ file, identity: name, tier }, key = identity(name)) {
  const model = await readFile(path.join(SEALED, file));
  const text = model.toString("latin1");
  const paths = [...text.matchAll(/"path":"([^"]+)"/g)].map(([, name]) => name);
  const external = {};
  for (const name of paths) {
    const bytes = await externalOf(file)(name);
    if (bytes) external[name] = Buffer.from(bytes).toString("base64");
  }
  const given = { model: model.toString("base64"), external, key, tier };
  return page.evaluate(async ({ model, external, key, tier }) => {
    const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const hex = (data) =>
      Array.from(new Uint8Array(data), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const results = [];
    for (const input of [
      bytes(model),
      new Blob([bytes(model)]),
      new Blob([bytes(model)]).stream(),
    ]) {
      try {
        const files = Object.entries(external).map(([name, text]) => [name, bytes(text)]);
        const opened = await onnxseal.open(input, {
          identities: [key],
          tier,
          external: new Map(files),
        });
        const digests = {};
        for (const [name, data] of opened.original())
          digests[name] = hex(await crypto.subtle.digest("SHA-256", data));
        results.push(digests);
      } catch (error) {
        results.push(error.kind ?? String(error));
      }
    }
    return results;
  }, given);
}

test("opens every valid artifact", { skip }, async () => {
  for (const entry of EXPECTED.valid) {
    const original = path.join(SEALED, entry.original);
    for (const files of await open(entry)) {
      for (const [name, digest] of Object.entries(files)) {
        const place = name ? path.join(path.dirname(original), name) : original;
        assert.equal(digest, sha256(await readFile(place)), entry.file);
      }
    }
  }
  for (const { file, tiers } of EXPECTED.tiers_valid) {
    for (const [held, { identity: name }] of tiers.entries()) {
      if (!name) continue;
      for (const tier of tiers.slice(0, held + 1)) {
        const opened = await open({ file, identity: name, tier: tier.name });
        for (const files of opened) assert.deepEqual(files, tier.files, `${file}, ${tier.name}`);
      }
    }
  }
});

test("refuses every invalid artifact", { skip }, async () => {
  for (const entry of [...EXPECTED.invalid, ...EXPECTED.tiers_invalid]) {
    const kinds = [entry.class].flat().flatMap((kind) => KINDS[kind]);
    for (const kind of await open(entry))
      assert.ok(kinds.includes(kind), `${entry.file}: ${JSON.stringify(kind)}`);
  }
});

test("opens a model in a worker", { skip }, async () => {
  const model = await readFile(path.join(SEALED, "valid/digits_cnn.onnx"));
  const given = { script, model: model.toString("base64"), key: identity() };
  const length = await page.evaluate(({ script, model, key }) => {
    const listen = `onmessage = async ({ data: { model, key } }) => {
      const opened = await onnxseal.open(model, { identities: [key] });
      postMessage(opened.model, [opened.model.buffer]);
    };`;
    const worker = new Worker(URL.createObjectURL(new Blob([script, listen])));
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data.length);
      worker.onerror = ({ message }) => reject(new Error(message));
      const bytes = Uint8Array.from(atob(model), (character) => character.charCodeAt(0));
      worker.postMessage({ model: new Blob([bytes]), key });
    });
  }, given);
  const original = await readFile(path.join(FIXTURES, "models/digits_cnn.onnx"));
  assert.equal(length, original.length);
});

test("checks signatures by keys of every type", { skip }, async () => {
  const { message, cases } = vectors("sshsig");
  const held = await page.evaluate(
    async ([message, cases]) => {
      const text = new TextEncoder();
      const results = [];
      for (const { name, armored } of cases) {
        const signature = await onnxseal.parseSignature(text.encode(armored));
        const other = text.encode(`${message} `);
        results.push([
          name,
          await onnxseal.holds(signature, text.encode(message)),
          await onnxseal.holds(signature, other),
        ]);
      }
      return results;
    },
    [message, cases],
  );
  assert.deepEqual(
    held,
    cases.map(({ name, public: line }) => [name, !isRefused(line), false]),
  );
});
