// Makes licences, and the smallest models that they open, as FORMAT.md has them.
import { createCipheriv, createHash, createHmac, hkdfSync, randomBytes, sign } from "node:crypto";
import { armor, Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";

const digestOf = (data) => createHash("sha256").update(data).digest();
const derive = (key, label, salt = "") =>
  Buffer.from(hkdfSync("sha256", key, salt, `onnxseal/v1/${label}`, 32));
const macOf = (key, ...parts) =>
  parts.reduce((mac, part) => mac.update(part), createHmac("sha256", key)).digest();

async function wrapped(payload, recipient) {
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  return armor.encode(await encrypter.encrypt(new Uint8Array(payload)));
}

function entry(name, value) {
  const message = (tag, ...parts) => {
    const body = Buffer.concat(parts);
    const length = [];
    let rest = body.length;
    for (; rest > 127; rest >>= 7) length.push((rest & 127) | 128);
    return Buffer.concat([Buffer.from([tag, ...length, rest]), body]);
  };
  return message(0x72, message(0x0a, Buffer.from(name)), message(0x12, Buffer.from(value)));
}

/** New keys of so many persons. */
export function persons(count) {
  const person = async () => {
    const identity = await generateX25519Identity();
    return { identities: [identity], recipient: await identityToRecipient(identity) };
  };
  return Promise.all(Array.from({ length: count }, person));
}

/** A protected model of one field and no tensor, and what a licence for it needs. */
export async function smallModel(claims, recipient) {
  const original = Buffer.from([0x08, 8]);
  const manifest = Buffer.from(
    JSON.stringify({
      format: 1,
      suite: "AES-256-GCM/HKDF-SHA256",
      chunk: 65536,
      lock: false,
      tiers: [],
      files: [{ path: "", bytes: original.length }],
      claims,
      tensors: [],
    }),
  );
  const key = randomBytes(32);
  const cipher = createCipheriv(
    "aes-256-gcm",
    derive(key, "chunk", digestOf(manifest)),
    Buffer.alloc(12),
  );
  cipher.setAAD(original).final();
  const tags = cipher.getAuthTag();
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(manifest.length));
  const mac = macOf(derive(key, "mac"), length, manifest, tags);
  const bytes = Buffer.concat([
    original,
    entry("onnxseal.manifest", manifest),
    entry("onnxseal.tags", tags.toString("base64")),
    entry("onnxseal.mac", mac.toString("base64")),
    entry("onnxseal.key.1", await wrapped(key, recipient)),
  ]);
  return { bytes, original, key, digest: digestOf(mac).toString("hex") };
}

/**
 * The text of a licence to a recipient for models, each with the members `digest`, `key`, and
 * optionally `edition` and `name`. A signer has the members of a pair of Ed25519 keys.
 */
export async function licenceOf(models, recipient, claims = {}, { payload, signer } = {}) {
  payload ??= Buffer.concat(models.map(({ key }) => key));
  const lines = models.map(
    ({ digest, edition = "-", name = "a model" }) => `model ${digest} ${edition} ${name}\n`,
  );
  const json = typeof claims === "string" ? claims : JSON.stringify(claims);
  const covered =
    `onnxseal licence 1\n${lines.join("")}claims ${json}\n` + (await wrapped(payload, recipient));
  const text = `${covered}mac ${macOf(derive(payload, "licence"), covered).toString("hex")}\n`;
  return signer ? text + signatureOf(text, signer) : text;
}

function packed(...parts) {
  return Buffer.concat(
    parts.flatMap((part) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(part));
      return [length, Buffer.from(part)];
    }),
  );
}

function blobOf({ publicKey }) {
  return packed("ssh-ed25519", publicKey.export({ type: "spki", format: "der" }).subarray(-32));
}

/** The line of a public key. */
export function lineOf(signer) {
  return `ssh-ed25519 ${blobOf(signer).toString("base64")}`;
}

function signatureOf(text, signer) {
  const magic = Buffer.from("SSHSIG");
  const digest = createHash("sha512").update(text).digest();
  const signed = Buffer.concat([magic, packed("onnxseal", "", "sha512", digest)]);
  const value = packed("ssh-ed25519", sign(null, signed, signer.privateKey));
  const version = Buffer.from([0, 0, 0, 1]);
  const fields = packed(blobOf(signer), "onnxseal", "", "sha512", value);
  const lines = Buffer.concat([magic, version, fields]).toString("base64").match(/.{1,70}/g);
  return ["-----BEGIN SSH SIGNATURE-----", ...lines, "-----END SSH SIGNATURE-----", ""].join("\n");
}
