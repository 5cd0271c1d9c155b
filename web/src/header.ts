import { ascii, base64, startsWith, unpadded, utf8, type Bytes } from "./bytes.js";
import { need } from "./errors.js";

const BEGIN = ascii("-----BEGIN AGE ENCRYPTED FILE-----\n");
/** The last line of an armored age file. */
export const AGE_END = "-----END AGE ENCRYPTED FILE-----";
const END = ascii(`\n${AGE_END}\n`);
const COLUMNS = 64;
const MOST_ARMORED = 131_072;
const MOST_LINES = 4096;

/** A stanza of an age file's header. */
export interface Stanza {
  kind: string;
  args: string[];
  body: Bytes;
}

/** An age file that wraps a key: checked armor, checked header. */
export interface Header {
  /** The file without its armor. */
  file: Bytes;
  stanzas: Stanza[];
}

/** Takes the armor from an age file, in its one spelling, and parses the header. */
export function parseHeader(armored: Bytes, what: string): Header {
  need(armored.length <= MOST_ARMORED, `${what}: too long`);
  need(startsWith(armored, BEGIN), `${what}: not an armored age file`);
  const after = armored.length - END.length;
  need(after > BEGIN.length && startsWith(armored, END, after), `${what}: its armor does not end`);
  const file = base64(joined(armored.subarray(BEGIN.length, after), what), what);

  let at = 0;
  let lines = 0;
  const line = (): Bytes => {
    const end = file.indexOf(0x0a, at);
    need(end >= 0, `${what}: its header does not end`);
    need(lines++ <= MOST_LINES, `${what}: its header has too many lines`);
    const content = file.subarray(at, end);
    at = end + 1;
    return content;
  };
  need(utf8(line(), what) === "age-encryption.org/v1", `${what}: not an age file of version 1`);
  const stanzas: Stanza[] = [];
  let next = line();
  while (startsWith(next, ascii("-> "))) {
    const words = utf8(next.subarray(3), what).split(" ");
    need(
      words.every((word) => /^[!-~]+$/.test(word)),
      `${what}: illegal arguments of a stanza`,
    );
    const [kind, ...args] = words as [string, ...string[]];
    const body: number[] = [];
    let text: Bytes;
    do {
      text = line();
      need(text.length <= COLUMNS, `${what}: a line of a stanza is too long`);
      body.push(...unpadded(text, what));
    } while (text.length === COLUMNS);
    stanzas.push({ kind, args, body: new Uint8Array(body) });
    next = line();
  }
  const mac = startsWith(next, ascii("--- ")) ? unpadded(next.subarray(4), what) : undefined;
  need(mac?.length === 32, `${what}: its header has no MAC`);
  const kinds = stanzas.map((stanza) => stanza.kind);
  need(kinds.length > 0, `${what}: for nobody`);
  need(
    !kinds.includes("scrypt") || kinds.length === 1,
    `${what}: a passphrase beside other recipients`,
  );
  return { file, stanzas };
}

/** Joins the lines of an armor, all of which are full but the last. */
function joined(body: Uint8Array, what: string): Bytes {
  const text = new Uint8Array(body.length - Math.floor(body.length / (COLUMNS + 1)));
  for (let from = 0, to = 0; from < body.length; from += COLUMNS + 1, to += COLUMNS) {
    const line = body.subarray(from, from + COLUMNS);
    need(!line.includes(0x0a), `${what}: lines of the armor are not full`);
    text.set(line, to);
    const end = body[from + COLUMNS];
    need(
      end === undefined || (end === 0x0a && from + COLUMNS + 1 < body.length),
      `${what}: a line of the armor is too long`,
    );
  }
  return text;
}

const LISTED = /^[!-~ ]+$/;

/** The comment, and the public keys, that a header has for people. Only age's MAC covers them. */
export function notes(header: Header): { comment: string | null; recipients: string[] } {
  const text = (kind: string) =>
    header.stanzas
      .filter(
        (stanza) => stanza.kind === kind && stanza.args.length === 0 && stanza.body.length <= 1024,
      )
      .map((stanza) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(stanza.body))
      .filter((line) => !/[\p{Cc}\ufffd]/u.test(line));
  return {
    comment: text("onnxseal-comment")[0] ?? null,
    recipients: text("onnxseal-recipient").filter((line) => LISTED.test(line)),
  };
}
