/** Why a call failed: the classes of the command's exit codes. */
export type Kind =
  | "malformed"
  | "authentication"
  | "no-matching-key"
  | "not-in-force"
  | "policy"
  | "usage"
  | "io";

/** What every call of this package throws, unless its caller aborted it. */
export class OnnxsealError extends Error {
  readonly kind: Kind;

  constructor(kind: Kind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.kind = kind;
  }
}

/** The bytes break a rule of the format. */
export class Malformed extends OnnxsealError {
  constructor(message: string, options?: ErrorOptions) {
    super("malformed", message, options);
  }
}

/** Something was changed since the model was protected, or a demanded signature does not hold. */
export class Authentication extends OnnxsealError {
  constructor(message: string, options?: ErrorOptions) {
    super("authentication", message, options);
  }
}

/** No identity opens the model, or only a tier below the one asked for. */
export class NoMatchingKey extends OnnxsealError {
  /** `opens` is the highest tier that the key opens, if it is below the one asked for. */
  constructor(
    message: string,
    readonly opens?: string,
    options?: ErrorOptions,
  ) {
    super("no-matching-key", message, options);
  }
}

/** A date of the model or of its licence has not come, or has passed. */
export class NotInForce extends OnnxsealError {
  constructor(message: string, options?: ErrorOptions) {
    super("not-in-force", message, options);
  }
}

/** The model is whole, but lacks a tier or a claim that the caller demands. */
export class PolicyNotMet extends OnnxsealError {
  constructor(message: string, options?: ErrorOptions) {
    super("policy", message, options);
  }
}

/** The call cannot be carried out as asked. */
export class Usage extends OnnxsealError {
  constructor(message: string, options?: ErrorOptions) {
    super("usage", message, options);
  }
}

/** The file is a model that nobody protected. */
export class NotProtected extends Usage {}

/** A file cannot be read, is missing, or ends early. */
export class Io extends OnnxsealError {
  constructor(message: string, options?: ErrorOptions) {
    super("io", message, options);
  }
}

/** Refuses malformed bytes unless the condition holds. */
export function need(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Malformed(message);
}
