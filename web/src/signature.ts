import {
  ascii,
  base64,
  concat,
  equal,
  hex,
  sha256,
  startsWith,
  toBase64,
  utf8,
  type Bytes,
} from "./bytes.js";
import { Authentication, need, Usage } from "./errors.js";
import type { Tail } from "./tail.js";

const NAMESPACE = "onnxseal";
const MAGIC = ascii("SSHSIG");
const BEGIN = "-----BEGIN SSH SIGNATURE-----\n";
const END = "-----END SSH SIGNATURE-----\n";
/** Most bytes of a signature with its armor. */
export const MOST_ARMORED = 16_384;
const COLUMNS = 70;
const RSA = "ssh-rsa";
const HASHES: Record<string, string> = { sha256: "SHA-256", sha512: "SHA-512" };

/** A public key of OpenSSH. */
export interface PublicKey {
  /** Such as `ssh-ed25519`. */
  type: string;
  /** The line that `allowed_signers` and `.pub` files have, without a comment. */
  line: string;
  /** `SHA256:` and base64, as ssh-keygen prints it. */
  fingerprint: string;
}

/** What an SSHSIG says. Whether it holds is another matter. */
export interface Signature {
  key: PublicKey;
  blob: Bytes;
  hash: string;
  /** The kind of signature, and its value. */
  format: string;
  value: Bytes;
  /** What a security key appends: flags and counter. */
  rest: Bytes;
}

/** The text that a publisher signs. `chunks` are the SHA-256 digests of all stored chunks. */
export async function signedMessage(tail: Tail, chunks: Bytes): Promise<Bytes> {
  const digest = async (data: Bytes) => hex(await sha256(data));
  return ascii(
    "onnxseal/v1/signature\n" +
      `manifest ${await digest(tail.manifest.data)}\n` +
      `tags ${await digest(tail.tags)}\n` +
      `mac ${hex(tail.macs)}\n` +
      `files ${await digest(chunks)}\n`,
  );
}

/** Demands the armor of one signature; what is in it, only those read who demand a signature. */
export function checkArmor(armored: Bytes, what: string): void {
  need(armored.length <= MOST_ARMORED, `${what}: the signature is too long`);
  const lines = utf8(armored, what).split(/(?<=\n)/);
  need(
    lines.lastIndexOf(BEGIN) === 0 && lines.indexOf(END) === lines.length - 1,
    `${what}: something else than one signature`,
  );
}

/** Parses the signature that a caller demands, by one of these keys. It may still not hold. */
export async function demandedSignature(
  armored: Bytes | undefined,
  signers: Set<string>,
  what: string,
): Promise<Signature> {
  if (!armored) throw new Authentication(`${what} has no signature`);
  const signature = await parseSignature(armored);
  if (!signers.has(signature.key.line)) {
    throw new Authentication(
      `the signature of ${what} is by ${signature.key.fingerprint}, no allowed signer`,
    );
  }
  return signature;
}

/** Parses an armored SSHSIG in its one spelling, in the namespace of onnxseal. */
export async function parseSignature(armored: Bytes): Promise<Signature> {
  try {
    const text = utf8(armored, "onnxseal.sig");
    demand(text.startsWith(BEGIN) && text.endsWith(END), "it has no armor");
    const body = text.slice(BEGIN.length, -END.length);
    const data = base64(ascii(body.replaceAll("\n", "")), "onnxseal.sig");
    const lines = toBase64(data).match(new RegExp(`.{1,${COLUMNS}}`, "g")) ?? [];
    demand(body === lines.map((line) => `${line}\n`).join(""), "its armor is spelt another way");

    demand(startsWith(data, MAGIC), "it is no SSHSIG");
    const fields = new Fields(data.subarray(MAGIC.length));
    demand(fields.u32() === 1, "it is not of version 1");
    const blob = fields.string().slice();
    demand(equal(fields.string(), ascii(NAMESPACE)), "its namespace is not onnxseal");
    demand(fields.string().length === 0, "something is in its reserved field");
    const hash = fields.text();
    demand(Object.hasOwn(HASHES, hash), "its hash is neither sha256 nor sha512");
    const inner = new Fields(fields.string());
    fields.finish();
    const signature = {
      format: inner.text(),
      value: inner.string().slice(),
      rest: inner.rest().slice(),
    };
    return { key: await publicKey(blob), blob, hash, ...signature };
  } catch (cause) {
    throw new Authentication(`the signature is malformed: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Says whether a signature is one of the message by its own key. None holds by a key of a type
 * that this package does not know.
 */
export async function holds(signature: Signature, message: Bytes): Promise<boolean> {
  const digest = await crypto.subtle.digest(HASHES[signature.hash]!, message);
  const signed = concat(
    MAGIC,
    packed(ascii(NAMESPACE)),
    packed(new Uint8Array()),
    packed(ascii(signature.hash)),
    packed(new Uint8Array(digest)),
  );
  const fields = new Fields(signature.blob);
  const type = fields.text();
  try {
    return (
      // RSA keys sign in several formats.
      (type === RSA || type === signature.format) &&
      Object.hasOwn(VERIFIERS, type) &&
      (await VERIFIERS[type]!(fields, signature, signed))
    );
  } catch {
    // The key, or the value, is none of its kind.
    return false;
  }
}

type Verifier = (key: Fields, signature: Signature, signed: Bytes) => Promise<boolean>;

const ed25519: Verifier = async (key, { value }, signed) => {
  const point = key.string().slice();
  const imported = await crypto.subtle.importKey("raw", point, "Ed25519", false, ["verify"]);
  return crypto.subtle.verify("Ed25519", imported, value, signed);
};

const p256: Verifier = async (key, { value }, signed) => {
  key.string(); // the curve's name, which the type has too
  const point = key.string().slice();
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", point, algorithm, false, ["verify"]);
  const numbers = new Fields(value);
  const pair = concat(numbers.number(32), numbers.number(32));
  numbers.finish();
  return crypto.subtle.verify(algorithm, imported, pair, signed);
};

const rsa: Verifier = async (key, { format, value }, signed) => {
  const hash = { "rsa-sha2-256": "SHA-256", "rsa-sha2-512": "SHA-512" }[format];
  const [e, n] = [key.number(), key.number()];
  const bits = 8 * n.length - Math.clz32(n[0] ?? 0) + 24;
  if (!hash || bits < 2048 || bits > 4096) return false;
  const url = (number: Bytes) =>
    toBase64(number).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const algorithm = { name: "RSASSA-PKCS1-v1_5", hash };
  const jwk = { kty: "RSA", e: url(e), n: url(n) };
  const imported = await crypto.subtle.importKey("jwk", jwk, algorithm, false, ["verify"]);
  return crypto.subtle.verify("RSASSA-PKCS1-v1_5", imported, value, signed);
};

const plain =
  (verifier: Verifier): Verifier =>
  async (key, signature, signed) =>
    signature.rest.length === 0 && verifier(key, signature, signed);

/** A security key signs: digest of its application, flags, counter, digest of the message. */
const hardware =
  (parts: number, verifier: Verifier): Verifier =>
  async (key, signature, signed) => {
    if (signature.rest.length !== 5) return false;
    const application = new Fields(key.rest());
    for (let i = 0; i < parts; i++) application.string();
    const message = concat(
      await sha256(application.string().slice()),
      signature.rest,
      await sha256(signed),
    );
    return verifier(key, signature, message);
  };

/** By the type of the key. */
const VERIFIERS: Record<string, Verifier> = {
  "ssh-ed25519": plain(ed25519),
  "ecdsa-sha2-nistp256": plain(p256),
  [RSA]: plain(rsa),
  "sk-ssh-ed25519@openssh.com": hardware(1, ed25519),
  "sk-ecdsa-sha2-nistp256@openssh.com": hardware(2, p256),
};

/** The type and base64 of a public key's line. */
export function signerOf(line: string): string {
  const [type, key] = line.trim().split(/\s+/);
  if (!type || !key || !Object.hasOwn(VERIFIERS, type)) {
    throw new Usage("a signer is given as the line of a public key: ssh-ed25519 AAAA...");
  }
  return `${type} ${key}`;
}

async function publicKey(blob: Bytes): Promise<PublicKey> {
  const type = new Fields(blob).text();
  const digest = await sha256(blob);
  return {
    type,
    line: `${type} ${toBase64(blob)}`,
    fingerprint: `SHA256:${toBase64(digest).replaceAll("=", "")}`,
  };
}

function packed(data: Uint8Array): Bytes {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, data.length);
  return concat(length, data);
}

function demand(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

/** Fields of SSH's wire format, one after the other. */
class Fields {
  private at = 0;
  constructor(private readonly data: Bytes) {}

  u32(): number {
    demand(this.at + 4 <= this.data.length, "it is cut");
    const value = new DataView(this.data.buffer, this.data.byteOffset + this.at).getUint32(0);
    this.at += 4;
    return value;
  }

  string(): Bytes {
    const length = this.u32();
    demand(this.at + length <= this.data.length, "it is cut");
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  text(): string {
    return utf8(this.string(), "onnxseal.sig");
  }

  /** A positive number without leading zeros, or with as many as fill `bytes` bytes. */
  number(bytes?: number): Bytes {
    const number = this.string();
    demand(number.length > 0 && number[0]! < 128, "a number is not positive");
    const digits = number[0] === 0 ? number.subarray(1) : number;
    if (bytes === undefined) return digits.slice();
    demand(digits.length <= bytes, "a number is too long");
    return concat(new Uint8Array(bytes - digits.length), digits);
  }

  rest(): Bytes {
    return this.data.subarray(this.at);
  }

  finish(): void {
    demand(this.at === this.data.length, "something is behind its end");
  }
}
