// What an application requires of the publisher's claims.

import { brokenDate, periodOf } from "./dates.js";
import { PolicyNotMet } from "./errors.js";

/** Checks claims as the command's `--require-claim` and Python's `require_claims` do. */
export function checkClaims(required: Iterable<string>, claims: Map<string, string>): void {
  for (const text of required) {
    const key = text.split("=", 1)[0]!;
    const value = claims.get(key);
    if (value === undefined || !isMet(text, key, value))
      throw new PolicyNotMet(`the model does not claim ${text}, but ${value ?? "nothing"}`);
  }
}

function isMet(text: string, key: string, value: string): boolean {
  if (text !== key) return text === `${key}=${value}`;
  if (key !== "not-after" && key !== "not-before") return true;
  return periodOf(value) !== undefined && !brokenDate(new Map([[key, value]]), Date.now());
}
