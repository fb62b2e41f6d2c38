import { checkOptions } from "../graph/options.ts";
import { sameShape, show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { full } from "./constant.ts";
import { where } from "./elementwise.ts";
import { checkIndex } from "./indexing.ts";
import { scatterReduce } from "./scatter.ts";

export interface EmbeddingOptions {
  /** This row gets no gradient. Negative counts from the end. */
  paddingIdx?: number;
}

/**
 * Rows of weight [V, D] selected by integer ids [...]: -> [..., D]. The weight's gradient accumulates repeated ids.
 * @throws if an id on the host is outside [0, V).
 */
export function embedding(ids: Tensor, weight: Tensor, options: EmbeddingOptions = {}): Tensor {
  checkOptions("embedding", options, ["paddingIdx"]);
  if (weight.ndim !== 2) throw new Error(`embedding: weight must be [V, D], got ${show(weight.shape)}`);
  checkIndex("embedding", ids, weight.shape[0]);
  const rows = weight.indexSelect(0, ids.reshape([-1])).reshape([...ids.shape, weight.shape[1]]);
  if (options.paddingIdx === undefined) return rows;
  const padding = row("embedding", "paddingIdx", options.paddingIdx, weight);
  return where(ids.eq(padding).unsqueeze(-1), rows.detach(), rows);
}

/** A row number of [0, V), negative ones counted from the end. */
function row(op: string, name: string, i: number, weight: Tensor): number {
  const V = weight.shape[0];
  if (!Number.isInteger(i) || i < -V || i >= V)
    throw new RangeError(`${op}: ${name} ${i} is not a row of ${show(weight.shape)}: expected ${-V} to ${V - 1}`);
  return i < 0 ? i + V : i;
}

export interface EmbeddingBagOptions {
  /** i32 [B]: where each bag starts in the 1-D ids. The first is 0. */
  offsets?: Tensor;
  /** Default "mean". An empty bag gives 0. */
  mode?: "sum" | "mean" | "max";
  /** Factors of the rows, shaped as ids; with mode sum only. */
  perSampleWeights?: Tensor;
  /** Rows of this id are left out, also from the mean. Negative counts from the end. */
  paddingIdx?: number;
  /** `offsets` is [B + 1]; the last one is where the last bag ends. Default false. */
  includeLastOffset?: boolean;
}

const BAG = ["offsets", "mode", "perSampleWeights", "paddingIdx", "includeLastOffset"];

/**
 * Sum, mean or maximum of the rows of each bag, from weight [V, D]: ids [B, L] (a bag a row), or [n] with `offsets` -> [B, D].
 * @throws if an id on the host is outside [0, V), or options contradict the shape of ids.
 * @example embeddingBag(ids, weight, { offsets: tensor([0, 3], { dtype: "i32" }), mode: "sum" })
 */
export function embeddingBag(ids: Tensor, weight: Tensor, options: EmbeddingBagOptions = {}): Tensor {
  checkOptions("embeddingBag", options, BAG);
  const { offsets, mode = "mean", perSampleWeights: factors, paddingIdx, includeLastOffset = false } = options;
  checkBags(ids, weight, options);
  const rows = embedding(ids, weight); // [..., D]
  const weighted = factors ? rows.mul(factors.unsqueeze(-1)) : rows;
  const padding = paddingIdx === undefined ? undefined : row("embeddingBag", "paddingIdx", paddingIdx, weight);
  const used = padding === undefined ? undefined : ids.ne(padding);
  if (mode === "max") return largest(weighted, used, offsets, includeLastOffset);
  const shown = used ? where(used.unsqueeze(-1), weighted, 0) : weighted;
  const sum = overBags(shown, offsets, includeLastOffset);
  if (mode === "sum") return sum;
  const ones = used ? used.to("f32") : full(ids.shape, 1);
  return sum.div(overBags(ones.unsqueeze(-1), offsets, includeLastOffset).clamp({ min: 1 }));
}

function checkBags(ids: Tensor, weight: Tensor, options: EmbeddingBagOptions): void {
  const { offsets, mode = "mean", perSampleWeights: factors, includeLastOffset } = options;
  if (!["sum", "mean", "max"].includes(mode))
    throw new Error(`embeddingBag: unknown mode ${mode}: expected sum, mean or max`);
  if (weight.ndim !== 2) throw new Error(`embeddingBag: weight must be [V, D], got ${show(weight.shape)}`);
  const fits = offsets ? ids.ndim === 1 && offsets.ndim === 1 : ids.ndim === 2;
  if (!fits)
    throw new Error(
      `embeddingBag: ids ${show(ids.shape)} and offsets ${offsets ? show(offsets.shape) : "none"}: expected ids [B, L], or ids [n] with offsets [B]`,
    );
  if (includeLastOffset && !offsets) throw new Error("embeddingBag: includeLastOffset needs offsets");
  if (offsets) {
    checkIndex("embeddingBag", offsets, ids.shape[0] + 1);
    const host = offsets.node.host;
    if (host?.length && host[0] !== 0)
      throw new RangeError(`embeddingBag: offsets start at ${host[0]}: the first bag starts at 0`);
  }
  if (factors && (mode !== "sum" || !sameShape(factors.shape, ids.shape)))
    throw new Error(
      `embeddingBag: perSampleWeights ${show(factors.shape)} with mode ${mode}: expected the shape of ids ${show(ids.shape)}, and mode sum`,
    );
}

/** The bag of each of `n` ids: the number of bags that start at or before it, less one. */
const bagsOf = (n: number, offsets: Tensor): Tensor =>
  full([n + 1], 0, "i32")
    .indexAdd(0, offsets, full(offsets.shape, 1, "i32"))
    .cumsum(0)
    .narrow(0, 0, n)
    .sub(1);

/** Sums of rows [B, L, D], or [n, D] with offsets, over each bag: [B, D]. */
function overBags(rows: Tensor, offsets: Tensor | undefined, last: boolean): Tensor {
  if (!offsets) return rows.sum(1);
  const [n, D] = rows.shape;
  const count = offsets.shape[0];
  const sums = full([count, D], 0, rows.dtype).indexAdd(0, bagsOf(n, offsets), rows);
  return last ? sums.narrow(0, 0, count - 1) : sums;
}

function largest(rows: Tensor, used: Tensor | undefined, offsets: Tensor | undefined, last: boolean): Tensor {
  const shown = used ? where(used.unsqueeze(-1), rows, -Infinity) : rows;
  if (!offsets) {
    const { values } = shown.max(1);
    return used ? where(used.sum(1, true).gt(0), values, 0) : values;
  }
  const [n, D] = rows.shape;
  const count = offsets.shape[0];
  const bags = bagsOf(n, offsets).unsqueeze(-1).expand([n, D]);
  const found = scatterReduce(full([count, D], 0, rows.dtype), 0, bags, shown, "amax", { includeSelf: false });
  const known = used ? where(found.eq(-Infinity), 0, found) : found; // only padding
  return last ? known.narrow(0, 0, count - 1) : known;
}
