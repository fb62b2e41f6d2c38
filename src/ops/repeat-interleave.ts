import { normalizeDim, show } from "../graph/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { onHost } from "./host.ts";
import { tensor } from "./leaf.ts";
import { expand, reshape, unsqueeze } from "./movement.ts";

/**
 * Repeats each slice of `dim` in a row: all `repeats` times, or slice i repeats[i] times. Without `dim`, repeats the flattened
 * elements. Numbers in a tensor must be on the host, because they decide the shape.
 */
export function repeatInterleave(x: Tensor, repeats: number | readonly number[] | Tensor, dim?: number): Tensor {
  const flat = dim === undefined ? reshape(x, [-1]) : x;
  const d = normalizeDim("repeatInterleave", dim ?? 0, flat.ndim);
  if (flat.ndim === 0) throw new Error("repeatInterleave: a scalar has no dims: leave out the dim");
  const size = flat.shape[d];
  const counts = typeof repeats === "number" ? [repeats] : countsOf(repeats);
  const shown = repeats instanceof Tensor ? show(repeats.shape) : show(counts);
  if ((counts.length !== 1 && counts.length !== size) || !counts.every((n) => Number.isInteger(n) && n >= 0))
    throw new RangeError(
      `repeatInterleave: ${shown} repeats for dim ${dim ?? 0} of ${show(flat.shape)}: expected one whole number, or ${size} of them`,
    );
  if (counts.length === 1) return repeatAll(flat, counts[0], d);
  const rows = Int32Array.from(counts.flatMap((n, i) => new Array<number>(n).fill(i)));
  return flat.indexSelect(d, tensor(rows));
}

const countsOf = (repeats: readonly number[] | Tensor): readonly number[] =>
  repeats instanceof Tensor ? Array.from(onHost("repeatInterleave", "repeats", repeats)) : repeats;

/** Each slice of `d` n times in a row: a view. */
function repeatAll(x: Tensor, n: number, d: number): Tensor {
  const repeated = expand(unsqueeze(x, d + 1), [...x.shape.slice(0, d + 1), n, ...x.shape.slice(d + 1)]);
  return reshape(
    repeated,
    x.shape.map((m, i) => (i === d ? m * n : m)),
  );
}
