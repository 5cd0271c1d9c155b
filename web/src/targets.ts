import { ascii, base64 } from "./bytes.js";
import { need } from "./errors.js";
import { minimal } from "./wire.js";

/** Runs of subsequences: the first of each, and the one after its last, flat. */
export type Runs = Float64Array;

/** Decodes a string of `targets`, of a tensor with `n` subsequences. */
export function parseTargets(text: string, n: number): Runs {
  const data = base64(ascii(text), "targets");
  const numbers: number[] = [];
  for (let at = 0; at < data.length; ) {
    const number = minimal(data, at, data.length, 9);
    numbers.push(number.value);
    at = number.end;
  }
  need(numbers.length % 2 === 0, "targets end with a skip");
  const runs = new Float64Array(numbers.length);
  let place = 0;
  for (let i = 0; i < numbers.length; i += 2) {
    const skip = numbers[i]!;
    const take = numbers[i + 1]!;
    need(take > 0 && (skip > 0 || i === 0), "targets have an empty run");
    runs[i] = place + skip;
    place = runs[i]! + take;
    need(place <= n, "targets exceed the tensor");
    runs[i + 1] = place;
  }
  return runs;
}
