import { existsSync } from "node:fs";

const PROGRAMS = ["chromium", "chromium-browser", "google-chrome"].map(
  (name) => `/usr/bin/${name}`,
);
export const CHROMIUM = process.env.CHROMIUM ?? PROGRAMS.find(existsSync);

/** How long Chromium may take for anything, in milliseconds: machines that test are busy. */
const PATIENCE = 120_000;

/** Starts Chromium without a window. Root may not have its sandbox. */
export async function launch() {
  const { chromium } = await import("playwright-core");
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: CHROMIUM, args, timeout: PATIENCE });
}

/** Opens a page. */
export async function pageOf(browser, options) {
  const page = await browser.newPage(options);
  page.setDefaultTimeout(PATIENCE);
  return page;
}
