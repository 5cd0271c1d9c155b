import type { ExternalData, VerifyOptions } from "./open.js";
import { open } from "./open.js";
import type { Input } from "./source.js";

/** `InferenceSession` of onnxruntime-web or onnxruntime-node. */
export interface SessionMaker<Session, Options> {
  create(model: Uint8Array, options?: Options): Promise<Session>;
}

/**
 * Opens a protected model and makes a session of it. The opened bytes are overwritten once the
 * session has its own.
 */
export async function createSession<Session, Options extends object>(
  sessions: SessionMaker<Session, Options>,
  model: Input,
  access: VerifyOptions,
  options?: Options,
): Promise<Session> {
  const opened = await open(model, access);
  try {
    const { externalData } = opened;
    const given: { externalData?: ExternalData[] } =
      externalData.length > 0 ? { externalData } : {};
    return await sessions.create(opened.model, { ...options, ...given } as Options);
  } finally {
    opened.wipe();
  }
}
