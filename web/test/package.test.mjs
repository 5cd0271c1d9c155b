// What is published: its size, its dependencies, its example.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { SEALED } from "./fixtures.mjs";

const REGISTRY = "https://registry.npmjs.org/";
const WEB = path.resolve(import.meta.dirname, "..");

test("all of it takes less than 62 KB", async () => {
  const {
    outputFiles: [{ contents }],
  } = await build({
    stdin: { contents: 'export * from "./dist/index.js";', resolveDir: WEB },
    bundle: true,
    minify: true,
    format: "esm",
    write: false,
  });
  const size = gzipSync(contents, { level: 9 }).length;
  assert.ok(size < 62_000, `${size} bytes`);
});

test("it depends on age's package alone, and all packages come from npm's registry", async () => {
  const { dependencies } = JSON.parse(await readFile(path.join(WEB, "package.json")));
  assert.deepEqual(Object.keys(dependencies), ["age-encryption"]);
  const lock = JSON.parse(await readFile(path.join(WEB, "package-lock.json")));
  for (const [name, { resolved, integrity }] of Object.entries(lock.packages)) {
    if (name) assert.ok(integrity && (resolved ?? REGISTRY).startsWith(REGISTRY), name);
  }
});

test("the example runs a model", async () => {
  const args = [
    "example/node.mjs",
    path.join(SEALED, "valid/digits_cnn.onnx"),
    path.join(SEALED, "keys/id.txt"),
  ];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: WEB });
  assert.match(stdout, /\[ 1, 10 \]/);
});

test("a caller in TypeScript compiles", async () => {
  const options = "--ignoreConfig --noEmit --strict --exactOptionalPropertyTypes --target es2022";
  const libraries = "--module nodenext --lib es2024,dom,dom.iterable --types node";
  const args = [...options.split(" "), ...libraries.split(" "), "test/types.mts"];
  const compiler = path.join(WEB, "node_modules/.bin/tsc");
  await promisify(execFile)(compiler, args, { cwd: WEB }).catch(({ stdout }) =>
    assert.fail(stdout),
  );
});
