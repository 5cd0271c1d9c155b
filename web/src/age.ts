import { Decrypter } from "age-encryption";
import type { Bytes } from "./bytes.js";
import { Authentication, need, NoMatchingKey, Usage } from "./errors.js";
import type { Tail } from "./tail.js";

/** What opens wrapped keys. */
export interface Secrets {
  /**
   * Identities of age (`AGE-SECRET-KEY-1...`), or the text of identity files, or X25519 private
   * keys of WebCrypto.
   */
  identities?: Iterable<string | CryptoKey> | undefined;
  passphrase?: string | undefined;
}

/**
 * Makes age's decrypter of the secrets, if any are given. Identities without one are a mistake: to
 * verify without a key would pass for a check with it.
 */
export function decrypterOf(secrets: Secrets): Decrypter | undefined {
  const decrypter = new Decrypter();
  let any = false;
  for (const given of secrets.identities ?? []) {
    for (const identity of typeof given === "string" ? linesOf(given) : [given]) {
      try {
        decrypter.addIdentity(identity);
      } catch {
        // The cause may repeat the secret.
        throw new Usage(
          "an identity is not of the kind that this package knows: AGE-SECRET-KEY-1...",
        );
      }
      any = true;
    }
  }
  if (secrets.identities !== undefined && !any)
    throw new Usage("there is no identity in the identities given");
  if (secrets.passphrase !== undefined) {
    decrypter.addPassphrase(secrets.passphrase);
    any = true;
  }
  return any ? decrypter : undefined;
}

function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line && !line.startsWith("#"));
}

/** Opens the key of the highest tier that the secrets open. */
export async function unwrap(
  tail: Tail,
  decrypter: Decrypter,
): Promise<{ tier: number; key: Bytes }> {
  for (const { tier, header } of tail.keys.toReversed()) {
    const key = await decrypt(decrypter, header.file);
    if (!key) continue;
    need(key.length === 32, `onnxseal.key.${tier}: not a key of 32 bytes`);
    return { tier, key };
  }
  throw new NoMatchingKey("no identity or passphrase opens this model");
}

/** The payload of an age file, if the secrets open it. */
export async function decrypt(decrypter: Decrypter, file: Bytes): Promise<Bytes | undefined> {
  try {
    return (await decrypter.decrypt(file)) as Bytes;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    if (message.includes("no identity matched")) return undefined;
    // The header was parsed before: what age still refuses does not authenticate.
    throw new Authentication(`a wrapped key does not open: ${message}`, { cause });
  }
}
