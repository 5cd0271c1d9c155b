// What lies beside a model file: external data, and a licence.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { openFile, verifyFile } from "../dist/node.js";
import { identity, SEALED } from "./fixtures.mjs";
import { licenceOf, persons, smallModel } from "./licences.mjs";

const folder = mkdtempSync(path.join(os.tmpdir(), "onnxseal-beside-"));
process.on("exit", () => rmSync(folder, { recursive: true }));

const [own, customer, stranger] = await persons(3);
const of = ({ identities }, more) => ({ identities, ...more });
const model = await smallModel({ customer: "acme" }, own.recipient);
const other = await smallModel({}, own.recipient);
const OWN_KEYS = "no identity or passphrase opens this model";

test("a link to external data leads nowhere but to the model's folder", async () => {
  const source = path.join(SEALED, "valid/digits_cnn_dynamo");
  copyFileSync(path.join(source, "model.onnx"), path.join(folder, "model.onnx"));
  symlinkSync(
    path.join(source, "digits_cnn_dynamo.onnx.data"),
    path.join(folder, "digits_cnn_dynamo.onnx.data"),
  );
  await assert.rejects(openFile(path.join(folder, "model.onnx"), { identities: [identity()] }), {
    kind: "malformed",
  });
  symlinkSync(path.join(source, "model.onnx"), path.join(folder, "linked.onnx"));
  await openFile(path.join(folder, "linked.onnx"), { identities: [identity()] });
});

test("a licence beside a model is used if the model's own keys do not open", async () => {
  const file = path.join(folder, "model.onnx");
  const beside = `${file}.licence`;
  writeFileSync(file, model.bytes);
  await assert.rejects(openFile(file, of(customer)), { kind: "no-matching-key" });
  writeFileSync(beside, await licenceOf([model], customer.recipient));
  assert.deepEqual(Buffer.from((await openFile(file, of(customer))).model), model.original);
  assert.equal((await verifyFile(file, of(customer))).authenticated, true);
  assert.equal((await verifyFile(file)).authenticated, false);

  const expired = await licenceOf([model], customer.recipient, { "not-after": "2020-01-01" });
  writeFileSync(beside, expired);
  await assert.rejects(openFile(file, of(customer)), { kind: "not-in-force" });
  await openFile(file, of(customer, { licence: await licenceOf([model], customer.recipient) }));
  await assert.rejects(openFile(file, of(stranger)), { kind: "no-matching-key" });

  writeFileSync(beside, "nonsense");
  await openFile(file, of(own));
  await assert.rejects(openFile(file, of(customer)), { kind: "malformed" });
  writeFileSync(beside, await licenceOf([other], customer.recipient));
  const message = `${OWN_KEYS}, and ${JSON.stringify(beside)} is for other files`;
  await assert.rejects(openFile(file, of(customer)), { kind: "no-matching-key", message });
});

test("what is no file in the model's folder is no licence", { timeout: 60_000 }, async () => {
  const [inside, outside] = ["inside", "outside"].map((name) => path.join(folder, name));
  for (const place of [inside, outside]) mkdirSync(place);
  const file = path.join(inside, "model.onnx");
  const beside = `${file}.licence`;
  const elsewhere = path.join(outside, "model.onnx.licence");
  writeFileSync(file, model.bytes);
  writeFileSync(elsewhere, await licenceOf([model], customer.recipient));
  const none = { kind: "no-matching-key", message: OWN_KEYS };
  for (const make of [
    () => mkdirSync(beside),
    () => execFileSync("mkfifo", [beside]),
    () => symlinkSync(elsewhere, beside),
    () => symlinkSync(path.join(inside, "missing"), beside),
    () => symlinkSync(beside, beside),
  ]) {
    make();
    await openFile(file, of(own));
    await assert.rejects(openFile(file, of(customer)), none, String(make));
    rmSync(beside, { recursive: true });
  }
  const kept = path.join(inside, "acme.licence");
  copyFileSync(elsewhere, kept);
  symlinkSync("acme.licence", beside);
  await openFile(file, of(customer));
  // The folder of a file that the model's path leads to counts too.
  const linked = path.join(outside, "linked.onnx");
  symlinkSync(file, linked);
  await assert.rejects(openFile(linked, of(customer)), none);
  symlinkSync(kept, `${linked}.licence`);
  await openFile(linked, of(customer));
});
