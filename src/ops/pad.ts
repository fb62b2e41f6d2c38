import { checkOptions } from "../graph/options.ts";
import { show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { cat, expand, narrow, pad as padConstant, slice } from "./movement.ts";

export interface PadOptions {
  /** "constant" (default); "reflect": mirrored without the edge; "replicate": the edge; "circular": from the other end. */
  mode?: "constant" | "reflect" | "replicate" | "circular";
  /** Of constant padding. Default 0. */
  value?: number;
}

/**
 * Pads the last dims. The list has torch's order: before and after of the last dim, then of the dim before it, and so on.
 * Negative amounts crop (constant mode).
 * @throws if a reflection needs more elements than a dim has besides its edge, or circular padding more than it has.
 * @example pad(x, [1, 1]); pad(x, [1, 1, 2, 0], { mode: "reflect" })
 */
export function pad(x: Tensor, pads: readonly number[], options: PadOptions = {}): Tensor {
  checkOptions("pad", options, ["mode", "value"]);
  const { mode = "constant", value = 0 } = options;
  if (!Array.isArray(pads))
    throw new TypeError(`pad: amounts must be a list of numbers, got ${typeof pads}: pad(x, [1, 1])`);
  if (pads.length % 2 !== 0 || pads.length > 2 * x.ndim || !pads.every(Number.isInteger))
    throw new RangeError(
      `pad: amounts ${show(pads)} for ${show(x.shape)}: expected whole numbers, before and after for at most ${x.ndim} dims, the last dim first`,
    );
  const perDim = x.shape.map((_, d): [number, number] => {
    const at = 2 * (x.ndim - 1 - d);
    return [pads[at] ?? 0, pads[at + 1] ?? 0];
  });
  if (mode === "constant") return padConstant(x, perDim, value);
  const mirrors = { reflect, replicate, circular };
  if (!(mode in mirrors))
    throw new Error(`pad: unknown mode ${mode}: expected constant, reflect, replicate or circular`);
  if (options.value !== undefined) throw new Error(`pad: mode ${mode} takes no value`);
  return perDim.reduce((t, [before, after], d) => {
    if (before === 0 && after === 0) return t;
    if (before < 0 || after < 0)
      throw new RangeError(
        `pad: ${before} and ${after} in mode ${mode} of ${show(x.shape)}: only constant padding crops`,
      );
    const most = { reflect: x.shape[d] - 1, circular: x.shape[d], replicate: x.shape[d] > 0 ? Infinity : 0 }[mode];
    if (Math.max(before, after) > most)
      throw new RangeError(
        `pad: ${before} and ${after} in mode ${mode} of dim ${d} of ${show(x.shape)}: expected at most ${most}`,
      );
    return cat(
      [mirrors[mode](t, d, before, true), t, mirrors[mode](t, d, after, false)].filter((p) => p.shape[d] > 0),
      d,
    );
  }, x);
}

/** `n` elements next to the first (or last) one, in reverse. */
function reflect(x: Tensor, d: number, n: number, first: boolean): Tensor {
  return narrow(x, d, first ? 1 : x.shape[d] - 1 - n, n).flip(d);
}

/** The first (or last) element n times. */
function replicate(x: Tensor, d: number, n: number, first: boolean): Tensor {
  const edge = slice(
    x,
    x.shape.map((m, i) => (i !== d ? [] : first ? [0, 1] : [m - 1, m])),
  );
  return expand(
    edge,
    x.shape.map((m, i) => (i === d ? n : m)),
  );
}

/** The last n elements, to go before the first one; or the first n, to go after the last. */
function circular(x: Tensor, d: number, n: number, first: boolean): Tensor {
  return narrow(x, d, first ? x.shape[d] - n : 0, n);
}
