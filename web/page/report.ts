import { brokenDate } from "../src/dates.js";
import type { Inspection, TensorReport } from "../src/index.js";
import { strip } from "./strip.js";

/** How much of a list is drawn at first: a model may list millions of things. */
const LISTED = 200;

/** Makes an element. Whatever a model says becomes text, never markup. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${unit === 0 ? bytes : bytes.toFixed(2)} ${units[unit]}`;
}

function share(part: number, whole: number): string {
  return whole === 0 ? "-" : `${((100 * part) / whole).toFixed(1)} %`;
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
const encryptedOf = (tensors: TensorReport[]) => sum(tensors.flatMap((tensor) => tensor.encrypted));
const bytesOf = (tensors: TensorReport[]) => sum(tensors.map((tensor) => tensor.bytes));

function grouped(
  tensors: TensorReport[],
  key: (tensor: TensorReport) => string,
): Map<string, TensorReport[]> {
  const groups = new Map<string, TensorReport[]>();
  for (const tensor of tensors) {
    const name = key(tensor);
    const own = groups.get(name);
    if (own) own.push(tensor);
    else groups.set(name, [tensor]);
  }
  return groups;
}

/** Draws a part of a list, and the next part on request. */
export function listed<T>(into: HTMLElement, items: T[], draw: (item: T) => Node): void {
  into.append(...items.slice(0, LISTED).map(draw));
  if (items.length <= LISTED) return;
  const more = element("button", { type: "button" }, `${items.length - LISTED} more`);
  more.onclick = () => {
    more.remove();
    listed(into, items.slice(LISTED), draw);
  };
  into.append(more);
}

/** What holds for the whole model. */
export function facts(inspection: Inspection): Node[] {
  const { tensors, files, claims, keys, signer, tiers } = inspection;
  const list = element("dl");
  const fact = (name: string, ...values: (Node | string)[]) =>
    list.append(element("dt", {}, name), element("dd", {}, ...values));
  const stored = sum(files.map((file) => file.bytes));
  const whole = tensors.filter((tensor) => sum(tensor.encrypted) === tensor.bytes).length;
  fact(
    "Encrypted",
    `${size(encryptedOf(tensors))}, ${share(encryptedOf(tensors), stored)} of the files`,
  );
  fact("Tensors", `${whole} wholly encrypted, ${tensors.length - whole} in part`);
  fact(
    "Lock",
    inspection.lock
      ? "programs without the key refuse the model"
      : "none: programs without the key run it, and get wrong answers",
  );
  if (tiers.length > 0) fact("Editions", `${tiers.join(", ")} (the original)`);
  for (const { name, kinds, comment, recipients } of keys) {
    const notes = [comment, ...recipients].filter((note) => note !== null);
    fact(
      name === null ? "Recipients" : `Recipients of ${name}`,
      [kinds.join(", "), ...notes].join("; "),
    );
  }
  fact(
    "Signature",
    signer
      ? element("span", { className: "mono" }, `${signer.type} ${signer.fingerprint}`)
      : "none",
  );
  listed(list, files, ({ path, bytes }) => {
    const file = document.createDocumentFragment();
    file.append(element("dt", {}, path || "The model"), element("dd", {}, size(bytes)));
    return file;
  });
  const parts: Node[] = [element("h2", {}, "The model"), list];

  const types = element(
    "table",
    {},
    row("th", "Policy: operator", "tensors", "encrypted", "share"),
  );
  const byType = grouped(tensors, (tensor) => tensor.operators[0]?.opType ?? "no operator");
  listed(types, [...byType], ([type, own]) => {
    const encrypted = encryptedOf(own);
    return row("td", type, `${own.length}`, size(encrypted), share(encrypted, bytesOf(own)));
  });
  parts.push(element("br"), types);
  if (claims.size > 0) {
    const table = element("table", {}, row("th", "Claim", "value"));
    listed(table, [...claims], ([name, value]) => claim(name, value));
    parts.push(element("br"), table);
  }
  return parts;
}

export function row(cell: "th" | "td", ...values: string[]): HTMLTableRowElement {
  return element("tr", {}, ...values.map((value) => element(cell, {}, value)));
}

/** A claim. A date that is past, or yet to come, is red. */
function claim(name: string, value: string): HTMLTableRowElement {
  const drawn = row("td", name, value);
  if (brokenDate(new Map([[name, value]]), Date.now())) {
    drawn.className = "bad";
    drawn.lastElementChild!.append(name === "not-after" ? " (expired)" : " (not yet)");
  }
  return drawn;
}

/** A strip for each operator, and below it one for each of its tensors. */
export function operators(inspection: Inspection): Node[] {
  const groups = grouped(inspection.tensors, ({ operators: [first] }) =>
    JSON.stringify([first?.opType ?? "no operator", first?.node ?? ""]),
  );
  const editions = inspection.tiers.length > 0 ? ", lighter belongs to a higher tier" : "";
  const legend =
    "The tensors of each operator, as far as a part of them is encrypted. Blue is encrypted, " +
    `higher is denser${editions}.`;
  const list = element("div");
  listed(list, [...groups], ([name, tensors]) => {
    const [type, node] = JSON.parse(name) as [string, string];
    return operator(type, node, tensors);
  });
  return [
    element("h2", {}, "What is encrypted"),
    element("p", { className: "legend" }, legend),
    list,
  ];
}

function operator(type: string, node: string, tensors: TensorReport[]): Node {
  const details = element("details", { className: "operator" });
  const [only] = tensors;
  const shape = tensors.length === 1 ? shapeOf(only!) : `${tensors.length} tensors`;
  const title = [element("b", {}, type), " ", node, " ", element("small", {}, shape)];
  details.append(element("summary", {}, line(title, tensors)));
  // The strips of tensors are drawn once somebody looks.
  details.ontoggle = () => {
    if (details.childElementCount > 1) return;
    listed(details, tensors, (tensor) => {
      const drawn = line([tensor.name, " ", element("small", {}, shapeOf(tensor))], [tensor]);
      drawn.classList.add("tensor");
      return drawn;
    });
  };
  return details;
}

function shapeOf({ dataType, dims }: TensorReport): string {
  return `${dataType} [${dims.join(", ")}]`;
}

function line(name: (Node | string)[], tensors: TensorReport[]): HTMLElement {
  const part = share(encryptedOf(tensors), bytesOf(tensors));
  return element(
    "div",
    { className: "row" },
    element("span", {}, ...name, " ", element("small", {}, size(bytesOf(tensors)))),
    strip(tensors, `${part} encrypted`),
    element("span", { className: "share" }, part),
  );
}
