export * from "./errors.js";
export { inspect, type Inspection, type KeyReport, type TensorReport } from "./inspect.js";
export {
  open,
  verify,
  type External,
  type ExternalData,
  type LicenceFinder,
  type OpenedModel,
  type OpenOptions,
  type Progress,
  type Verification,
  type VerifyOptions,
} from "./open.js";
export { createSession, type SessionMaker } from "./session.js";
export type { Secrets } from "./age.js";
export type { LicenceInput } from "./licence.js";
export type { Bytes } from "./bytes.js";
export type { File } from "./members.js";
export type { PublicKey } from "./signature.js";
export type { Input, Source } from "./source.js";
export type { Operator } from "./tensor.js";
