// Licences, and dates of models.
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { inspect, open, verify } from "../dist/index.js";
import { parseLicence } from "../dist/licence.js";
import { licenceOf, lineOf, persons, smallModel } from "./licences.mjs";

/** Keys of the publisher and of a customer. */
const [own, customer, stranger] = await persons(3);
const of = ({ identities }, more) => ({ identities, ...more });
const model = await smallModel({ customer: "acme" }, own.recipient);
const other = await smallModel({}, own.recipient);

/** Has the clock show a moment. */
function at(context, moment) {
  context.mock.restoreAll();
  context.mock.method(Date, "now", () => Date.parse(moment));
}

const OWN_KEYS = "no identity or passphrase opens this model";

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
  await refuses(model.bytes, none, { kind: "no-matching-key", message: OWN_KEYS });
  // Only a key that does not match leads to the licence.
  const changed = Buffer.from(model.bytes);
  changed[1] ^= 1;
  const good = await licenceOf([model], own.recipient);
  await refuses(changed, of(own, { licence: good }), { kind: "authentication" });
});

test("a licence for other files is none, and the error says it", async () => {
  const text = await licenceOf([other], customer.recipient);
  const bytes = Buffer.from(text);
  const file = () => new File([text], "a.licence");
  for (const [licence, message] of [
    [text, "the licence is for other files"],
    [file(), '"a.licence" is for other files'],
    [() => bytes, `${OWN_KEYS}, and the licence is for other files`],
    [async () => file(), `${OWN_KEYS}, and "a.licence" is for other files`],
  ]) {
    const error = { kind: "no-matching-key", message };
    await refuses(model.bytes, of(customer, { licence }), error);
  }
});

test("a server may say that it has no licence", async () => {
  const answer = (status) => new Response("?", { status });
  const licence = (status) => async () => answer(status);
  const error = { kind: "no-matching-key", message: OWN_KEYS };
  await refuses(model.bytes, of(customer, { licence: licence(404) }), error);
  // Any other failure may be one of the server, and so may a licence be missing that is given.
  for (const status of [403, 410, 500])
    await refuses(model.bytes, of(customer, { licence: licence(status) }), { kind: "io" });
  await refuses(model.bytes, of(customer, { licence: answer(404) }), { kind: "io" });
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

test("dates of a model keep it from opening whichever key opens it", async (context) => {
  const dates = { "not-before": "2027-01-01", "not-after": "2027-12-31" };
  const dated = await smallModel(dates, own.recipient);
  const licence = await licenceOf([dated], customer.recipient, { contact: "Zoë" });
  const broken = async (options) => {
    const verified = await verify(dated.bytes, options);
    assert.equal(verified.authenticated, true);
    return verified.notInForce;
  };
  for (const [options, asked] of [
    [of(own), "the publisher"],
    [of(customer, { licence }), '"Zoë"'],
  ]) {
    at(context, "2026-12-31T23:59:59Z");
    const early = `the model is not in force before 2027-01-01: ask ${asked}`;
    await assert.rejects(open(dated.bytes, options), { kind: "not-in-force", message: early });
    assert.equal(await broken(options), "not-before");
    at(context, "2027-12-31T23:59:59.999Z");
    await open(dated.bytes, options);
    assert.equal(await broken(options), null);
    at(context, "2028-01-01T00:00:00Z");
    const late = `the model was in force until 2027-12-31: ask ${asked}`;
    await assert.rejects(open(dated.bytes, options), { kind: "not-in-force", message: late });
    assert.equal(await broken(options), "not-after");
  }
  const unproved = await verify(dated.bytes);
  assert.deepEqual([unproved.authenticated, unproved.notInForce], [false, "not-after"]);
  assert.equal((await inspect(dated.bytes)).claims.get("not-after"), "2027-12-31");
  // A change of the date is found before the date counts.
  const changed = Buffer.from(dated.bytes);
  changed[changed.indexOf("2027-12-31") + 3] ^= 1;
  await refuses(changed, of(own), { kind: "authentication" });
  const text = await smallModel({ "not-after": "2020-02-30", "not-before": "soon" }, own.recipient);
  await open(text.bytes, of(own));
  assert.equal((await verify(text.bytes, of(own))).notInForce, null);
});

test("MAC, signature, dates and the rest are checked in this order", async () => {
  const past = { "not-after": "2020-01-01" };
  const dated = await smallModel(past, own.recipient);
  const signer = generateKeyPairSync("ed25519");
  const licence = async (more, claims = past) =>
    licenceOf([{ ...dated, edition: "full" }], customer.recipient, claims, more);
  const faulty = await licence({ signer });
  const allowedSigners = [lineOf(generateKeyPairSync("ed25519"))];
  for (const [options, message] of [
    [{ licence: faulty.replace("full", "fool"), allowedSigners }, /^the MAC of the licence /],
    [{ licence: faulty, allowedSigners }, /^the signature of the licence is by .* no allowed/],
    [{ licence: faulty }, /^the licence was in force until 2020-01-01/],
    [{ licence: await licence({}, {}) }, /^the licence is for the edition full, which the model/],
  ]) {
    await refuses(dated.bytes, of(customer, { ...options, tier: "none" }), { message });
  }
  // The model's own dates come before the tier, the signature and the claims.
  const demands = of(own, { tier: "none", allowedSigners, requireClaims: ["x"] });
  await assert.rejects(open(dated.bytes, demands), { kind: "not-in-force" });
  await assert.rejects(verify(dated.bytes, demands), { kind: "policy", message: /no tier none/ });
  await assert.rejects(verify(dated.bytes, { tier: "none" }), { kind: "policy" });
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

test("a signature's first and last line are whole lines, each once", async () => {
  const [begin, end] = ["BEGIN", "END"].map((word) => `-----${word} SSH SIGNATURE-----`);
  const text = await licenceOf([model], customer.recipient);
  const parse = (...lines) => parseLicence(Buffer.from(`${text}${lines.join("\n")}\n`));
  for (const line of ["", "x", ` ${begin}`, `${begin} `, `x${end}`, `${end}x`])
    parse(begin, line, end);
  parse(begin, end);
  for (const lines of [
    [begin],
    [end],
    [end, begin],
    [begin, begin, end],
    [begin, end, end],
    [begin, end, begin, end],
    [`${begin}x`, end],
    [` ${begin}`, end],
    [begin, `${end} `],
    [begin, `x${end}`],
    [begin, end, ""],
    ["", begin, end],
  ])
    assert.throws(() => parse(...lines), { kind: "malformed" }, lines.join("|"));
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
