import { inspect, NotProtected, OnnxsealError, open, verify } from "../src/index.js";
import type { Inspection, OpenedModel, Verification, VerifyOptions } from "../src/index.js";
import { element, facts, operators, size } from "./report.js";
import { runner, sessionOf } from "./session.js";

const byId = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const drop = byId("drop");
const files = byId<HTMLInputElement>("files");
const verdict = byId("verdict");
const progress = byId<HTMLProgressElement>("progress");
const report = byId("report");
const access = byId<HTMLFormElement>("access");
const sessionPart = byId("session");
const [identity, signers] = [
  byId<HTMLTextAreaElement>("identity"),
  byId<HTMLTextAreaElement>("signers"),
];
const passphrase = byId<HTMLInputElement>("passphrase");
const edition = byId<HTMLSelectElement>("edition");
const buttons = [byId<HTMLButtonElement>("verify"), byId<HTMLButtonElement>("open")];

/** The dropped model, and every file that was dropped with it. */
let model: File | undefined;
let beside: File[] = [];
/** What is done with them; ends when other files are given. */
let work = new AbortController();

const FAILURES: Record<string, string> = {
  malformed: "Malformed",
  authentication: "Changed since it was protected, or not by the signer",
  "no-matching-key": "No matching key",
  policy: "Not what was asked for",
  usage: "Not possible",
  io: "Cannot be read",
};

function say(kind: "good" | "bad" | "plain", title: string, ...lines: string[]): void {
  verdict.className = kind;
  verdict.hidden = false;
  verdict.replaceChildren(
    element("strong", {}, title),
    ...lines.map((line) => element("div", {}, line)),
  );
}

function fail(error: unknown): void {
  if (error instanceof NotProtected)
    say("plain", "Not protected", "This is a model that onnxseal did not protect.");
  else if (error instanceof OnnxsealError) say("bad", FAILURES[error.kind]!, error.message);
  else say("bad", "Failed", String(error));
}

/** Shows the first protected model among files. The others are its external data. */
async function load(given: File[]): Promise<void> {
  work.abort();
  const { signal } = (work = new AbortController());
  report.hidden = true;
  sessionPart.hidden = true;
  sessionPart.replaceChildren();
  model = undefined;
  let failure: unknown;
  for (const file of given) {
    try {
      const inspection = await inspect(file);
      if (signal.aborted) return;
      [model, beside] = [file, given.filter((other) => other !== file)];
      show(inspection);
      return;
    } catch (error) {
      if (failure === undefined || file.name.endsWith(".onnx")) failure = error;
    }
  }
  if (failure !== undefined && !signal.aborted) fail(failure);
}

function show(inspection: Inspection): void {
  byId("facts").replaceChildren(...facts(inspection));
  byId("operators").replaceChildren(...operators(inspection));
  const choices = inspection.tiers
    .map((name) => element("option", { value: name }, name))
    .reverse();
  edition.replaceChildren(
    element("option", { value: "" }, inspection.tiers.length > 0 ? "the original" : "the only one"),
    ...choices,
  );
  edition.disabled = choices.length === 0;
  report.hidden = false;
  say(
    "plain",
    `${model!.name}: well-formed, not verified`,
    "Without a key this is what the file says of itself. Give an identity to check every byte.",
  );
}

function options(): VerifyOptions {
  const lines = signers.value.split("\n").filter((line) => line.trim());
  progress.hidden = false;
  progress.removeAttribute("value");
  return {
    identities: identity.value.trim() ? [identity.value] : undefined,
    passphrase: passphrase.value || undefined,
    edition: edition.value || undefined,
    signers: lines.length > 0 ? lines : undefined,
    signal: work.signal,
    external: (path) =>
      beside.find((file) => file.webkitRelativePath.endsWith(`/${path}`)) ??
      beside.find((file) => file.name === path.split("/").at(-1)),
    onProgress: ({ done, total }) => {
      if (total !== undefined) progress.value = total === 0 ? 1 : done / total;
    },
  };
}

/**
 * Runs a task with the buttons off, and tells how it ended: what a task returns says so. Once other
 * files are shown, nothing is said of these.
 */
async function busy(task: () => Promise<() => void>): Promise<void> {
  const { signal } = work;
  for (const button of buttons) button.disabled = true;
  sessionPart.hidden = true;
  try {
    const tell = await task();
    if (!signal.aborted) tell();
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
  progress.hidden = true;
  for (const button of buttons) button.disabled = false;
}

function signature({ signature }: Verification): string {
  if (!signature) return "It has no signature.";
  if (!signature.key) return "Its signature cannot be read.";
  const outcome = signature.holds ? "holds" : "DOES NOT HOLD";
  return `Its signature by ${signature.key.fingerprint} ${outcome}.`;
}

/** How long it took to get through so many bytes. */
function pace(bytes: number, started: number): string {
  const seconds = (performance.now() - started) / 1000;
  const rate = bytes < 1e7 ? "" : `, ${(bytes / 1e9 / seconds).toFixed(2)} GB/s`;
  return `${size(bytes)} in ${seconds.toFixed(2)} s${rate}.`;
}

async function check(): Promise<() => void> {
  const started = performance.now();
  const found = await verify(model!, options());
  const all = found.files.reduce((sum, { bytes }) => sum + bytes, 0);
  const paced = pace(all, started);
  const bad = found.signature?.holds === false ? "bad" : undefined;
  if (!found.authenticated)
    return () => say(bad ?? "plain", "Well-formed; no key was given", signature(found));
  const which = found.edition === null ? "" : ` of the edition ${found.edition}`;
  const title = `Verified: every byte${which} is as it was protected`;
  return () => say(bad ?? "good", title, signature(found), paced);
}

async function run(): Promise<() => void> {
  let opened: OpenedModel | undefined;
  try {
    const started = performance.now();
    opened = await open(model!, options());
    const bytes =
      opened.model.length + opened.externalData.reduce((sum, { data }) => sum + data.length, 0);
    const paced = pace(bytes, started);
    const session = await sessionOf(opened);
    const parts = runner(session);
    const which = opened.edition === null ? "" : ` of the edition ${opened.edition}`;
    return () => {
      sessionPart.replaceChildren(...parts);
      sessionPart.hidden = false;
      say("good", `Opened in memory: every byte${which} is authentic`, paced);
    };
  } finally {
    opened?.wipe();
  }
}

files.onchange = () => void load([...(files.files ?? [])]);
drop.ondragover = (event) => {
  event.preventDefault();
  drop.classList.add("over");
};
drop.ondragleave = () => drop.classList.remove("over");
drop.ondrop = (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  void load([...(event.dataTransfer?.files ?? [])]);
};
access.onsubmit = (event) => {
  event.preventDefault();
  void busy((event.submitter as HTMLElement | null)?.id === "open" ? run : check);
};
