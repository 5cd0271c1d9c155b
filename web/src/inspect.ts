import { Authentication } from "./errors.js";
import { notes } from "./header.js";
import type { File } from "./members.js";
import { parseSignature, type PublicKey } from "./signature.js";
import { sourceOf, type Input } from "./source.js";
import { readTail, type Tail } from "./tail.js";
import type { Operator } from "./tensor.js";

/** A tensor that has an encrypted part. */
export interface TensorReport {
  name: string;
  /** Its path in `ModelProto`. */
  at: string;
  dataType: string;
  dims: number[];
  /** The nodes that consume it; for the first it was encrypted. */
  operators: Operator[];
  /** Path of its file; empty for the model file. */
  file: string;
  /** Bytes of its elements. */
  bytes: number;
  /** Encrypted bytes of each tier, the least first. */
  encrypted: number[];
  /** Number of subsequences. */
  n: number;
  /** Encrypted subsequences of each tier: first and the one after the last of each run, flat. */
  targets: number[][];
  mode: "mask" | "shuffle" | undefined;
}

/** A wrapped key. */
export interface KeyReport {
  /** The tier, counted from 1. */
  tier: number;
  /** Its name; `null` in a model of one edition. */
  name: string | null;
  /** Kinds of the recipients, such as `X25519`. */
  kinds: string[];
  /** What the maker wrote for people. Only the keys tell whether it is true. */
  comment: string | null;
  recipients: string[];
}

/** What a protected model says about itself. Until a key proves it, it may be forged. */
export interface Inspection {
  format: 1;
  suite: string;
  /** Bytes in a chunk. */
  chunk: number;
  /** Whether programs that do not open the model refuse it. */
  lock: boolean;
  /** Names of the tiers, the least first; empty for a model of one edition. */
  tiers: string[];
  /** All files with their lengths; the first is the model, without its tail. */
  files: File[];
  claims: Map<string, string>;
  tensors: TensorReport[];
  /** Whether external data were renamed, so that `original()` gives other files. */
  renamed: boolean;
  keys: KeyReport[];
  /** The key that the signature claims to be by; `null` if there is no signature. */
  signer: PublicKey | null;
}

/** Says what is encrypted. Needs no key, and reads nothing but the structure of the model file. */
export async function inspect(model: Input): Promise<Inspection> {
  return inspectionOf(await readTail(await sourceOf(model)));
}

/** Stanzas for people, and those that age programs put in so that readers skip what they must. */
const WRAP_NOTHING = /^onnxseal-(comment|recipient)$|-grease$/;

export async function inspectionOf(tail: Tail): Promise<Inspection> {
  const { manifest } = tail;
  return {
    format: 1,
    suite: "AES-256-GCM/HKDF-SHA256",
    chunk: manifest.chunk,
    lock: manifest.lock,
    tiers: [...manifest.tiers],
    files: manifest.files.map((file) => ({ ...file })),
    claims: new Map(manifest.claims),
    tensors: manifest.tensors.map((tensor) => ({
      name: tensor.name,
      at: tensor.at,
      dataType: tensor.dataType,
      dims: tensor.dims,
      operators: tensor.operators,
      file: manifest.files[tensor.file]!.path,
      bytes: tensor.bytes,
      encrypted: tensor.targets.map((_, tier) => tensor.targetBytes(tier)),
      n: tensor.n,
      targets: tensor.targets.map((runs) => [...runs]),
      mode: tensor.mode,
    })),
    renamed: manifest.original !== undefined,
    keys: tail.keys.map(({ tier, header }) => ({
      tier,
      name: manifest.tiers[tier - 1] ?? null,
      kinds: header.stanzas.map((stanza) => stanza.kind).filter((kind) => !WRAP_NOTHING.test(kind)),
      ...notes(header),
    })),
    signer: tail.signature ? await signerOrNobody(tail) : null,
  };
}

/** A malformed signature is nobody's; only those who demand one refuse it. */
async function signerOrNobody(tail: Tail): Promise<PublicKey | null> {
  try {
    return (await parseSignature(tail.signature!)).key;
  } catch (error) {
    if (error instanceof Authentication) return null;
    throw error;
  }
}
