import { need } from "./errors.js";
import type { Json } from "./json.js";

/** A file of a protected model: its path below the model's folder, and its length. */
export interface File {
  path: string;
  bytes: number;
}

interface Types {
  string: string;
  number: number;
  boolean: boolean;
  array: Json[];
  object: Map<string, Json>;
}
type Type = keyof Types;
type Value<T> = T extends `${infer U extends Type}?`
  ? Types[U] | undefined
  : T extends Type
    ? Types[T]
    : never;

function isA<T extends Type>(type: T, value: Json | undefined): value is Json & Types[T] {
  if (type === "array") return Array.isArray(value);
  if (type === "object") return value instanceof Map;
  return typeof value === type;
}

/** Demands an object with these members, of these types, and no others. `?` marks optional ones. */
export function members<T extends Record<string, Type | `${Type}?`>>(
  value: Json | undefined,
  what: string,
  types: T,
): { [name in keyof T]: Value<T[name]> } {
  need(isA("object", value), `${what}: not an object`);
  for (const name of value.keys()) {
    need(Object.hasOwn(types, name), `${what}: unknown member ${JSON.stringify(name)}`);
  }
  const result: Record<string, unknown> = {};
  for (const [name, marked] of Object.entries(types)) {
    const type = marked.replace("?", "") as Type;
    const member = value.get(name);
    need(member !== undefined || marked !== type, `${what}: no member ${name}`);
    need(member === undefined || isA(type, member), `${what}: ${name} is of another type`);
    result[name] = member;
  }
  return result as { [name in keyof T]: Value<T[name]> };
}

/** Demands values of one type. */
export function arrayOf<T extends Type>(type: T, values: Iterable<Json>, what: string): Types[T][] {
  const list = [...values];
  need(
    list.every((value) => isA(type, value)),
    `${what}: a value is of another type`,
  );
  return list as Types[T][];
}

/** Demands claims: an object of strings. */
export function claimsOf(value: Json, what: string): Map<string, string> {
  need(isA("object", value), `${what}: not an object`);
  need(value.size <= 65_536, `${what}: too many`);
  arrayOf("string", value.values(), what);
  return value as Map<string, string>;
}

export function isTierName(name: string): boolean {
  return /^[a-z0-9._-]{1,64}$/.test(name) && name !== "any";
}

/** Demands that each path is legal, and none is there twice. */
export function checkPaths(paths: string[]): void {
  for (const path of paths) {
    const what = `path ${JSON.stringify(path)}`;
    need(new TextEncoder().encode(path).length <= 4096, "a path is too long");
    need(!/[\\\0]|^[A-Za-z]:/.test(path) && !path.includes("_ORT_MEM_ADDR_"), `${what}: illegal`);
    need(
      path.split("/").every((part) => !["", ".", ".."].includes(part)),
      `${what}: illegal part`,
    );
  }
  need(new Set(paths).size === paths.length, "a path is there twice");
}
