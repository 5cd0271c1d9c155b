import { need } from "./errors.js";

/** A value of JSON. Objects are maps, so that no name of a member means anything here. */
export type Json = null | boolean | number | string | Json[] | Map<string, Json>;

/** The manifest nests far less deep. */
const DEEPEST = 16;
const ESCAPES: Record<string, string> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

/**
 * Parses JSON (RFC 8259) as FORMAT.md restricts it: numbers are digits up to 2^53 - 1, members
 * occur once, escapes give whole characters. `JSON.parse` tells none of this.
 */
export function parseJson(text: string, what = "the manifest"): Json {
  const parser = new Parser(text, what);
  const value = parser.value(0);
  parser.space();
  need(parser.at === text.length, `${what} goes on after its JSON`);
  return value;
}

class Parser {
  at = 0;
  constructor(
    readonly text: string,
    readonly what: string,
  ) {}

  space(): void {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) this.at++;
  }

  value(depth: number): Json {
    this.demand(depth < DEEPEST, "it nests too deep");
    this.space();
    switch (this.text[this.at]) {
      case "{":
        return this.object(depth);
      case "[":
        return this.array(depth);
      case '"':
        return this.string();
      case "t":
        return this.word("true", true);
      case "f":
        return this.word("false", false);
      case "n":
        return this.word("null", null);
      default:
        return this.number();
    }
  }

  object(depth: number): Map<string, Json> {
    const members = new Map<string, Json>();
    this.at++;
    if (this.next("}")) return members;
    do {
      this.space();
      this.demand(this.text[this.at] === '"', "no name of a member");
      const name = this.string();
      if (members.has(name)) this.demand(false, `the member ${JSON.stringify(name)} occurs twice`);
      this.demand(this.next(":"), "no colon");
      members.set(name, this.value(depth + 1));
    } while (this.next(","));
    this.demand(this.next("}"), "an object does not end");
    return members;
  }

  array(depth: number): Json[] {
    const values: Json[] = [];
    this.at++;
    if (this.next("]")) return values;
    do values.push(this.value(depth + 1));
    while (this.next(","));
    this.demand(this.next("]"), "an array does not end");
    return values;
  }

  string(): string {
    let whole = "";
    let from = ++this.at;
    for (;;) {
      const code = this.text.charCodeAt(this.at);
      this.demand(code >= 0x20, "a string does not end"); // false for NaN, beyond the end
      if (code === 0x22 || code === 0x5c) {
        whole += this.text.slice(from, this.at++);
        if (code === 0x22) break;
        whole += this.escape();
        from = this.at;
      } else {
        this.at++;
      }
    }
    this.demand(whole.isWellFormed(), "an escape of half a surrogate pair");
    return whole;
  }

  escape(): string {
    const letter = this.text[this.at++] ?? "";
    if (letter !== "u") {
      this.demand(Object.hasOwn(ESCAPES, letter), "an unknown escape");
      return ESCAPES[letter]!;
    }
    const digits = this.text.slice(this.at, this.at + 4);
    this.demand(/^[0-9A-Fa-f]{4}$/.test(digits), "an unknown escape");
    this.at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }

  number(): number {
    const from = this.at;
    while (this.text[this.at]! >= "0" && this.text[this.at]! <= "9") this.at++;
    const digits = this.text.slice(from, this.at);
    const legal =
      /^(0|[1-9][0-9]{0,15})$/.test(digits) && Number(digits) <= Number.MAX_SAFE_INTEGER;
    this.demand(
      legal && !".eE".includes(this.text[this.at] ?? "x"),
      "no value that it may have",
    );
    return Number(digits);
  }

  word<T>(word: string, value: T): T {
    this.demand(this.text.startsWith(word, this.at), "no value");
    this.at += word.length;
    return value;
  }

  next(character: string): boolean {
    this.space();
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  /** As `need`, but makes no text before it fails: a manifest has millions of characters. */
  demand(condition: unknown, what: string): asserts condition {
    if (condition) return;
    need(false, `${this.what} is not JSON as it must be: ${what}, at character ${this.at}`);
  }
}
