// What an application requires of the publisher's claims.

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
  const [start, end] = periodOf(value);
  if (key === "not-after") return Date.now() < end;
  return key !== "not-before" || Date.now() >= start;
}

/** First millisecond of a date (a day in UTC) or time, and the one after it; NaN for others. */
function periodOf(text: string): [number, number] {
  const [, day, time] =
    /^(\d{4}-\d\d-\d\d)([T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?$/i.exec(text) ?? [];
  // Some engines take February 30 for March 2. A date by itself is read as its midnight in UTC.
  const start = day && new Date(day).toJSON()?.startsWith(day) ? Date.parse(text) : NaN;
  return [start, start + (time ? 1 : 86_400_000)];
}
