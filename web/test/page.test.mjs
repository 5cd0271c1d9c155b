// The page in Chromium: a good model, a tampered one, a wrong key, one of 300 MB.
// ONNXSEAL_PICTURES=FOLDER has it write pictures of what it shows.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { CHROMIUM, launch, pageOf } from "./chromium.mjs";
import { COMMAND, FIXTURES, identity, largeModel, SEALED } from "./fixtures.mjs";
import { licenceOf, smallModel } from "./licences.mjs";

const PAGE = pathToFileURL(path.resolve(import.meta.dirname, "../page/dist/onnxseal.html")).href;
const PICTURES = process.env.ONNXSEAL_PICTURES;
const DIGITS = path.join(SEALED, "valid/digits_cnn.onnx");
const skip = !CHROMIUM && "there is no Chromium";
const folder = mkdtempSync(path.join(os.tmpdir(), "onnxseal-page-"));

let browser;
let page;
const requests = [];
before(async () => {
  if (skip) return;
  browser = await launch();
  page = await pageOf(browser, { viewport: { width: 1100, height: 800 } });
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => assert.fail(error));
});
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

const verdict = () => page.textContent("#verdict");

async function drop(...files) {
  await page.goto(PAGE);
  await page.setInputFiles("#files", files);
  await page.waitForSelector("#verdict:not([hidden])");
}

async function press(button, key = identity()) {
  await page.fill("#identity", key);
  await page.click(`#${button}`);
  await page.waitForSelector(`#${button}:not([disabled])`);
  return verdict();
}

async function picture(name) {
  if (!PICTURES) return;
  for (const colorScheme of ["light", "dark"]) {
    for (const [size, width] of [
      ["wide", 1400],
      ["narrow", 390],
    ]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      await page.screenshot({
        path: path.join(PICTURES, `${name}-${colorScheme}-${size}.png`),
        fullPage: true,
      });
    }
  }
}

/** The page is as wide as the window, however narrow. */
async function fits() {
  for (const width of [1100, 320]) {
    await page.setViewportSize({ width, height: 800 });
    assert.ok(
      await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
      `${width}`,
    );
  }
}

test("a good model is shown, verified, opened and run", { skip }, async () => {
  await drop(DIGITS);
  assert.match(await verdict(), /not verified/);
  assert.match(await page.textContent("#facts"), /Zoë & Söhne/);
  assert.equal(await page.locator(".operator").count(), 3);
  await page.click(".operator summary");
  assert.match(await page.textContent(".operator .tensor"), /FLOAT \[24, 16, 3, 3\]/);
  assert.match(await press("verify"), /Verified: every byte/);
  assert.match(await press("open"), /Opened in memory: every byte is authentic/);
  await page.click("#run");
  await page.waitForFunction(() =>
    document.querySelector("#outputs").textContent.includes("[1, 10]"),
  );
  const shown = (await page.textContent("#outputs")).split(": ").at(-1).split(", ").map(Number);
  assert.ok(Math.abs(shown[0] - -0.7995632) < 1e-4, String(shown));
  await picture("good");
  await fits();
});

test("a verdict on one model is not shown beside another", { skip }, async () => {
  await drop(DIGITS);
  await page.evaluate(() => {
    const { read } = ReadableStreamDefaultReader.prototype;
    window.held = [];
    ReadableStreamDefaultReader.prototype.read = function () {
      if (!window.held) return read.call(this);
      return new Promise((resolve) => window.held.push(resolve)).then(() => read.call(this));
    };
  });
  await page.fill("#identity", identity());
  await page.click("#verify");
  await page.waitForFunction(() => window.held.length > 0);
  await page.evaluate(() => {
    window.waiting = window.held;
    window.held = undefined;
  });
  await page.setInputFiles("#files", path.join(SEALED, "valid/tiny_int4.onnx"));
  await page.waitForFunction(() =>
    document.querySelector("#verdict").textContent.startsWith("tiny_int4.onnx"),
  );
  await page.evaluate(() => window.waiting.forEach((resolve) => resolve()));
  await page.waitForSelector("#verify:not([disabled])");
  assert.match(await verdict(), /^tiny_int4\.onnx: well-formed, not verified/);
});

test("a model with external data is opened from memory alone", { skip }, async () => {
  const own = path.join(SEALED, "valid/digits_cnn_dynamo");
  await drop(path.join(own, "model.onnx"), path.join(own, "digits_cnn_dynamo.onnx.data"));
  assert.match(await press("open"), /Opened/);
  await page.click("#run");
  await page.waitForFunction(() =>
    document.querySelector("#outputs").textContent.includes("[1, 10]"),
  );
  assert.match(await page.textContent("#outputs"), /-0\.79956/);
  await drop(path.join(own, "model.onnx"));
  assert.match(await press("open"), /Cannot be read.*is missing/);
});

test("a tier is chosen", { skip }, async () => {
  await drop(path.join(SEALED, "tiers/valid/mask.onnx"));
  assert.match(await page.textContent("#tier"), /^the original \(full\)/);
  assert.equal(await page.locator("#tier option", { hasText: "full" }).count(), 1);
  assert.match(await press("verify", identity("tier1.txt")), /No matching key.*basic, not full/);
  await picture("offer");
  await page.click("#offer");
  await page.waitForFunction(() =>
    /every byte of the tier basic/.test(document.querySelector("#verdict").textContent),
  );
  await page.selectOption("#tier", "");
  assert.match(await press("verify"), /every byte of the original \(full\)/);
  await picture("tiers");
});

test(
  "a tampered model, a wrong key, a malformed file and a plain model are told apart",
  { skip },
  async () => {
    const changed = path.join(folder, "changed.onnx");
    const bytes = readFileSync(DIGITS);
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(changed, bytes);
    await drop(changed);
    assert.match(await verdict(), /not verified/);
    for (const button of ["verify", "open"])
      assert.match(await press(button), /Changed since it was protected/);
    assert.ok(await page.isHidden("#session"));
    await picture("tampered");
    await drop(DIGITS);
    assert.match(await press("open", identity("other.txt")), /No matching key/);
    await picture("wrong-key");
    assert.match(await press("verify", "AGE-SECRET-KEY-1NONSENSE"), /Not possible/);
    await drop(path.join(SEALED, "invalid/trailing_field.onnx"));
    assert.match(await verdict(), /Malformed/);
    assert.ok(await page.isHidden("#report"));
    assert.ok(await page.isHidden("#plain"));
    await drop(path.join(FIXTURES, "models/digits_cnn.onnx"));
    assert.match(await verdict(), /Not protected/);
    await page.waitForSelector("#plain:not([hidden])");
    const row = page.locator("#plain tr", { hasText: "[24, 16, 3, 3]" });
    assert.match(await row.textContent(), /FLOAT\[24, 16, 3, 3\]13\.50 KiB/);
    await picture("plain");
    await fits();
    await page.setInputFiles("#files", DIGITS);
    await page.waitForSelector("#report:not([hidden])");
    assert.ok(await page.isHidden("#plain"));
  },
);

test(
  "300 MB are opened and run",
  { skip: skip || (!COMMAND && "the command is not built") },
  async (context) => {
    const model = path.join(folder, "large.onnx");
    writeFileSync(model, largeModel(300 * 2 ** 20));
    const key = path.join(folder, "key.txt");
    const recipient = execFileSync(COMMAND, ["keygen", "-o", key]).toString().trim();
    const sealed = path.join(folder, "sealed.onnx");
    execFileSync(COMMAND, ["protect", model, "-o", sealed, "-r", recipient]);
    await drop(sealed);
    await page.emulateMedia({ colorScheme: "light" });
    const verified = await press("verify", readFileSync(key, "utf8"));
    assert.match(verified, /Verified: every byte.*300\.00 MiB/);
    const opened = await press("open", readFileSync(key, "utf8"));
    assert.match(opened, /Opened.*300\.00 MiB/);
    const started = performance.now();
    execFileSync(COMMAND, ["unprotect", sealed, "-i", key, "-o", path.join(folder, "opened.onnx")]);
    const seconds = (performance.now() - started) / 1000;
    const pace = (text) => /in ([0-9.]+ s, [0-9.]+ GB\/s)\./.exec(text)[1];
    context.diagnostic(
      `figure: 300 MiB in Chromium: verify ${pace(verified)}; open ${pace(opened)}; the command: ` +
        `unprotect ${seconds.toFixed(2)} s, ${((300 * 2 ** 20) / 1e9 / seconds).toFixed(2)} GB/s`,
    );
    await page.fill("#session input", "1");
    await page.click("#run");
    await page.waitForFunction(() =>
      document.querySelector("#outputs").textContent.includes("[1, 76800]"),
    );
  },
);

test("a date of a claim that is past is red, and so is one to come", { skip }, async () => {
  const recipient = /age1\w+/.exec(identity())[0];
  const day = (offset) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);
  const red = async (claims) => {
    const sealed = path.join(folder, "dated.onnx");
    writeFileSync(sealed, (await smallModel(claims, recipient)).bytes);
    await drop(sealed);
    return page.locator("#facts tr.bad").allTextContents();
  };
  const expired = await red({ "not-after": "2020-01-01", a: "2020-01-01" });
  assert.deepEqual(expired, ["not-after2020-01-01 (expired)"]);
  await picture("expired");
  assert.match(await press("verify"), /Verified: every byte.*NOT IN FORCE by not-after/);
  assert.match(await press("open"), /Not in force.*until 2020-01-01: ask the publisher/);
  const later = "2999-12-31T00:00:00Z";
  assert.deepEqual(await red({ "not-before": later }), [`not-before${later} (not yet)`]);
  assert.deepEqual(await red({ "not-after": "2020-02-30" }), []);
  // A date lasts to its end.
  assert.deepEqual(await red({ "not-after": day(1), "not-before": day(0) }), []);
});

test("a licence is dropped with its model", { skip }, async () => {
  const sealed = path.join(folder, "licensed.onnx");
  const licence = path.join(folder, "acme.licence");
  const model = await smallModel({}, /age1\w+/.exec(identity("other.txt"))[0]);
  writeFileSync(sealed, model.bytes);
  writeFileSync(licence, await licenceOf([model], /age1\w+/.exec(identity())[0]));
  await drop(sealed);
  assert.match(await press("verify"), /No matching key/);
  await drop(licence, sealed);
  assert.match(await press("verify"), /Verified: every byte/);
});

test(
  "what a model says is text, and long lists are drawn in parts",
  { skip: skip || (!COMMAND && "the command is not built") },
  async () => {
    const key = path.join(folder, "markup.txt");
    const recipient = execFileSync(COMMAND, ["keygen", "-o", key]).toString().trim();
    const sealed = path.join(folder, "markup.onnx");
    const model = path.join(FIXTURES, "models/tiny_int4.onnx");
    const markup = "<img src=x onerror=alert(1)>";
    const claims = Array.from({ length: 250 }, (_, i) => `--claim=claim ${i}=${markup}`);
    execFileSync(COMMAND, ["protect", model, "-o", sealed, "-r", recipient, ...claims]);
    await drop(sealed);
    assert.ok((await page.textContent("#facts")).includes(markup));
    assert.equal(await page.locator("#report img").count(), 0);
    assert.equal(await page.locator("#facts td", { hasText: markup }).count(), 200);
    await page.click("#facts button");
    assert.equal(await page.locator("#facts td", { hasText: markup }).count(), 250);
  },
);

test("the page connects to nothing, and cannot", { skip }, async () => {
  for (const url of requests) assert.match(url, /^(file|blob):/);
  await page.goto(PAGE);
  const refused = await page.evaluate(async () => {
    const seen = [];
    document.addEventListener("securitypolicyviolation", (event) =>
      seen.push(event.effectiveDirective),
    );
    await fetch("https://example.invalid/").catch(() => {});
    navigator.sendBeacon("https://example.invalid/", "x");
    new Image().src = "https://example.invalid/x.png";
    await new Promise((resolve) => setTimeout(resolve, 100));
    return seen;
  });
  assert.deepEqual([...new Set(refused)].sort(), ["connect-src", "img-src"]);
});
