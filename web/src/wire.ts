import { need } from "./errors.js";

/** A number that begins at a place of the data, and the place after it. */
export interface Varint {
  value: number;
  end: number;
}

/**
 * Reads a varint of protobuf, which is LEB128. Values from 2^53 on are rounded: they exceed every
 * length, and every number that the format allows.
 */
export function varint(data: Uint8Array, at: number, end: number, longest = 10): Varint {
  let value = 0;
  for (let i = 0; i < longest; i++) {
    need(at + i < end, "a number is cut");
    const byte = data[at + i]!;
    need(i < 9 || byte <= 1, "a number exceeds 64 bits");
    value += (byte & 127) * 2 ** (7 * i);
    if (byte < 128) return { value, end: at + i + 1 };
  }
  need(false, "a number is too long");
}

/** Reads a varint in its shortest encoding. */
export function minimal(data: Uint8Array, at: number, end: number, longest = 10): Varint {
  const number = varint(data, at, end, longest);
  need(number.end === at + 1 || data[number.end - 1] !== 0, "a number is longer than necessary");
  return number;
}

/** A field of a message: its number, its wire type, and where its content lies. */
export interface Field {
  number: number;
  wire: number;
  start: number;
  end: number;
}

/**
 * Reads the head of a field at a place. `end` of the result may lie beyond `end` of the data: the
 * caller compares it with the length of the message.
 */
export function field(data: Uint8Array, at: number, end: number): Field {
  const tag = varint(data, at, end);
  const number = Math.floor(tag.value / 8);
  const wire = tag.value % 8;
  need(number > 0 && number < 2 ** 29, "a field has no legal number");
  switch (wire) {
    case 0:
      return { number, wire, start: tag.end, end: varint(data, tag.end, end).end };
    case 1:
      return { number, wire, start: tag.end, end: tag.end + 8 };
    case 2: {
      const length = varint(data, tag.end, end);
      return { number, wire, start: length.end, end: length.end + length.value };
    }
    case 5:
      return { number, wire, start: tag.end, end: tag.end + 4 };
    default:
      need(false, "a group, or an unknown wire type");
  }
}
