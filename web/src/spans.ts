/** Ranges `[starts[i], ends[i])`, ascending and apart. */
export interface Spans {
  starts: Float64Array;
  ends: Float64Array;
}

/** Says whether two of the ranges share a byte. Sorts both arrays. */
export function overlap(starts: Float64Array, ends: Float64Array): boolean {
  starts.sort();
  ends.sort();
  for (let i = 1; i < starts.length; i++) if (starts[i]! < ends[i - 1]!) return true;
  return false;
}

/**
 * Gives the union of ranges. It sorts both arrays and sweeps over them: a range of the union ends
 * where as many ranges have ended as have begun.
 */
export function union(starts: Float64Array, ends: Float64Array): Spans {
  starts.sort();
  ends.sort();
  let count = 0;
  let begin = starts[0]!;
  for (let i = 0; i < starts.length; i++) {
    if (i + 1 < starts.length && starts[i + 1]! <= ends[i]!) continue;
    starts[count] = begin;
    ends[count++] = ends[i]!;
    begin = starts[i + 1]!;
  }
  return { starts: starts.subarray(0, count), ends: ends.subarray(0, count) };
}

/** The first index from `from` on at which ascending numbers exceed a value. */
export function firstAbove(numbers: Float64Array, value: number, from = 0): number {
  let low = from;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numbers[middle]! > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Cuts spans to `[low, high)`: start and end of each part, flat. */
export function within(spans: Spans, low: number, high: number): number[] {
  const parts: number[] = [];
  for (
    let i = firstAbove(spans.ends, low);
    i < spans.starts.length && spans.starts[i]! < high;
    i++
  ) {
    parts.push(Math.max(low, spans.starts[i]!), Math.min(high, spans.ends[i]!));
  }
  return parts;
}
