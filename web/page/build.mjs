// Makes page/dist/onnxseal.html: one file, with ONNX Runtime in it, that needs no server.
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const HERE = import.meta.dirname;
const WASM = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm";

const {
  outputFiles: [{ text: script }],
} = await build({
  entryPoints: [path.join(HERE, "page.ts")],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  write: false,
  // The glue of ONNX Runtime looks for its own address, which a script inside a page has not.
  define: { "import.meta.url": '"onnxseal:page"' },
});
const style = await readFile(path.join(HERE, "page.css"), "utf8");
const wasm = gzipSync(await readFile(path.join(HERE, "..", WASM)), { level: 9 });

// No connection, no frame, no form leads out: what is allowed are this script, this style and wasm.
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const inScript = script.replaceAll("</script", "<\\/script");
const policy = [
  "default-src 'none'",
  `script-src ${hash(inScript)} 'wasm-unsafe-eval'`,
  `style-src ${hash(style)}`,
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const parts = { policy, style, script: inScript, wasm: wasm.toString("base64") };
const page = (await readFile(path.join(HERE, "page.html"), "utf8")).replace(
  /\{\{(\w+)\}\}/g,
  (_, name) => parts[name],
);
await mkdir(path.join(HERE, "dist"), { recursive: true });
await writeFile(path.join(HERE, "dist", "onnxseal.html"), page);
