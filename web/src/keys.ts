import { ascii, concat, sha256, type Bytes } from "./bytes.js";
import { Authentication } from "./errors.js";
import type { Tail } from "./tail.js";

const NO_SALT = new Uint8Array();
const MAC = { name: "HMAC", hash: "SHA-256", length: 256 };

/**
 * The keys of tiers 1 to t of a model whose MACs hold. Only `unlock` makes one, so nothing is
 * derived for chunks before that. No key can be read out of it.
 */
export class Keys {
  /** `tiers` are K_1 to K_t, `salt` is the digest of the manifest. */
  private constructor(
    private readonly tiers: CryptoKey[],
    private readonly salt: Bytes,
  ) {}

  /** The highest tier that these keys open, counted from 1. */
  get tier(): number {
    return this.tiers.length;
  }

  /** Derives the keys of lower tiers, and verifies the MACs of all of them. Overwrites `key`. */
  static async unlock(tail: Tail, tier: number, key: Bytes): Promise<Keys> {
    const { manifest, tags, macs } = tail;
    const tiers: CryptoKey[] = [];
    let bits = key;
    for (let t = tier; t >= 1; t--) {
      const imported = await crypto.subtle.importKey("raw", bits, "HKDF", false, [
        "deriveKey",
        "deriveBits",
      ]);
      bits.fill(0);
      tiers.unshift(imported);
      if (t > 1)
        bits = await deriveBits(imported, `tier${String.fromCharCode(t - 1, manifest.tierCount)}`);
    }
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(manifest.data.length));
    for (const [index, imported] of tiers.entries()) {
      const macKey = await derive(imported, "mac", NO_SALT, MAC, "verify");
      const at = 32 * index;
      const message = concat(length, manifest.data, tags, macs.subarray(at + 32));
      if (!(await crypto.subtle.verify("HMAC", macKey, macs.subarray(at, at + 32), message))) {
        throw new Authentication(
          "onnxseal.mac does not hold: the manifest, the tags or the wrapped key was changed",
        );
      }
    }
    return new Keys(tiers, await sha256(manifest.data));
  }

  /** Opens tier 1: AES-GCM for readers of tier 1, AES-CTR for readers of higher tiers. */
  chunk(cipher: "AES-GCM" | "AES-CTR"): Promise<CryptoKey> {
    return derive(this.tiers[0]!, "chunk", this.salt, { name: cipher, length: 256 }, "decrypt");
  }

  /** Verifies the tags of the highest tier, which is above 1. */
  auth(): Promise<CryptoKey> {
    return derive(
      this.tiers.at(-1)!,
      "auth",
      this.salt,
      { name: "AES-GCM", length: 256 },
      "decrypt",
    );
  }

  /** Gives the streams that targets of a tier, counted from 1, are XORed with. */
  stream(tier: number): Promise<CryptoKey> {
    return derive(
      this.tiers[tier - 1]!,
      "stream",
      this.salt,
      { name: "AES-CTR", length: 256 },
      "encrypt",
    );
  }

  /** Gives the draws by which elements of a tier, counted from 1, were shuffled. */
  shuffle(tier: number): Promise<CryptoKey> {
    return derive(
      this.tiers[tier - 1]!,
      "shuffle",
      this.salt,
      { name: "AES-CTR", length: 256 },
      "encrypt",
    );
  }
}

/** Verifies the MAC of a licence by the keys that it has, one after the other. */
export async function licenceHolds(keys: Bytes, covered: Bytes, mac: Bytes): Promise<boolean> {
  const imported = await crypto.subtle.importKey("raw", keys, "HKDF", false, ["deriveKey"]);
  const macKey = await derive(imported, "licence", NO_SALT, MAC, "verify");
  return crypto.subtle.verify("HMAC", macKey, mac, covered);
}

function hkdf(label: string, salt: Bytes): HkdfParams {
  return { name: "HKDF", hash: "SHA-256", salt, info: ascii(`onnxseal/v1/${label}`) };
}

async function deriveBits(key: CryptoKey, label: string): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.deriveBits(hkdf(label, NO_SALT), key, 256));
}

function derive(
  key: CryptoKey,
  label: string,
  salt: Bytes,
  type: AesDerivedKeyParams | HmacImportParams,
  usage: KeyUsage,
): Promise<CryptoKey> {
  return crypto.subtle.deriveKey(hkdf(label, salt), key, type, false, [usage]);
}
