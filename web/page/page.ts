import {
  inspect,
  NoMatchingKey,
  NotProtected,
  OnnxsealError,
  open,
  verify,
} from "../src/index.js";
import type { Inspection, OpenedModel, Verification, VerifyOptions } from "../src/index.js";
import { element, facts, operators, size } from "./report.js";
import { initializersOf, plainParts } from "./plain.js";
import { runner, sessionOf } from "./session.js";

const byId = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const drop = byId("drop");
const files = byId<HTMLInputElement>("files");
const verdict = byId("verdict");
const progress = byId<HTMLProgressElement>("progress");
const report = byId("report");
const plain = byId("plain");
const access = byId<HTMLFormElement>("access");
const sessionPart = byId("session");
const [identity, signers] = [
  byId<HTMLTextAreaElement>("identity"),
  byId<HTMLTextAreaElement>("allowed-signers"),
];
const passphrase = byId<HTMLInputElement>("passphrase");
const tierChoice = byId<HTMLSelectElement>("tier");
const buttons = [byId<HTMLButtonElement>("verify"), byId<HTMLButtonElement>("open")];

/** The dropped model, and every file that was dropped with it. */
let model: File | undefined;
let beside: File[] = [];
/** Its highest tier, which is the original. */
let original: string | undefined;
/** The button that was pressed last. */
let pressed = "verify";
/** What is done with them; ends when other files are given. */
let work = new AbortController();

const FAILURES: Record<string, string> = {
  malformed: "Malformed",
  authentication: "Changed since it was protected, or not by the signer",
  "no-matching-key": "No matching key",
  "not-in-force": "Not in force",
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
    say("plain", "Not protected", "Whoever has this file has its weights.");
  else if (error instanceof OnnxsealError) say("bad", FAILURES[error.kind]!, error.message);
  else say("bad", "Failed", String(error));
  if (error instanceof NoMatchingKey && error.opens !== undefined) offer(error.opens);
}

/** Offers the tier that a key opens, where another was asked for. */
function offer(tier: string): void {
  const label = `${pressed === "open" ? "Open" : "Verify"} ${tier} instead`;
  const button = element("button", { type: "button", id: "offer" }, label);
  button.onclick = () => {
    tierChoice.value = tier;
    access.requestSubmit(byId(pressed));
  };
  verdict.append(button);
}

/** Shows what a model has that nobody protected. */
async function showPlain(file: File, signal: AbortSignal): Promise<void> {
  const tensors = await initializersOf(file).catch(() => []);
  if (signal.aborted || tensors.length === 0) return;
  plain.replaceChildren(...plainParts(tensors, file.name));
  plain.hidden = false;
}

/** Shows the first protected model among files. The others are its external data. */
async function load(given: File[]): Promise<void> {
  work.abort();
  const { signal } = (work = new AbortController());
  report.hidden = true;
  plain.hidden = true;
  sessionPart.hidden = true;
  sessionPart.replaceChildren();
  model = undefined;
  let failure: unknown;
  let failed: File | undefined;
  for (const file of given) {
    try {
      const inspection = await inspect(file);
      if (signal.aborted) return;
      [model, beside] = [file, given.filter((other) => other !== file)];
      show(inspection);
      return;
    } catch (error) {
      if (failure === undefined || file.name.endsWith(".onnx")) [failure, failed] = [error, file];
    }
  }
  if (failure === undefined || signal.aborted) return;
  fail(failure);
  if (failure instanceof NotProtected) await showPlain(failed!, signal);
}

function show(inspection: Inspection): void {
  byId("facts").replaceChildren(...facts(inspection));
  byId("operators").replaceChildren(...operators(inspection));
  original = inspection.tiers.at(-1);
  const choices = inspection.tiers
    .slice(0, -1)
    .map((name) => element("option", { value: name }, name))
    .reverse();
  const highest = original === undefined ? "the only one" : `the original (${original})`;
  tierChoice.replaceChildren(element("option", { value: "" }, highest), ...choices);
  tierChoice.disabled = choices.length === 0;
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
    tier: tierChoice.value || undefined,
    allowedSigners: lines.length > 0 ? lines : undefined,
    signal: work.signal,
    licence: () => beside.find((file) => file.name.endsWith(".licence")),
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

function tierText(tier: string | null): string {
  if (tier === null) return "";
  return tier === original ? ` of the original (${tier})` : ` of the tier ${tier}`;
}

async function check(): Promise<() => void> {
  const started = performance.now();
  const found = await verify(model!, options());
  const all = found.files.reduce((sum, { bytes }) => sum + bytes, 0);
  const paced = pace(all, started);
  const bad = found.signature?.holds === false || found.notInForce ? "bad" : undefined;
  const lines = [signature(found)];
  if (found.notInForce) lines.push(`NOT IN FORCE by ${found.notInForce}: it does not open now.`);
  if (!found.authenticated)
    return () => say(bad ?? "plain", "Well-formed; no key was given", ...lines);
  const which = tierText(found.tier);
  const title = `Verified: every byte${which} is as it was protected`;
  return () => say(bad ?? "good", title, ...lines, paced);
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
    const which = tierText(opened.tier);
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
  pressed = event.submitter?.id === "open" ? "open" : "verify";
  void busy(pressed === "open" ? run : check);
};
