import type { TensorReport } from "../src/index.js";

const SVG = "http://www.w3.org/2000/svg";
const COLUMNS = 240;

/** How much of each column of a strip is encrypted, from 0 to 1. */
function coverage(tensors: TensorReport[], tier: number): Float64Array {
  const columns = new Float64Array(COLUMNS);
  const total = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0) || 1;
  let before = 0;
  for (const tensor of tensors) {
    const scale = ((tensor.bytes / total) * COLUMNS) / tensor.n;
    const from = (before / total) * COLUMNS;
    const runs = tensor.targets[tier] ?? [];
    for (let i = 0; i < runs.length; i += 2) {
      const [start, end] = [from + runs[i]! * scale, from + runs[i + 1]! * scale];
      for (let column = Math.floor(start); column < Math.min(end, COLUMNS); column++) {
        columns[column]! += Math.min(end, column + 1) - Math.max(start, column);
      }
    }
    before += tensor.bytes;
  }
  return columns;
}

/** Draws where tensors, side by side, are encrypted, and how densely. Tiers stand on each other. */
export function strip(tensors: TensorReport[], label: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "strip");
  svg.setAttribute("viewBox", `0 0 ${COLUMNS} 1`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const filled = new Float64Array(COLUMNS);
  for (let tier = 0; tier < (tensors[0]?.targets.length ?? 0); tier++) {
    let path = "";
    coverage(tensors, tier).forEach((height, column) => {
      if (height === 0) return;
      // At least a line that can be seen.
      const drawn = Math.min(1 - filled[column]!, Math.max(height, 0.12));
      filled[column]! += drawn;
      path += `M${column} ${1 - filled[column]!}h1v${drawn}h-1z`;
    });
    const drawing = document.createElementNS(SVG, "path");
    drawing.setAttribute("class", `t${Math.min(tier, 2)}`);
    drawing.setAttribute("d", path);
    svg.append(drawing);
  }
  return svg;
}
