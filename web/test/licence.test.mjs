// Licences, and dates of models.
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { inspect, open, verify } from "../dist/index.js";
import { parseLicence } from "../dist/licence.js";
import { openFile, verifyFile } from "../dist/node.js";
import { licenceOf, lineOf, smallModel } from "./licences.mjs";

const folder = mkdtempSync(path.join(os.tmpdir(), "onnxseal-licence-"));
process.on("exit", () => rmSync(folder, { recursive: true }));

/** Keys of the publisher and of a customer. */
const [own, customer, stranger] = await Promise.all(
  Array.from({ length: 3 }, async () => {
    const identity = await generateX25519Identity();
    return { identities: [identity], recipient: await identityToRecipient(identity) };
  }),
);
const of = ({ identities }, more) => ({ identities, ...more });
const model = await smallModel({ customer: "acme" }, own.recipient);
const other = await smallModel({}, own.recipient);

/** Has the clock show a moment. */
function at(context, moment) {
  context.mock.restoreAll();
  context.mock.method(Date, "now", () => Date.parse(moment));
}

/** Demands that nothing opens and verifies a model. */
async function refuses(bytes, options, error) {
  await assert.rejects(open(bytes, options), error);
  await assert.rejects(verify(bytes, options), error);
}

test("a licence opens a model, in every form that it is given in", async () => {
  const text = await licenceOf([other, model], customer.recipient, { customer: "acme" });
  const bytes = Buffer.from(text);
  const forms = [
    () => text,
    () => bytes,
    () => new Uint8Array(bytes).buffer,
    () => new Blob([bytes]),
    () => new Blob([bytes]).stream(),
    () => new Response(text),
    () => () => text,
    () => async () => new Blob([text]),
  ];
  for (const form of forms) {
    const opened = await open(model.bytes, of(customer, { licence: form() }));
    assert.deepEqual(Buffer.from(opened.model), model.original);
    assert.equal(opened.tier, null);
    const verified = await verify(model.bytes, of(customer, { licence: form() }));
    assert.equal(verified.authenticated, true);
  }
  await open(other.bytes, of(customer, { licence: text }));
  await refuses(model.bytes, of(customer), { kind: "no-matching-key" });
  await refuses(model.bytes, of(customer, { licence: 7 }), { kind: "usage" });
  await refuses(model.bytes, of(customer, { licence: null }), { kind: "usage" });
});

test("a licence without a key is a mistake, a function that would give one is not", async () => {
  await assert.rejects(verify(model.bytes, { licence: "" }), { kind: "usage" });
  const licence = () => assert.fail("there is nothing to open it with");
  assert.equal((await verify(model.bytes, { licence })).authenticated, false);
});

test("a licence that is given is used, one that a function gives only if need be", async () => {
  const expired = await licenceOf([model], own.recipient, { "not-after": "2020-01-01" });
  await refuses(model.bytes, of(own, { licence: expired }), { kind: "not-in-force" });
  let asked = 0;
  const licence = () => {
    asked++;
    return expired;
  };
  await open(model.bytes, of(own, { licence }));
  assert.equal(asked, 0);
  await assert.rejects(open(model.bytes, of(stranger, { licence })), { kind: "no-matching-key" });
  assert.equal(asked, 1);
  const none = of(stranger, { licence: async () => undefined });
  await refuses(model.bytes, none, { kind: "no-matching-key", message: /opens this model/ });
  // Only a key that does not match leads to the licence.
  const changed = Buffer.from(model.bytes);
  changed[1] ^= 1;
  const good = await licenceOf([model], own.recipient);
  await refuses(changed, of(own, { licence: good }), { kind: "authentication" });
});

test("a licence that does not fit is refused", async () => {
  const to = customer.recipient;
  const { digest, key } = model;
  for (const [kind, models, more, who = customer] of [
    ["no-matching-key", [other]],
    ["no-matching-key", [model], {}, stranger],
    ["no-matching-key", [model], {}, own],
    ["authentication", [{ digest, key: other.key }]],
    ["malformed", [model], { payload: Buffer.concat([key, key]) }],
    ["malformed", [model], { payload: key.subarray(1) }],
    ["malformed", [model, other], { payload: key }],
    ["malformed", [{ digest, key, edition: "full" }]],
  ]) {
    const licence = await licenceOf(models, to, {}, more);
    await refuses(model.bytes, of(who, { licence }), { kind });
  }
  const text = await licenceOf([model], to, { customer: "acme" });
  const foreign = await licenceOf([model], to, { customer: "acme" });
  const [mac, foreignMac] = [text, foreign].map((whole) => /\nmac .*/.exec(whole)[0]);
  assert.notEqual(mac, foreignMac);
  for (const changed of [
    text.replace(mac, foreignMac),
    text.replace("a model", "a  model"),
    text.replace("acme", "acmf"),
  ]) {
    await refuses(model.bytes, of(customer, { licence: changed }), { kind: "authentication" });
  }
  await open(model.bytes, of(customer, { licence: text }));
});

test("dates of a licence are kept, and the error says whom to ask", async (context) => {
  for (const [claims, asked] of [
    [{ contact: "sales@acme.example", issuer: "ACME" }, '"sales@acme.example"'],
    [{ issuer: "ACME\u009b" }, '"ACME\u009b"'],
    [{ contact: "" }, "the publisher"],
    [{}, "the publisher"],
  ]) {
    const dates = { "not-before": "2027-01-01", "not-after": "2027-12-31T12:00:00-01:00" };
    const licence = await licenceOf([model], customer.recipient, { ...claims, ...dates });
    for (const [moment, message] of [
      ["2026-12-31T23:59:59.999Z", "the licence is not in force before 2027-01-01: ask "],
      ["2027-01-01T00:00:00Z"],
      ["2027-12-31T13:00:00.999Z"],
      ["2027-12-31T13:00:01Z", "the licence was in force until 2027-12-31T12:00:00-01:00: ask "],
    ]) {
      at(context, moment);
      const options = of(customer, { licence });
      if (!message) await open(model.bytes, options);
      else
        await refuses(model.bytes, options, {
          name: "NotInForce",
          kind: "not-in-force",
          message: message + asked,
        });
    }
  }
});

test("dates of a model are kept whichever key opens it", async (context) => {
  const dates = { "not-before": "2027-01-01", "not-after": "2027-12-31" };
  const dated = await smallModel(dates, own.recipient);
  const licence = await licenceOf([dated], customer.recipient, { contact: "Zoë" });
  for (const [options, asked] of [
    [of(own), "the publisher"],
    [of(customer, { licence }), '"Zoë"'],
  ]) {
    at(context, "2026-12-31T23:59:59Z");
    const early = `the model is not in force before 2027-01-01: ask ${asked}`;
    await refuses(dated.bytes, options, { kind: "not-in-force", message: early });
    at(context, "2027-12-31T23:59:59.999Z");
    await open(dated.bytes, options);
    at(context, "2028-01-01T00:00:00Z");
    const late = `the model was in force until 2027-12-31: ask ${asked}`;
    await refuses(dated.bytes, options, { kind: "not-in-force", message: late });
  }
  // Nothing is opened without a key.
  assert.equal((await verify(dated.bytes)).authenticated, false);
  assert.equal((await inspect(dated.bytes)).claims.get("not-after"), "2027-12-31");
  // A change of the date is found before the date counts.
  const changed = Buffer.from(dated.bytes);
  changed[changed.indexOf("2027-12-31") + 3] ^= 1;
  await refuses(changed, of(own), { kind: "authentication" });
  const text = await smallModel({ "not-after": "2020-02-30", "not-before": "soon" }, own.recipient);
  await open(text.bytes, of(own));
});

test("demanded dates are dates that fit", async () => {
  const today = new Date().toISOString().slice(0, 10);
  for (const [name, date, fits] of [
    ["not-after", today, true],
    ["not-before", today, true],
    ["not-after", "2999-12-31T23:59:59+01:00", true],
    ["not-after", "2020-01-01", false],
    ["not-before", "2999-12-31", false],
    ["not-after", "2999-12-31t23:59:59Z", false],
    ["not-after", "2999-12-31T23:59:59.5Z", false],
    ["not-after", "2999-02-30", false],
    ["not-before", "2020", false],
    ["not-after", "never", false],
  ]) {
    const { bytes } = await smallModel({ [name]: date }, own.recipient);
    const verified = verify(bytes, { requireClaims: [name] });
    if (fits) await verified;
    else await assert.rejects(verified, { kind: "policy" }, date);
  }
});

test("a signature of the licence is demanded with the model's", async () => {
  const [signer, second] = [generateKeyPairSync("ed25519"), generateKeyPairSync("ed25519")];
  const signed = await licenceOf([model], customer.recipient, {}, { signer });
  const allowed = (...signers) => ({ allowedSigners: signers.map(lineOf) });
  await open(model.bytes, of(customer, { licence: signed }));
  // The model itself has no signature: whoever gets this far has accepted the licence's.
  const past = { kind: "authentication", message: "the model has no signature" };
  await refuses(model.bytes, of(customer, { licence: signed, ...allowed(second, signer) }), past);
  const unsigned = await licenceOf([model], customer.recipient);
  const swapped = unsigned + signed.slice(signed.indexOf("-----BEGIN SSH"));
  const broken = signed.replace(/SSH SIGNATURE-----\nU/, "SSH SIGNATURE-----\nV");
  for (const [licence, signers, message] of [
    [unsigned, [signer], /^the licence has no signature$/],
    [signed, [second], /^the signature of the licence is by SHA256:.*, no allowed signer$/],
    [signed, [], /^the signature of the licence is by /],
    [swapped, [signer], /^the signature of the licence does not hold$/],
    [broken, [signer], /^the signature is malformed: it is no SSHSIG$/],
  ]) {
    const error = { kind: "authentication", message };
    await refuses(model.bytes, of(customer, { licence, ...allowed(...signers) }), error);
    await open(model.bytes, of(customer, { licence }));
  }
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
  rmSync(beside);
  mkdirSync(beside);
  await openFile(file, of(own));
  await assert.rejects(openFile(file, of(customer)), { kind: "io" });
});

const numbered = (i) => `model ${String(i).padStart(64, "0")} - x\n`;

test("limits of a licence", async () => {
  const text = await licenceOf([model], customer.recipient, { customer: "acme" });
  const lines = (count) => Array.from({ length: count }, (_, i) => numbered(i)).join("");
  const models = (count) => text.replace(/^model .*\n/m, lines(count));
  const length = (bytes) => text.replace("{", `{${" ".repeat(bytes - text.length)}`);
  const edition = (bytes) => text.replace(" - ", ` ${"z".repeat(bytes)} `);
  for (const [make, most, more] of [
    [models, 1024, 1025],
    [length, 2 ** 20, 2 ** 20 + 1],
    [edition, 64, 65],
  ]) {
    const parsed = parseLicence(new Uint8Array(Buffer.from(make(most))));
    assert.equal(parsed.claims.get("customer"), "acme");
    const beyond = () => parseLicence(new Uint8Array(Buffer.from(make(more))));
    assert.throws(beyond, { kind: "malformed" }, make.name);
  }
  const big = new Blob([Buffer.alloc(2 ** 20 + 1)]);
  for (const licence of [() => big, () => big.stream()])
    await refuses(model.bytes, of(customer, { licence }), { message: /longer than 1 MiB/ });
});

test("errors of a licence say the line", () => {
  for (const [text, message] of [
    ["model.licence", /does not begin with a line "onnxseal licence 1"/],
    [`onnxseal licence 1\n${numbered(1)}model x\n`, /^the licence, line 3: /],
    [`onnxseal licence 1\n${numbered(1)}claims {"a": 1}\n`, /^the licence, line 3: claims: /],
    [`onnxseal licence 1\n${numbered(1)}claims {"a"}\n`, /^the licence, line 3 is not JSON .* 4$/],
    [
      `onnxseal licence 1\n${numbered(1)}claims {"not-after": "soon"}\n`,
      /^the licence, line 3: not-after is no date such as 2027-01-31 or /,
    ],
    [`onnxseal licence 1\n${numbered(1)}claims {}\nx\n`, /^the licence, line 4: no age file/],
  ]) {
    const parsed = () => parseLicence(new TextEncoder().encode(text));
    assert.throws(parsed, { kind: "malformed", message });
  }
});

test("every cut of a licence, and every changed byte, gives one of the errors", async () => {
  const signer = generateKeyPairSync("ed25519");
  const claims = { "not-after": "2999-12-31" };
  const text = await licenceOf([model, other], customer.recipient, claims, { signer });
  const bytes = Buffer.from(text);
  const signed = text.indexOf("-----BEGIN SSH");
  for (let length = 0; length < bytes.length; length += 5) {
    const licence = bytes.subarray(0, length === signed ? length - 1 : length);
    await assert.rejects(open(model.bytes, of(customer, { licence })), { kind: "malformed" });
  }
  // Without a demand nobody looks into the signature.
  for (let byte = 0; byte < signed; byte += 3) {
    const licence = Buffer.from(bytes);
    licence[byte] ^= 1 << byte % 8;
    await assert.rejects(
      open(model.bytes, of(customer, { licence })),
      { kind: /malformed|authentication|no-matching-key/ },
      `byte ${byte}`,
    );
  }
});
