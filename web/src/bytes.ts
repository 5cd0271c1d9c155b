import { need } from "./errors.js";

/** Bytes that WebCrypto takes: never in shared memory. */
export type Bytes = Uint8Array<ArrayBuffer>;

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const DIGITS = new Uint8Array(256).fill(255);
for (let digit = 0; digit < 64; digit++) DIGITS[ALPHABET.charCodeAt(digit)] = digit;

const encoder = new TextEncoder();

export function ascii(text: string): Bytes {
  return encoder.encode(text);
}

export function concat(...parts: Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export function startsWith(data: Uint8Array, start: Uint8Array, at = 0): boolean {
  return data.length - at >= start.length && start.every((byte, i) => byte === data[at + i]);
}

export function hex(data: Uint8Array): string {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Decodes UTF-8; a byte order mark stays. */
export function utf8(data: Uint8Array, what: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    need(false, `${what}: not UTF-8`);
  }
}

/** Demands UTF-8 of a text that may be longer than a string can be. */
export function checkUtf8(data: Uint8Array, what: string): void {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    for (let at = 0; at < data.length; at += 1 << 20) {
      decoder.decode(data.subarray(at, at + (1 << 20)), { stream: true });
    }
    decoder.decode();
  } catch {
    need(false, `${what}: not UTF-8`);
  }
}

/** Decodes base64 in its one spelling: standard alphabet, padded, leftover bits 0. */
export function base64(text: Uint8Array, what: string): Bytes {
  need(text.length % 4 === 0, `${what}: base64 is cut`);
  const padding =
    text.length && text[text.length - 1] === 0x3d ? (text[text.length - 2] === 0x3d ? 2 : 1) : 0;
  return unpadded(text.subarray(0, text.length - padding), what);
}

/** Decodes base64 without padding, leftover bits 0. */
export function unpadded(text: Uint8Array, what: string): Bytes {
  const left = text.length % 4;
  need(left !== 1, `${what}: base64 is cut`);
  const data = new Uint8Array(Math.floor((text.length * 3) / 4));
  let out = 0;
  let bits = 0;
  let count = 0;
  for (const character of text) {
    const digit = DIGITS[character]!;
    need(digit !== 255, `${what}: not base64`);
    bits = ((bits << 6) | digit) & 0xffffff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      data[out++] = bits >> count;
    }
  }
  need((bits & ((1 << count) - 1)) === 0, `${what}: base64 has leftover bits`);
  return data;
}

/** Encodes base64 with padding. */
export function toBase64(data: Uint8Array): string {
  let text = "";
  for (let at = 0; at < data.length; at += 3) {
    const bits = (data[at]! << 16) | ((data[at + 1] ?? 0) << 8) | (data[at + 2] ?? 0);
    const digits = [bits >> 18, (bits >> 12) & 63, (bits >> 6) & 63, bits & 63];
    const used = Math.min(4, data.length - at + 1);
    for (let i = 0; i < 4; i++) text += i < used ? ALPHABET[digits[i]!] : "=";
  }
  return text;
}

export async function sha256(data: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
}
