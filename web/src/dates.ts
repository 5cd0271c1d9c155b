// From when and until when a model or a licence opens.

import { NotInForce } from "./errors.js";

const CLOCK = "([01]\\d|2[0-3]):[0-5]\\d";
const DATE = new RegExp(`^(\\d{4}-\\d\\d-\\d\\d)(T${CLOCK}:[0-5]\\d(Z|[+-]${CLOCK}))?$`);
const DAY = 86_400_000;

/** A day of UTC, or a moment, which is a second: its first and its last millisecond since 1970. */
export interface Period {
  first: number;
  last: number;
}

/** Reads a date as FORMAT.md spells it; `undefined` if the text is none. */
export function periodOf(text: string): Period | undefined {
  const [, day, time] = DATE.exec(text) ?? [];
  if (!day || day < "0001") return undefined;
  // Some engines take February 30 for March 2. A day by itself is read as its midnight in UTC.
  const midnight = new Date(day);
  if (Number.isNaN(midnight.getTime()) || !midnight.toJSON().startsWith(day)) return undefined;
  const first = Date.parse(text);
  return { first, last: first + (time ? 1000 : DAY) - 1 };
}

/** Says which of the claims `not-before` and `not-after` a moment breaks. Text breaks neither. */
export function brokenDate(
  claims: Map<string, string>,
  now: number,
): "not-before" | "not-after" | undefined {
  const [start, end] = ["not-before", "not-after"].map((name) => periodOf(claims.get(name) ?? ""));
  if (start && now < start.first) return "not-before";
  return end && now > end.last ? "not-after" : undefined;
}

/** Refuses to open outside the dates of a model or a licence, and says whom to ask. */
export function checkInForce(
  claims: Map<string, string>,
  what: string,
  whom: string,
  now: number,
): void {
  const broken = brokenDate(claims, now);
  if (!broken) return;
  const when = broken === "not-after" ? "was in force until" : "is not in force before";
  throw new NotInForce(`${what} ${when} ${claims.get(broken)}: ask ${whom}`);
}
