import type { Decrypter } from "age-encryption";
import { decrypterOf, unwrap, type Secrets } from "./age.js";
import { sha256, type Bytes } from "./bytes.js";
import { ChunkOpener, nameOf, TAG } from "./chunk.js";
import { checkClaims } from "./claims.js";
import { brokenDate, checkInForce } from "./dates.js";
import { Authentication, Io, NoMatchingKey, PolicyNotMet, Usage } from "./errors.js";
import { inspectionOf, type Inspection } from "./inspect.js";
import { Keys } from "./keys.js";
import {
  isMissing,
  readLicence,
  titleOf,
  unwrapLicence,
  whomToAsk,
  type Licence,
  type LicenceInput,
} from "./licence.js";
import type { Place } from "./manifest.js";
import {
  demandedSignature,
  holds,
  parseSignature,
  signedMessage,
  signerOf,
  type PublicKey,
  type Signature,
} from "./signature.js";
import {
  memoryOf,
  MemorySource,
  Owned,
  sourceOf,
  type Collecting,
  type Input,
  type Source,
} from "./source.js";
import { readTail, type Tail } from "./tail.js";

/** Bytes that are read at once, and how many such pieces are under way. */
const PIECE = 2 ** 23;
const PIECES_AT_ONCE = 4;

/** Bytes that are copied at once out of memory: all pieces stay in the processor's cache. */
const NEAR_PIECE = 2 ** 21;

/** Gives the external data file of a path, or nothing if there is none. */
export type External =
  | Map<string, Input>
  | Record<string, Input>
  | ((path: string) => Input | undefined | Promise<Input | undefined>);

/** Gives the licence of a model. Nothing, or a response with status 404, is none. */
export type LicenceFinder = () => LicenceInput | undefined | Promise<LicenceInput | undefined>;

/** What a caller gives and demands. */
export interface VerifyOptions extends Secrets {
  /**
   * A licence, which has the model's key in place of the keys in the model. A function is called
   * only if the secrets do not open one of those, and may give none.
   */
  licence?: LicenceInput | LicenceFinder | undefined;
  /** The external data files, by their paths in the manifest. */
  external?: External | undefined;
  /**
   * The tier to open, by its name, or `"any"` for the highest that the key opens. Without it,
   * nothing less than the original.
   */
  tier?: string | undefined;
  /** Claims that the model must make: `key=value`, `key`, `not-after` and `not-before`. */
  requireClaims?: Iterable<string> | undefined;
  /** Lines of public keys of OpenSSH. The model must have a signature by one of them that holds. */
  allowedSigners?: Iterable<string> | undefined;
  /** Is called after each piece. */
  onProgress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** What a caller of `open` gives and demands. */
export interface OpenOptions extends VerifyOptions {
  /**
   * Gives memory for a file to be opened in: its path (empty for the model), and its length, which
   * the memory must have at least. Without memory of the caller's, `open` takes its own.
   */
  into?: ((path: string, bytes: number) => Bytes | undefined) | undefined;
}

/** All options. */
const OPTIONS: Record<keyof OpenOptions, 0> = {
  identities: 0,
  passphrase: 0,
  licence: 0,
  external: 0,
  tier: 0,
  requireClaims: 0,
  allowedSigners: 0,
  onProgress: 0,
  signal: 0,
  into: 0,
};

/** How far a call has come. */
export interface Progress {
  /** A file that is given as a stream or a response is downloaded before it is authenticated. */
  step: "download" | "authenticate";
  done: number;
  /**
   * Bytes of the file that is downloaded, unless the server does not tell; of all files, once they
   * are authenticated.
   */
  total: number | undefined;
}

/** What `verify` found. */
export interface Verification extends Inspection {
  /** Whether a key proved every byte. Without secrets, only the structure was checked. */
  authenticated: boolean;
  /** The tier that was authenticated; `null` in a model without tiers. */
  tier: string | null;
  /** The signature, and whether it holds; `null` if there is none. */
  signature: { key: PublicKey | null; holds: boolean } | null;
  /** The claim that keeps the model from opening now; `null` if none does. */
  notInForce: "not-before" | "not-after" | null;
}

/** A file of external data, as ONNX Runtime Web takes it. */
export interface ExternalData {
  path: string;
  data: Bytes;
}

/** An opened model. Every byte was authenticated. */
export interface OpenedModel {
  model: Bytes;
  externalData: ExternalData[];
  /** The tier; `null` in a model without tiers. The highest is the original. */
  tier: string | null;
  claims: Map<string, string>;
  /** The files under the names that they had before protection; the model's path is empty. */
  original(): Map<string, Bytes>;
  /** Overwrites all bytes that this object gave. Copies that others made stay. */
  wipe(): void;
}

/**
 * Opens a protected model in memory. Hands out nothing before all of it is authenticated; on a
 * failure, overwrites what it had decrypted.
 */
export async function open(model: Input, options: OpenOptions): Promise<OpenedModel> {
  const decrypter = decrypterOf(options);
  if (!decrypter) throw new Usage("no identity and no passphrase is given");
  const pass = await Pass.of(model, options);
  const { manifest } = pass.tail;
  const keys = await pass.unlock(decrypter, true);
  const files: Bytes[] = [];
  try {
    await pass.run(keys, files);
  } catch (error) {
    wipe(files);
    throw error;
  }
  const paths = manifest.files.map((file) => file.path);
  const [first, ...rest] = files as [Bytes, ...Bytes[]];
  const given = [...files];
  return {
    model: first,
    externalData: rest.map((data, i) => ({ path: paths[i + 1]!, data })),
    tier: pass.tier,
    claims: new Map(manifest.claims),
    original() {
      const renamed = manifest.original;
      if (!renamed) return new Map(files.map((file, i) => [paths[i]!, file]));
      const restored = renamed.restore(first);
      given.push(restored);
      return new Map([
        ["", restored],
        ...rest.map((file, i) => [renamed.paths[i]!, file] as const),
      ]);
    },
    wipe: () => wipe(given),
  };
}

/** Overwrites memory, unless it has gone to another owner. */
function wipe(files: Bytes[]): void {
  for (const file of files) if (file.length > 0) file.fill(0);
}

/**
 * Checks a protected model and hands out nothing: its structure, its signature if it has one, and
 * with an identity or passphrase every byte. Memory does not grow with the model, unless a file is
 * given as a stream.
 */
export async function verify(model: Input, options: VerifyOptions = {}): Promise<Verification> {
  const decrypter = decrypterOf(options);
  if (!decrypter && options.licence !== undefined && typeof options.licence !== "function")
    throw new Usage("a licence opens by an identity or a passphrase, and none is given");
  const pass = await Pass.of(model, options);
  const inspection = await inspectionOf(pass.tail);
  const keys = decrypter && (await pass.unlock(decrypter, false));
  // Whoever gives no key demands the tier all the same.
  if (!keys) pass.wanted(1);
  const signed = await pass.run(keys, undefined);
  return {
    ...inspection,
    authenticated: keys !== undefined,
    tier: pass.tier,
    signature: pass.tail.signature ? { key: inspection.signer, holds: signed } : null,
    notInForce: brokenDate(inspection.claims, Date.now()) ?? null,
  };
}

/** One walk over all chunks of all files. */
class Pass {
  private done = 0;
  /** Name of the tier, once the key is there. */
  tier: string | null = null;
  /** Counted from 1. */
  private tierNumber = 0;

  private constructor(
    private readonly source: Source,
    readonly tail: Tail,
    private readonly options: OpenOptions,
    /** What is demanded of the signature. */
    private readonly signers: Set<string> | undefined,
  ) {}

  static async of(model: Input, options: OpenOptions): Promise<Pass> {
    for (const name of Object.keys(options)) {
      // A misspelt demand would be none.
      if (!(name in OPTIONS))
        throw new Usage(`no option ${name}: there are ${Object.keys(OPTIONS)}`);
    }
    const { allowedSigners: lines, requireClaims } = options;
    // A text would be a list of characters.
    if ([lines, requireClaims].some((list) => typeof list === "string"))
      throw new Usage("allowedSigners and requireClaims are lists");
    const signers = lines && new Set([...lines].map(signerOf));
    const source = await sourceOf(model, collecting(options));
    const tail = await readTail(source);
    return new Pass(source, tail, options, signers);
  }

  /** The keys. The dates of a licence count always, those of the model only for `opening`. */
  async unlock(decrypter: Decrypter, opening: boolean): Promise<Keys> {
    const { manifest } = this.tail;
    const now = Date.now();
    const { tier, key, licence } = await this.unwrap(decrypter, now);
    const keys = await Keys.unlock(this.tail, tier, key);
    if (opening) checkInForce(manifest.claims, "the model", whomToAsk(licence), now);
    this.tierNumber = this.wanted(tier);
    if (tier < this.tierNumber) {
      const [held, asked] = [manifest.tiers[tier - 1], manifest.tiers[this.tierNumber - 1]];
      throw new NoMatchingKey(`the key opens the tier ${held}, not ${asked}`, held);
    }
    this.tier = manifest.tiers[this.tierNumber - 1] ?? null;
    return keys;
  }

  /** The tier to open by the key of the tier `held`, or one above it. */
  wanted(held: number): number {
    const { tiers, tierCount } = this.tail.manifest;
    const { tier } = this.options;
    if (tier === undefined) return tierCount;
    const number = tier === "any" && tiers.length > 0 ? held : tiers.indexOf(tier) + 1;
    if (number === 0) throw new PolicyNotMet(`the model has no tier ${tier}`);
    return number;
  }

  /** The key of a tier: the licence's if one is given, otherwise one of the model's own. */
  private async unwrap(
    decrypter: Decrypter,
    now: number,
  ): Promise<{ tier: number; key: Bytes; licence?: Licence }> {
    let given = this.options.licence;
    let failed = "";
    if (typeof given === "function" || given === undefined) {
      try {
        return await unwrap(this.tail, decrypter);
      } catch (error) {
        if (!(error instanceof NoMatchingKey)) throw error;
        given = await given?.();
        if (given === undefined || isMissing(given)) throw error;
        failed = `${error.message}, and `;
      }
    }
    const licence = await readLicence(given, this.options.signal);
    const unwrapped = await unwrapLicence(licence, this.tail, decrypter, this.signers, now);
    if (!unwrapped) throw new NoMatchingKey(`${failed}${titleOf(given)} is for other files`);
    return { ...unwrapped, licence };
  }

  /**
   * Authenticates all files with the keys, if there are any, and puts what they open to into
   * `files`. Says whether the model has a signature that holds.
   */
  async run(keys: Keys | undefined, files: Bytes[] | undefined): Promise<boolean> {
    const { manifest } = this.tail;
    checkClaims(this.options.requireClaims ?? [], manifest.claims);
    const signature = await this.signature(files === undefined);
    if (!keys && !signature) return false;
    const digests = signature && new Uint8Array(32 * manifest.chunkCount);
    const total = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    let first = 0;
    for (const [index, { path, bytes }] of manifest.files.entries()) {
      const source = index === 0 ? this.source : await this.external(path, bytes);
      const opener = keys && (await ChunkOpener.of(this.tail, index, keys, this.tierNumber));
      const into = files && this.memory(path, bytes, source, files);
      if (into) files.push(into);
      const from = 32 * first;
      await this.walk(source, index, total, async (place, piece, at) => {
        const size = place.high - place.low;
        if (digests) {
          const digest = await sha256(piece.subarray(at, at + size));
          digests.set(digest, from + 32 * place.chunk);
        }
        try {
          await opener?.open(place, piece, at, into?.subarray(place.low, place.high));
        } catch (cause) {
          if (!into || into.length === bytes) throw cause;
          throw new Usage(`the memory for ${nameOf(path)} was taken away`, { cause });
        }
      });
      first += manifest.chunks[index]!;
    }
    if (!signature) return false;
    const good = await holds(signature, await signedMessage(this.tail, digests!));
    if (this.signers && !good) throw new Authentication("the signature does not hold");
    return good;
  }

  /** Memory for a file to be opened in: the caller's, or that of a stream, or its own. */
  private memory(path: string, bytes: number, source: Source, taken: Bytes[]): Bytes {
    const given = this.options.into?.(path, bytes);
    if (!given) {
      return source instanceof Owned ? source.memory.subarray(0, bytes) : memoryOf(bytes);
    }
    const what = `the memory that is given for ${nameOf(path)}`;
    if (!(given instanceof Uint8Array) || given.length < bytes)
      throw new Usage(`${what} is no Uint8Array of ${bytes} bytes`);
    const memory = given.subarray(0, bytes);
    const end = memory.byteOffset + bytes;
    for (const other of taken) {
      if (other.buffer !== memory.buffer) continue;
      if (other.byteOffset < end && memory.byteOffset < other.byteOffset + other.length)
        throw new Usage(`${what} is another file's too`);
    }
    return memory;
  }

  /** The signature to check: one that is demanded, or one that `verify` reports on. */
  private async signature(report: boolean): Promise<Signature | undefined> {
    const armored = this.tail.signature;
    if (this.signers) return demandedSignature(armored, this.signers, "the model");
    if (!armored || !report) return undefined;
    try {
      return await parseSignature(armored);
    } catch {
      return undefined;
    }
  }

  private async external(path: string, bytes: number): Promise<Source> {
    const { external } = this.options;
    let input: Input | undefined;
    if (typeof external === "function") input = await external(path);
    else if (external instanceof Map) input = external.get(path);
    else if (external && Object.hasOwn(external, path)) input = external[path];
    if (input === undefined)
      throw new Io(`the external data file ${nameOf(path)} is missing`);
    const source = await sourceOf(input, { ...collecting(this.options), most: bytes });
    if (source.bytes !== bytes) {
      throw new Authentication(
        `${nameOf(path)} has ${source.bytes} bytes, and ${bytes} in the manifest`,
      );
    }
    return source;
  }

  /** Reads the chunks of a file, several at once, and calls with each and its place. */
  private async walk(
    source: Source,
    file: number,
    total: number,
    call: (place: Place, piece: Bytes, at: number) => Promise<void>,
  ): Promise<void> {
    const { chunk: size, files } = this.tail.manifest;
    const { bytes } = files[file]!;
    const { signal, onProgress } = this.options;
    const step = Math.max(size, source instanceof MemorySource ? NEAR_PIECE : PIECE);
    let next = 0;
    let stopped = false;
    const work = async () => {
      // Memory that was touched before is the quickest. It has room for a tag behind the piece.
      const buffer = memoryOf(source instanceof Owned ? 0 : Math.min(step, bytes) + TAG);
      while (next < bytes && !stopped) {
        signal?.throwIfAborted();
        const from = next;
        const length = Math.min(step, bytes - from);
        next += length;
        let [piece, start] = [buffer, 0];
        if (source instanceof Owned) {
          // It is not copied first.
          [piece, start] = [source.memory, from];
        } else {
          const read = await source.read(from, length, buffer.subarray(0, length));
          if (read.buffer !== buffer.buffer) piece = read;
        }
        const calls: Promise<void>[] = [];
        for (let low = from; low < from + length; low += size) {
          const place = { file, chunk: low / size, low, high: Math.min(low + size, bytes) };
          calls.push(call(place, piece, start + low - from));
        }
        await settled(calls);
        this.done += length;
        onProgress?.({ step: "authenticate", done: this.done, total });
      }
    };
    const workers = Array.from({ length: PIECES_AT_ONCE }, () =>
      work().catch((error) => {
        stopped = true;
        throw error;
      }),
    );
    await settled(workers);
  }
}

/** How streams are collected for a caller. */
function collecting({ signal, onProgress }: VerifyOptions): Collecting {
  return {
    signal,
    onBytes: (done, total) => onProgress?.({ step: "download", done, total }),
  };
}

/** Waits for all, so that nothing is still written, then throws the first failure. */
async function settled(promises: Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) {
    if (result.status === "rejected") throw result.reason;
  }
}
