// A caller of the package, which a test compiles as strictly as TypeScript can and does not run.
import * as web from "onnxruntime-web";
import node from "onnxruntime-node";
import { createSession, inspect, open, OnnxsealError, type Kind, type Source } from "onnxseal";
import { createSessionFromFile } from "onnxseal/node";

const access = {
  identities: ["AGE-SECRET-KEY-1"],
  requireClaims: ["customer=acme"],
  tier: "any",
  licence: async () => new Blob([]),
  allowedSigners: ["ssh-ed25519 AAAA"],
  external: { "weights.bin": new Blob([]) },
};

export async function inBrowser(): Promise<web.InferenceSession> {
  const model = await fetch("model.onnx");
  return createSession(web.InferenceSession, model, access, { executionProviders: ["wasm"] });
}

export async function inNode(): Promise<node.InferenceSession> {
  const session = node.InferenceSession;
  const given = { passphrase: "p", licence: "onnxseal licence 1" };
  return createSessionFromFile(session, "model.onnx", given, { logSeverityLevel: 3 });
}

export async function bySource(): Promise<web.InferenceSession | Kind> {
  const source: Source = { bytes: 3, read: async (_offset, length) => new Uint8Array(length) };
  try {
    const { tensors } = await inspect(source);
    const opened = await open(source, { ...access, tier: tensors[0]?.name });
    const { model, externalData } = opened;
    return await web.InferenceSession.create(model, { externalData });
  } catch (error) {
    if (error instanceof OnnxsealError) return error.kind;
    throw error;
  }
}
