// Every licence of fixtures/sealed, and every model that has dates, by the clock that it says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { openFile, verifyFile } from "../dist/node.js";
import { digestsOf, EXPECTED, identity, KINDS, SEALED } from "./fixtures.mjs";

const at = (file) => path.join(SEALED, file);

/** The public keys of an `allowed_signers` file, without the persons that it names. */
function signersOf(name) {
  const lines = readFileSync(at(path.join("keys", name)), "utf8").split("\n");
  return lines.filter(Boolean).map((line) => line.slice(line.indexOf(" ") + 1));
}

/** A name of what is done, and a caller who does it. */
function callOf(entry) {
  const { file, licence, identity: name, tier, allowed_signers: signers, now } = entry;
  const options = {
    identities: [identity(name)],
    licence: licence && readFileSync(at(licence)),
    tier,
    allowedSigners: signers && signersOf(signers),
  };
  const title = [file, licence, name, tier, signers, now].filter(Boolean).join(", ");
  const call = (context, use) => {
    context.mock.method(Date, "now", () => Date.parse(now));
    return use(at(file), options);
  };
  return { title, call };
}

for (const entry of EXPECTED.licences_valid) {
  const { title, call } = callOf(entry);
  test(`opens ${title}`, async (context) => {
    const opened = await call(context, openFile);
    assert.deepEqual(digestsOf(opened.original()), entry.files);
    const { authenticated, notInForce } = await call(context, verifyFile);
    assert.deepEqual([authenticated, notInForce], [true, null]);
  });
}

for (const entry of EXPECTED.licences_invalid) {
  const { title, call } = callOf(entry);
  test(`refuses ${title}`, async (context) => {
    const kinds = [entry.class].flat().flatMap((kind) => KINDS[kind]);
    const refused = (error) =>
      kinds.includes(error.kind) || assert.fail(`${error.stack}, not ${kinds}`);
    const error = await call(context, openFile).then(assert.fail, (error) => error);
    refused(error);
    if (error.kind === "not-in-force" && error.message.startsWith("the model ")) {
      const { authenticated, notInForce } = await call(context, verifyFile);
      assert.equal(authenticated, true);
      const claim = error.message.includes(" before ") ? "not-before" : "not-after";
      assert.equal(notInForce, claim);
    } else {
      await assert.rejects(call(context, verifyFile), refused);
    }
  });
}
