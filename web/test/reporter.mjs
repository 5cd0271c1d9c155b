// Prints what failed or was skipped, and how many tests there were.

export default async function* report(events) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for await (const { type, data } of events) {
    if (type === "test:fail") {
      // A file fails if a test in it does.
      if (data.details.error?.failureType === "subtestsFailed") continue;
      counts.failed++;
      yield `failed: ${data.name}\n${data.details.error?.cause?.stack ?? data.details.error}\n`;
    } else if (type === "test:pass" && data.skip) {
      counts.skipped++;
      yield `skipped: ${data.name}: ${data.skip}\n`;
    } else if (type === "test:pass") {
      counts.passed++;
    } else if (type === "test:diagnostic" && data.message.startsWith("figure: ")) {
      yield `${data.message}\n`;
    }
  }
  yield `${Object.entries(counts)
    .map(([what, count]) => `${count} ${what}`)
    .join(", ")}\n`;
}
