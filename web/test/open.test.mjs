// What callers see: sessions, sources, demands, failures; and models that the command protects.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { generateHybridIdentity } from "age-encryption";
import { createSession, inspect, open, verify } from "../dist/index.js";
import { parseJson } from "../dist/json.js";
import { createSessionFromFile, inspectFile, openFile, verifyFile } from "../dist/node.js";
import {
  COMMAND,
  externalOf,
  FIXTURES,
  identity,
  largeModel,
  SEALED,
  vectors,
} from "./fixtures.mjs";

const identities = [identity()];
const DIGITS = path.join(SEALED, "valid/digits_cnn.onnx");
// Its signature is text, and no SSHSIG.
const UNREADABLE = path.join(SEALED, "valid/signed.onnx");
const ort = await import("onnxruntime-node").then(
  (module) => module.default,
  () => undefined,
);

const folder = mkdtempSync(path.join(os.tmpdir(), "onnxseal-web-"));
process.on("exit", () => rmSync(folder, { recursive: true }));

async function outputs(session) {
  const pixels = Float32Array.from({ length: 64 }, (_, i) => (i * 7) % 17);
  const results = await session.run({
    [session.inputNames[0]]: new ort.Tensor("float32", pixels, [1, 1, 8, 8]),
  });
  return results[session.outputNames[0]].data;
}

for (const [sealed, original] of [
  ["digits_cnn.onnx", "digits_cnn.onnx"],
  ["digits_cnn_dynamo/model.onnx", "digits_cnn_dynamo.onnx"],
]) {
  test(
    `onnxruntime-node runs ${sealed}`,
    { skip: !ort && "onnxruntime-node is not installed" },
    async () => {
      const file = path.join(SEALED, "valid", sealed);
      const quiet = { logSeverityLevel: 3 };
      const wanted = await outputs(
        await ort.InferenceSession.create(path.join(FIXTURES, "models", original), quiet),
      );
      const session = await createSessionFromFile(
        ort.InferenceSession,
        file,
        { identities },
        quiet,
      );
      assert.deepEqual(await outputs(session), wanted);
      const external = externalOf(path.join("valid", sealed));
      const fromMemory = await createSession(
        ort.InferenceSession,
        await readFile(file),
        { identities, external },
        quiet,
      );
      assert.deepEqual(await outputs(fromMemory), wanted);
      await assert.rejects(
        ort.InferenceSession.create(file, { logSeverityLevel: 4 }),
        /ProtectedModel_OpenItWithOnnxseal/,
      );
    },
  );
}

test("a failure overwrites what was decrypted", async () => {
  const bytes = new Uint8Array(readFileSync(DIGITS));
  const {
    files: [{ bytes: length }],
  } = await inspect(bytes);
  bytes[length >> 1] ^= 1;
  const { fill } = Uint8Array.prototype;
  const wiped = [];
  Uint8Array.prototype.fill = function (...args) {
    if (this.length === length) wiped.push(this);
    return fill.apply(this, args);
  };
  try {
    await assert.rejects(open(bytes, { identities }), { kind: "authentication" });
    await assert.rejects(open(new Blob([bytes]).stream(), { identities }), {
      kind: "authentication",
    });
  } finally {
    Uint8Array.prototype.fill = fill;
  }
  assert.equal(wiped.length, 2);
  for (const memory of wiped) assert.ok(memory.every((byte) => byte === 0));
});

test("sources that lie, end early or fail are refused", async () => {
  const bytes = new Uint8Array(readFileSync(DIGITS));
  const read = async (offset, length) => bytes.slice(offset, offset + length);
  await open({ bytes: bytes.length, read }, { identities });
  await assert.rejects(open({ bytes: bytes.length + 1, read }, { identities }), { kind: "io" });
  await assert.rejects(
    open({ bytes: -1, read: async () => new Uint8Array() }, { identities }),
    (error) => error.kind !== undefined,
  );
  await assert.rejects(open(undefined, { identities }), { kind: "usage" });
  await assert.rejects(open("model.onnx", { identities }), { kind: "usage" });
  const broken = new ReadableStream({
    start: (controller) => controller.error(new Error("line is dead")),
  });
  await assert.rejects(open(broken, { identities }), { kind: "io" });
  await assert.rejects(open(new Response("gone", { status: 404 }), { identities }), { kind: "io" });
  const announced = (length) =>
    new Response(bytes, { headers: { "content-length": String(length) } });
  for (const length of [1, bytes.length, bytes.length + 5, 1e15, "x"])
    await open(announced(length), { identities });
  await assert.rejects(openFile(path.join(folder, "none.onnx"), { identities }), { kind: "io" });
  await assert.rejects(openFile(folder, { identities }), { kind: "io" });
});

test("every cut, and every changed byte of the tail, gives one of the errors", async () => {
  const file = new Uint8Array(readFileSync(path.join(SEALED, "valid/tiny_int4.onnx")));
  const {
    files: [{ bytes: start }],
  } = await inspect(file);
  for (let length = 0; length < file.length; length += length < start ? 7 : 13) {
    await assert.rejects(open(file.subarray(0, length), { identities }), {
      kind: /malformed|authentication|usage/,
    });
  }
  for (let at = 0; at < file.length; at += 5) {
    const changed = file.slice();
    changed[at] ^= 1 << at % 8;
    await assert.rejects(
      open(changed, { identities }),
      { kind: /malformed|authentication|no-matching-key|io/ },
      `byte ${at}`,
    );
  }
});

test("models that nobody protected are told apart", async () => {
  const plain = path.join(FIXTURES, "models/digits_cnn.onnx");
  await assert.rejects(inspectFile(plain), { name: "NotProtected", kind: "usage" });
  await assert.rejects(inspect(new Uint8Array([1, 2, 3])), { kind: "malformed" });
});

test("many kinds of fields take no memory", async () => {
  const model = [];
  for (let number = 16; number < 2000; number++)
    model.push(((number << 3) & 127) | 128, number >> 4, 0);
  const { add } = Set.prototype;
  let most = 0;
  Set.prototype.add = function (value) {
    add.call(this, value);
    most = Math.max(most, this.size);
    return this;
  };
  try {
    await assert.rejects(inspect(new Uint8Array(model)), { name: "NotProtected" });
  } finally {
    Set.prototype.add = add;
  }
  assert.ok(most <= 7, `${most} fields are remembered`);
});

test("no message is made before JSON is found to be wrong", () => {
  const { stringify } = JSON;
  JSON.stringify = () => assert.fail("a message is made");
  try {
    assert.deepEqual(parseJson('{"a": {"b": [1, "c"]}}').get("a").get("b"), [1, "c"]);
  } finally {
    JSON.stringify = stringify;
  }
  assert.throws(() => parseJson('{"a": 1, "a": 2}'), /the member "a" occurs twice, at character 12/);
});

test("what is demanded in another form is demanded all the same, or refused", async () => {
  await openFile(DIGITS, { identities, requireClaims: new Set() });
  for (const demand of [
    ...["", "ssh-ed25519 AAAA"].map((allowedSigners) => ({ allowedSigners })),
    ...["customer"].map((requireClaims) => ({ requireClaims })),
  ]) {
    await assert.rejects(openFile(DIGITS, { identities, ...demand }), { kind: "usage" });
  }
  await assert.rejects(verifyFile(DIGITS, { requireClaims: { customer: "acme" } }), TypeError);
  for (const [wrong, right] of [
    ["edition", "tier"],
    ["claims", "requireClaims"],
    ["signers", "allowedSigners"],
    ["tiers", "tier"],
  ]) {
    await assert.rejects(openFile(DIGITS, { identities, [wrong]: undefined }), {
      kind: "usage",
      message: new RegExp(`no option ${wrong}: .*\\b${right}\\b`),
    });
  }
});

test("identities without one are refused, also where no key is needed", async () => {
  for (const none of [[], [""], ["# a comment\n"], ""]) {
    await assert.rejects(verifyFile(DIGITS, { identities: none }), { kind: "usage" });
  }
});

test("claims are demanded", { skip: !COMMAND && "the command is not built" }, async () => {
  const sealed = path.join(folder, "claims.onnx");
  const claim = (text) => ["--claim", text];
  const made = ["day=2020-01-01", "not-after=9999-12-31", "not-before=2020-01-01T00:00:00+01:00"];
  const [recipient] = execFileSync(COMMAND, ["keygen", "-y", "-"], { input: identities[0] })
    .toString()
    .split("\n");
  const model = path.join(FIXTURES, "models", "digits_cnn.onnx");
  const claims = [...made, "customer=a=b"].flatMap(claim);
  execFileSync(COMMAND, ["protect", model, "-o", sealed, "-r", recipient, ...claims]);
  for (const options of [{}, { identities }]) {
    const met = ["customer=a=b", "customer", "not-after", "not-before", "day=2020-01-01"];
    await verifyFile(sealed, { ...options, requireClaims: met });
    for (const unmet of ["customer=b", "absent", "day=2020", "=acme"]) {
      await assert.rejects(verifyFile(sealed, { ...options, requireClaims: [unmet] }), {
        kind: "policy",
        message: new RegExp(unmet.split("=")[0]),
      });
    }
  }
});

test("signatures are demanded", { skip: !COMMAND && "the command is not built" }, async () => {
  const [first, second] = vectors("sshsig").cases;
  const key = path.join(folder, "signer");
  writeFileSync(key, first.private, { mode: 0o600 });
  const signed = path.join(folder, "signed.onnx");
  copyFileSync(DIGITS, signed);
  execFileSync(COMMAND, ["sign", signed, "--key", key]);

  await openFile(signed, { identities, allowedSigners: [second.public, `${first.public} a comment`] });
  await assert.rejects(openFile(signed, { identities, allowedSigners: [second.public] }), {
    kind: "authentication",
  });
  await assert.rejects(openFile(signed, { identities, allowedSigners: [] }), { kind: "authentication" });
  await assert.rejects(openFile(DIGITS, { identities, allowedSigners: [first.public] }), {
    kind: "authentication",
  });
  await assert.rejects(openFile(signed, { identities, allowedSigners: ["alice@example.com"] }), {
    kind: "usage",
  });

  const keyless = await verifyFile(signed, { allowedSigners: [first.public] });
  assert.deepEqual([keyless.authenticated, keyless.signature.holds], [false, true]);
  assert.equal(keyless.signer.fingerprint, first.fingerprint);
  assert.equal((await verifyFile(signed, { identities })).signature.holds, true);
  assert.equal((await verifyFile(DIGITS)).signature, null);
  assert.deepEqual((await verifyFile(UNREADABLE, { identities })).signature, {
    key: null,
    holds: false,
  });
  const bytes = new Uint8Array(readFileSync(signed));
  bytes[bytes.length >> 1] ^= 1;
  assert.equal((await verify(bytes)).signature.holds, false);
  await assert.rejects(verify(bytes, { allowedSigners: [first.public] }), { kind: "authentication" });
});

test("progress is told, and an abort is heard", async () => {
  const seen = [];
  await openFile(DIGITS, { identities, onProgress: (progress) => seen.push(progress) });
  assert.equal(seen.at(-1).done, seen.at(-1).total);
  const controller = new AbortController();
  controller.abort(new Error("enough"));
  await assert.rejects(openFile(DIGITS, { identities, signal: controller.signal }), /enough/);
});

test("a download tells its progress, and an abort ends it", async () => {
  const bytes = new Uint8Array(readFileSync(DIGITS));
  const announced = { headers: { "content-length": String(bytes.length) } };
  for (const [input, total] of [
    [new Response(bytes, announced), bytes.length],
    [new Blob([bytes]).stream(), undefined],
  ]) {
    const seen = [];
    await open(input, { identities, onProgress: (progress) => seen.push(progress) });
    const downloads = seen.filter(({ step }) => step === "download");
    assert.deepEqual(downloads.at(-1), { step: "download", done: bytes.length, total });
    const end = seen.at(-1);
    assert.deepEqual([end.step, end.done], ["authenticate", end.total]);
  }

  let cancelled;
  const endless = new ReadableStream({
    pull: (controller) => controller.enqueue(bytes.slice(0, 100)),
    cancel: (reason) => (cancelled = reason),
  });
  const controller = new AbortController();
  const enough = new Error("enough");
  const onProgress = ({ done }) => done > 1000 && controller.abort(enough);
  const { signal } = controller;
  await assert.rejects(open(endless, { identities, signal, onProgress }), enough);
  assert.equal(cancelled, enough);

  // Nothing comes: the abort ends the read that waits.
  const silent = new ReadableStream({ pull: () => new Promise(() => {}) });
  const late = new AbortController();
  setTimeout(() => late.abort(enough), 10);
  await assert.rejects(open(silent, { identities, signal: late.signal }), enough);
});

test("a model is opened in memory that the caller gives", async () => {
  const sealed = path.join(SEALED, "valid/digits_cnn_dynamo/model.onnx");
  const wanted = await openFile(sealed, { identities });
  const [data] = wanted.externalData;
  const external = externalOf("valid/digits_cnn_dynamo/model.onnx");
  for (const input of [readFileSync(sealed), new Blob([readFileSync(sealed)]).stream()]) {
    const memory = new Uint8Array(2 ** 20).fill(7);
    let from = 3;
    const into = (name, length) => {
      assert.ok(["", data.path].includes(name));
      const given = memory.subarray(from, from + length + 5);
      from += length + 5;
      return given;
    };
    const opened = await open(input, { identities, external, into });
    assert.equal(opened.model.buffer, memory.buffer);
    assert.deepEqual(opened.model, wanted.model);
    assert.deepEqual(opened.externalData, wanted.externalData);
    const around = [0, 3 + opened.model.length, from - 5].map((at) => memory[at]);
    assert.deepEqual(around, [7, 7, 7]);
    opened.wipe();
    assert.ok(opened.model.every((byte) => byte === 0));
    assert.equal(memory[from - 5], 7);
  }
});

test("memory that a caller gives wrongly, or takes away, is refused", async () => {
  const sealed = path.join(SEALED, "valid/digits_cnn_dynamo/model.onnx");
  const one = new Uint8Array(2 ** 20);
  for (const into of [
    () => one,
    (_, bytes) => new Uint8Array(bytes - 1),
    (_, bytes) => new ArrayBuffer(bytes),
  ]) {
    await assert.rejects(openFile(sealed, { identities, into }), { kind: "usage" });
  }
  const taken = new Uint8Array(2 ** 20);
  const onProgress = ({ done }) => done > 0 && structuredClone(taken, { transfer: [taken.buffer] });
  let given = 0;
  const into = (_, bytes) => (given++ === 0 ? new Uint8Array(bytes) : taken);
  await assert.rejects(openFile(sealed, { identities, into, onProgress }), { kind: "usage" });

  // What a failure left there is overwritten.
  const bytes = new Uint8Array(readFileSync(DIGITS));
  bytes[bytes.length >> 1] ^= 1;
  const memory = new Uint8Array(bytes.length).fill(7);
  await assert.rejects(open(bytes, { identities, into: () => memory }), { kind: "authentication" });
  const [{ bytes: length }] = (await inspect(bytes)).files;
  assert.ok(memory.every((byte, at) => byte === (at < length ? 0 : 7)));
});

test(
  "opens what the command protects",
  { skip: !COMMAND && "the command is not built" },
  async () => {
    const run = (...args) => execFileSync(COMMAND, args, { stdio: ["ignore", "pipe", "pipe"] });
    const key = path.join(folder, "key.txt");
    const recipient = run("keygen", "-o", key).toString().trim();
    const passphrase = path.join(folder, "passphrase");
    writeFileSync(passphrase, "correct horse\n");
    const models = [
      "digits_cnn",
      "digits_cnn_fp16",
      "digits_mlp_int4",
      "digits_sklearn_forest",
      "subgraph_loop",
    ];
    for (const [index, name] of models.entries()) {
      const model = path.join(FIXTURES, "models", `${name}.onnx`);
      for (const preset of ["full", "balanced"]) {
        const sealed = path.join(folder, `${name}.${preset}.onnx`);
        run(
          "protect",
          model,
          "-o",
          sealed,
          "-r",
          recipient,
          "--preset",
          preset,
          "--claim",
          "customer=acme",
        );
        const opened = await openFile(sealed, {
          identities: [readFileSync(key, "utf8")],
          requireClaims: ["customer=acme"],
        });
        assert.deepEqual(Buffer.from(opened.model), readFileSync(model));
        const report = JSON.parse(run("inspect", sealed, "--json"));
        const reported = report.operators.flatMap((operator) => operator.tensors);
        const { tensors, chunk } = await inspectFile(sealed);
        assert.ok(chunk <= 896 * 1024, "Chromium takes new memory for every chunk");
        for (const { at, bytes, encrypted } of tensors) {
          const tensor = reported.find((tensor) => tensor.at === at);
          assert.deepEqual([bytes, encrypted[0]], [tensor.bytes, tensor.encrypted_bytes], at);
        }
        assert.ok(
          reported.every(({ at, k }) => k === 0 || tensors.some((tensor) => tensor.at === at)),
        );
      }
      if (index > 0) continue;
      const sealed = path.join(folder, "passphrase.onnx");
      run("protect", model, "-o", sealed, "--passphrase-file", passphrase);
      const opened = await openFile(sealed, { passphrase: "correct horse" });
      assert.deepEqual(Buffer.from(opened.model), readFileSync(model));
    }
  },
);

test(
  "opens what the command wraps to a post-quantum recipient",
  { skip: !COMMAND && "the command is not built" },
  async () => {
    const model = path.join(FIXTURES, "models/digits_cnn.onnx");
    const key = path.join(folder, "pq.txt");
    const recipient = execFileSync(COMMAND, ["keygen", "--pq", "-o", key]).toString().trim();
    const sealed = path.join(folder, "pq.onnx");
    execFileSync(COMMAND, ["protect", model, "-o", sealed, "-r", recipient]);
    const opened = await openFile(sealed, { identities: [readFileSync(key, "utf8")] });
    assert.ok(readFileSync(model).equals(opened.model));
    const stranger = await generateHybridIdentity();
    await assert.rejects(openFile(sealed, { identities: [stranger] }), { kind: "no-matching-key" });
  },
);

test(
  "opens weights of which each element is a piece",
  { skip: !COMMAND && "the command is not built" },
  async () => {
    const model = path.join(folder, "unpacked.onnx");
    writeFileSync(model, largeModel(2 ** 21, false));
    const key = path.join(folder, "unpacked.txt");
    const recipient = execFileSync(COMMAND, ["keygen", "-o", key]).toString().trim();
    const sealed = path.join(folder, "unpacked.sealed.onnx");
    execFileSync(COMMAND, ["protect", model, "-o", sealed, "-r", recipient, "--preset", "full"]);
    const opened = await openFile(sealed, { identities: [readFileSync(key, "utf8")] });
    assert.ok(readFileSync(model).equals(opened.model));
  },
);

test(
  "opens 100 MB as a stream and as a file, and reads no more than it needs to inspect it",
  { skip: !COMMAND && "the command is not built" },
  async () => {
    const model = path.join(folder, "large.onnx");
    writeFileSync(model, largeModel(100 * 2 ** 20));
    const key = path.join(folder, "large.txt");
    const recipient = execFileSync(COMMAND, ["keygen", "-o", key]).toString().trim();
    const sealed = path.join(folder, "large.sealed.onnx");
    execFileSync(COMMAND, ["protect", model, "-o", sealed, "-r", recipient]);
    const secrets = { identities: [readFileSync(key, "utf8")] };
    const original = readFileSync(model);
    assert.ok(original.equals((await openFile(sealed, secrets)).model));
    const bytes = readFileSync(sealed);
    assert.ok(original.equals((await open(new Blob([bytes]).stream(), secrets)).model));

    // Four pieces are under way at most, in memory that is used again.
    const buffers = new Set();
    let underWay = 0;
    const done = [];
    const source = {
      bytes: bytes.length,
      async read(offset, length, into = new Uint8Array(length)) {
        assert.ok(length <= 2 ** 23 && ++underWay <= 4, `${underWay} pieces of ${length} bytes`);
        await new Promise(setImmediate);
        into.set(bytes.subarray(offset, offset + length));
        if (length > 2 ** 20) buffers.add(into.buffer);
        underWay--;
        return into;
      },
    };
    await verify(source, { ...secrets, onProgress: (progress) => done.push(progress.done) });
    assert.ok(buffers.size <= 4, `${buffers.size} buffers`);
    assert.equal(done.length, Math.ceil(original.length / 2 ** 23));
    assert.equal(done.at(-1), original.length);

    let read = 0;
    await inspect({
      bytes: bytes.length,
      read: async (offset, length) => {
        read += length;
        return bytes.subarray(offset, offset + length);
      },
    });
    assert.ok(read < 2 ** 20, `${read} bytes were read`);
  },
);
