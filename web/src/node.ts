import { open as openHandle, realpath, stat, type FileHandle } from "node:fs/promises";
import path from "node:path";
import type { Bytes } from "./bytes.js";
import { Io, Malformed } from "./errors.js";
import { inspect, type Inspection } from "./inspect.js";
import {
  open,
  verify,
  type OpenedModel,
  type OpenOptions,
  type Verification,
  type VerifyOptions,
} from "./open.js";
import { createSession, type SessionMaker } from "./session.js";
import { memoryOf, type Source } from "./source.js";

/**
 * What a caller gives and demands. External data are the files below the model's folder. The file
 * `MODEL.licence` beside the model is its licence, if no other is given.
 */
export type FileOptions = Omit<VerifyOptions, "external">;

/** Says what is encrypted in a model file, without a key. */
export function inspectFile(model: string): Promise<Inspection> {
  return withFiles(model, {}, (source) => inspect(source));
}

/** Checks a model file and its external data, and with a key every byte. */
export function verifyFile(model: string, options: FileOptions = {}): Promise<Verification> {
  return withFiles(model, options, verify);
}

/** Opens a model file and its external data in memory. */
export function openFile(
  model: string,
  options: Omit<OpenOptions, "external">,
): Promise<OpenedModel> {
  return withFiles(model, options, open);
}

/** Opens a model file and makes a session of it, by `InferenceSession` of onnxruntime-node. */
export function createSessionFromFile<Session, Options extends object>(
  sessions: SessionMaker<Session, Options>,
  model: string,
  access: FileOptions,
  options?: Options,
): Promise<Session> {
  return withFiles(model, access, (source, files) =>
    createSession(sessions, source, files, options),
  );
}

/** Calls with a model and options that find the files beside it, and closes all afterwards. */
async function withFiles<Options extends FileOptions, T>(
  model: string,
  options: Options,
  use: (model: Source, options: Options & VerifyOptions) => Promise<T>,
): Promise<T> {
  const handles: FileHandle[] = [];
  try {
    const at = path.resolve(model);
    const external = async (name: string) => {
      const place = await placeOf(at, name);
      return place === undefined ? undefined : sourceAt(place, handles);
    };
    // What is there and is no file, or cannot be opened, is no licence.
    const beside = () => external(`${path.basename(at)}.licence`).catch(() => undefined);
    const licence = options.licence ?? beside;
    return await use(await sourceAt(model, handles), { ...options, external, licence });
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
  }
}

/**
 * Where a file beside a model lies, if it is there. No link leads out of the folder of the model's
 * path and that of the file to which this path leads.
 */
async function placeOf(model: string, name: string): Promise<string | undefined> {
  try {
    const folder = await realpath(path.dirname(model));
    const place = await realpath(path.join(folder, name));
    const folders = [folder, path.dirname(await realpath(model))];
    const inside = folders.some((folder) => place.startsWith(path.join(folder, path.sep)));
    if (inside && (await stat(place)).isFile()) return place;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new Io(`${JSON.stringify(name)} cannot be read: ${cause}`, { cause });
  }
  throw new Malformed(`${JSON.stringify(name)} is no regular file in the model's folder`);
}

async function sourceAt(place: string, handles: FileHandle[]): Promise<Source> {
  try {
    const handle = await openHandle(place, "r");
    handles.push(handle);
    return new HandleSource(handle, place, (await handle.stat()).size);
  } catch (cause) {
    throw new Io(`${place} cannot be read: ${cause}`, { cause });
  }
}

class HandleSource implements Source {
  constructor(
    private readonly handle: FileHandle,
    readonly name: string,
    readonly bytes: number,
  ) {}

  async read(offset: number, length: number, piece = memoryOf(length)): Promise<Bytes> {
    for (let at = 0; at < length; ) {
      let bytesRead: number;
      try {
        ({ bytesRead } = await this.handle.read(piece, at, length - at, offset + at));
      } catch (cause) {
        throw new Io(`${this.name} cannot be read: ${cause}`, { cause });
      }
      if (bytesRead === 0) throw new Io(`${this.name} became shorter while it was read`);
      at += bytesRead;
    }
    return piece;
  }
}
