import type { Decrypter } from "age-encryption";
import { decrypt } from "./age.js";
import { ascii, hex, sha256, utf8, type Bytes } from "./bytes.js";
import { checkInForce, periodOf } from "./dates.js";
import { Authentication, need, NoMatchingKey } from "./errors.js";
import { AGE_END, parseHeader, type Header } from "./header.js";
import { parseJson } from "./json.js";
import { licenceHolds } from "./keys.js";
import { claimsOf, isTierName } from "./members.js";
import { checkArmor, demandedSignature, holds } from "./signature.js";
import { sourceOf, type Input } from "./source.js";
import type { Tail } from "./tail.js";

const FIRST_LINE = "onnxseal licence 1";
const MOST_BYTES = 2 ** 20;
const MOST_MODELS = 1024;
const KEY = 32;

/** A licence as a caller gives it: its text, or a file of it. */
export type LicenceInput = string | Input;

/** A line of a licence: a model that it opens. */
export interface LicensedModel {
  /** SHA-256 of `onnxseal.mac`, in hexadecimal digits. */
  digest: string;
  /** The tier whose key the licence has; `-` for a model of one edition. */
  edition: string;
  /** For people. */
  name: string;
}

/** A licence, checked against the rules of FORMAT.md. Nothing in it is authenticated. */
export interface Licence {
  models: LicensedModel[];
  claims: Map<string, string>;
  /** The age file whose payload is the keys, in the order of `models`. */
  header: Header;
  mac: Bytes;
  /** What the MAC covers, and what a signature does. */
  covered: Bytes;
  signed: Bytes;
  signature: Bytes | undefined;
}

/** Whether a server answered that it has no licence. */
export function isMissing(given: LicenceInput): boolean {
  return given instanceof Response && given.status === 404;
}

/** What a message calls a licence. Files have names. */
export function titleOf(given: LicenceInput): string {
  const { name } = given as { name?: unknown };
  return typeof name === "string" ? JSON.stringify(name) : "the licence";
}

/** Reads and parses a licence. */
export async function readLicence(given: LicenceInput, signal?: AbortSignal): Promise<Licence> {
  if (typeof given === "string") return parseLicence(ascii(given));
  const source = await sourceOf(given, { most: MOST_BYTES, signal });
  need(source.bytes <= MOST_BYTES, "the licence is longer than 1 MiB");
  return parseLicence(await source.read(0, source.bytes));
}

/** Parses a licence as strictly as FORMAT.md has it. */
export function parseLicence(data: Bytes): Licence {
  need(data.length <= MOST_BYTES, "the licence is longer than 1 MiB");
  const text = utf8(data, "the licence");
  const lines = text.split("\n");
  need(lines[0] === FIRST_LINE, `the licence does not begin with a line "${FIRST_LINE}"`);
  need(!/[\x00-\x09\x0b-\x1f]/.test(text), "the licence has control characters");
  need(lines.pop() === "", "the licence does not end with the end of a line");
  const textOf = (from: number, to?: number) =>
    ascii(lines.slice(from, to).map((line) => `${line}\n`).join(""));

  let at = 1;
  const here = () => `the licence, line ${at + 1}`;
  const models: LicensedModel[] = [];
  for (; lines[at]?.startsWith("model "); at++) models.push(modelOf(lines[at]!, here()));
  need(models.length > 0 && models.length <= MOST_MODELS, `${here()}: no model, or too many`);
  need(
    new Set(models.map((model) => model.digest)).size === models.length,
    "the licence has two lines for one model",
  );

  const json = /^claims (\{.*\})$/s.exec(lines[at] ?? "")?.[1];
  need(json !== undefined, `${here()}: neither a model nor claims`);
  const claims = claimsOf(parseJson(json, here()), `${here()}: claims`);
  for (const name of ["not-before", "not-after"]) {
    const date = claims.get(name);
    need(
      date === undefined || periodOf(date),
      `${here()}: ${name} is no date such as 2027-01-31 or 2027-01-31T12:00:00Z`,
    );
  }

  const armor = ++at;
  at = lines.indexOf(AGE_END, armor) + 1;
  need(at > 0, `the licence, line ${armor + 1}: no age file, or one that does not end`);
  const header = parseHeader(textOf(armor, at), `the licence, line ${armor + 1}`);
  const covered = textOf(0, at);
  const mac = /^mac ([0-9a-f]{64})$/.exec(lines[at] ?? "")?.[1];
  need(mac, `${here()}: no MAC of 64 hexadecimal digits`);
  const signed = textOf(0, ++at);
  const signature = at < lines.length ? textOf(at) : undefined;
  if (signature) checkArmor(signature, here());
  return { models, claims, header, mac: bytesOf(mac), covered, signed, signature };
}

function modelOf(line: string, what: string): LicensedModel {
  const [, digest, edition, name] = /^model ([0-9a-f]{64}) (\S+) (.+)$/s.exec(line) ?? [];
  need(digest && edition && name, `${what}: not a digest, an edition and a name`);
  // "-" has the form of a name.
  need(isTierName(edition), `${what}: an illegal edition`);
  need(ascii(name).length <= 255, `${what}: the name is too long`);
  need(!/[\p{Cc}\u2028\u2029]/u.test(name), `${what}: the name has control characters`);
  return { digest, edition, name };
}

function bytesOf(digits: string): Bytes {
  return Uint8Array.from(digits.match(/../g)!, (pair) => parseInt(pair, 16));
}

/** Whom to ask for another licence. */
export function whomToAsk(licence: Licence | undefined): string {
  const asked = licence?.claims.get("contact") || licence?.claims.get("issuer");
  return asked ? JSON.stringify(asked) : "the publisher";
}

/**
 * Opens the key of the model that a licence has for it, once the licence's MAC, its signature (if
 * one by `signers` is demanded) and its dates hold. `now` is in milliseconds since 1970. Gives
 * nothing if the licence is for other models.
 */
export async function unwrapLicence(
  licence: Licence,
  tail: Tail,
  decrypter: Decrypter,
  signers: Set<string> | undefined,
  now: number,
): Promise<{ tier: number; key: Bytes } | undefined> {
  const { models, header, covered, mac } = licence;
  const digest = hex(await sha256(tail.macs));
  const index = models.findIndex((model) => model.digest === digest);
  if (index < 0) return undefined;
  const keys = await decrypt(decrypter, header.file);
  if (!keys) throw new NoMatchingKey("no identity or passphrase opens the licence");
  try {
    need(
      keys.length === KEY * models.length,
      `the licence has ${keys.length} bytes of keys for ${models.length} models`,
    );
    if (!(await licenceHolds(keys, covered, mac)))
      throw new Authentication("the MAC of the licence does not hold: it was changed");
    if (signers) {
      const signature = await demandedSignature(licence.signature, signers, "the licence");
      if (!(await holds(signature, licence.signed)))
        throw new Authentication("the signature of the licence does not hold");
    }
    checkInForce(licence.claims, "the licence", whomToAsk(licence), now);
    const { tiers } = tail.manifest;
    const { edition } = models[index]!;
    // A tier may be called "-", and then no licence has its key.
    const named = edition === "-" ? Number(tiers.length === 0) : tiers.indexOf(edition) + 1;
    need(named > 0, `the licence is for the edition ${edition}, which the model lacks`);
    return { tier: named, key: keys.slice(KEY * index, KEY * (index + 1)) };
  } finally {
    keys.fill(0);
  }
}
