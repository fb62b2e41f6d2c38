import { isFloat } from "../graph/dtype.ts";
import { checkOptions } from "../graph/options.ts";
import { sameShape, show } from "../graph/shape.ts";
import { arange, dropout, linear, scaledDotProductAttention } from "../ops/functional.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { checkProbability, checkSizes } from "./check.ts";
import { constant, xavierUniform } from "./init.ts";
import { Linear } from "./layers.ts";
import { Module } from "./module.ts";
import { inDtypeOf } from "./precision.ts";

export interface MultiheadAttentionOptions {
  /** Probability of dropout on the attention weights, in training. Default 0. */
  dropout?: number;
  /** Default true. */
  bias?: boolean;
  /** Size of the keys' inputs. Default: embedDim. */
  kdim?: number;
  /** Size of the values' inputs. Default: embedDim. */
  vdim?: number;
  /** Inputs and outputs are [N, L, E] instead of [L, N, E]. Default false. */
  batchFirst?: boolean;
}

export interface AttendOptions {
  /** bool [N, S], true where a key is padding; or float, added to the scores. [S] without a batch. */
  keyPaddingMask?: Tensor;
  /**
   * bool [L, S] or [N · heads, L, S] (sample-major), true where a query must NOT see a key: the opposite of
   * `scaledDotProductAttention`, as in torch. Or float, added to the scores.
   */
  attnMask?: Tensor;
  /** A query sees no key after its own. Needs no mask. Default false. */
  isCausal?: boolean;
  /** Default true. The weights are lazy: they cost nothing until they are read. */
  needWeights?: boolean;
  /** The mean of the weights over the heads, or the weights of each head. Default true. */
  averageAttnWeights?: boolean;
}

const ATTEND = ["keyPaddingMask", "attnMask", "isCausal", "needWeights", "averageAttnWeights"];

/** Keys that a query may see, and numbers added to its scores. Both broadcast to [N, heads, L, S]. */
interface Modifiers {
  mask?: Tensor;
  bias?: Tensor;
}

/**
 * Attention with several heads and learnt projections (arXiv 1706.03762). `in_proj_weight` [3E, E] holds the projections of
 * queries, keys and values; with another `kdim` or `vdim` there are `q_proj_weight`, `k_proj_weight` and `v_proj_weight`.
 * @example const [out, weights] = new MultiheadAttention(64, 4, { batchFirst: true }).forward(rand(2, 5, 64))
 */
export class MultiheadAttention extends Module {
  in_proj_weight?: Tensor; // [3E, E]
  q_proj_weight?: Tensor; // [E, E]
  k_proj_weight?: Tensor; // [E, kdim]
  v_proj_weight?: Tensor; // [E, vdim]
  in_proj_bias?: Tensor; // [3E]
  out_proj: Linear;
  readonly dropout: number;
  readonly batchFirst: boolean;
  readonly kdim: number;
  readonly vdim: number;

  constructor(
    readonly embedDim: number,
    readonly numHeads: number,
    options: MultiheadAttentionOptions = {},
  ) {
    super();
    checkOptions("MultiheadAttention", options, ["dropout", "bias", "kdim", "vdim", "batchFirst"]);
    const { dropout = 0, bias = true, kdim = embedDim, vdim = embedDim, batchFirst = false } = options;
    checkSizes("MultiheadAttention", { embedDim, numHeads, kdim, vdim });
    checkProbability("MultiheadAttention", "dropout", dropout);
    if (embedDim % numHeads)
      throw new RangeError(`MultiheadAttention: numHeads must divide embedDim ${embedDim}, got ${numHeads}`);
    this.dropout = dropout;
    this.batchFirst = batchFirst;
    this.kdim = kdim;
    this.vdim = vdim;
    if (kdim === embedDim && vdim === embedDim) this.in_proj_weight = xavierUniform([3 * embedDim, embedDim]);
    else {
      this.q_proj_weight = xavierUniform([embedDim, embedDim]);
      this.k_proj_weight = xavierUniform([embedDim, kdim]);
      this.v_proj_weight = xavierUniform([embedDim, vdim]);
    }
    if (bias) this.in_proj_bias = constant([3 * embedDim], 0);
    this.out_proj = new Linear(embedDim, embedDim, { bias });
    if (this.out_proj.bias) constant(this.out_proj.bias, 0);
  }

  /**
   * query [N, L, E], key [N, S, kdim] and value [N, S, vdim] ([L, N, E] unless batchFirst; all may be without N) -> the result,
   * shaped as query, and the weights [N, L, S] (with averageAttnWeights false [N, heads, L, S]). Key and value default to the
   * query.
   * @throws if shapes, dtypes of masks or names of options do not fit.
   */
  forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: AttendOptions & { needWeights: false },
  ): [out: Tensor, weights: undefined];
  forward(query: Tensor, key?: Tensor, value?: Tensor, options?: AttendOptions): [out: Tensor, weights: Tensor];
  forward(
    query: Tensor,
    key: Tensor = query,
    value: Tensor = key,
    options: AttendOptions = {},
  ): [out: Tensor, weights: Tensor | undefined] {
    checkOptions("MultiheadAttention.forward", options, ATTEND);
    const { isCausal = false, needWeights = true, averageAttnWeights = true } = options;
    this.#checkInputs(query, key, value);
    const batched = query.ndim === 3;
    const [q, k, v] = this.#project(query, key, value).map((x) => this.#heads(x)); // [N, heads, L, D]
    const modifiers = this.#modifiers(options, q, k);

    const drops = this.training && this.dropout > 0;
    const explicit = needWeights || drops ? attentionWeights(q, k, modifiers, isCausal) : undefined;
    const weights = explicit && drops ? dropout(explicit, this.dropout) : explicit;
    const mixed = drops ? weights!.matmul(v) : scaledDotProductAttention(q, k, v, { ...modifiers, isCausal });
    const out = this.out_proj.forward(this.#joined(mixed, batched));
    if (!needWeights) return [out, undefined];
    const shown = averageAttnWeights ? weights!.mean(1) : weights!;
    return [out, batched ? shown : shown.squeeze(0)];
  }

  #checkInputs(query: Tensor, key: Tensor, value: Tensor): void {
    const { embedDim, kdim, vdim, batchFirst } = this;
    const batchDim = batchFirst ? 0 : 1;
    const lengthDim = query.ndim === 3 && batchFirst ? 1 : 0;
    const fits =
      (query.ndim === 2 || query.ndim === 3) &&
      [key, value].every((x) => x.ndim === query.ndim && x.shape[lengthDim] === key.shape[lengthDim]) &&
      [key, value].every((x) => query.ndim === 2 || x.shape[batchDim] === query.shape[batchDim]) &&
      [query, key, value].every((x, i) => x.shape[x.ndim - 1] === [embedDim, kdim, vdim][i]);
    if (fits) return;
    const layout = (length: string, size: number): string =>
      batchFirst ? `[N, ${length}, ${size}]` : `[${length}, N, ${size}]`;
    throw new Error(
      `MultiheadAttention: query ${show(query.shape)}, key ${show(key.shape)} and value ${show(value.shape)} do not fit: expected ${layout("L", embedDim)}, ${layout("S", kdim)} and ${layout("S", vdim)}, or all without N`,
    );
  }

  /** Queries, keys and values. Inputs that are the same tensor share a matrix product. */
  #project(query: Tensor, key: Tensor, value: Tensor): Tensor[] {
    const E = this.embedDim;
    const bias = (start: number, size: number): Tensor | undefined =>
      this.in_proj_bias && inDtypeOf(query, this.in_proj_bias.narrow(0, start * E, size * E));
    const { in_proj_weight: whole } = this;
    if (!whole) {
      const own = [this.q_proj_weight!, this.k_proj_weight!, this.v_proj_weight!];
      return [query, key, value].map((x, i) => linear(x, inDtypeOf(x, own[i]), bias(i, 1)));
    }
    const part = (x: Tensor, start: number, size: number): Tensor[] => {
      const weight = size === 3 ? whole : whole.narrow(0, start * E, size * E);
      return linear(x, inDtypeOf(x, weight), bias(start, size)).chunk(size, -1);
    };
    if (query === key && key === value) return part(query, 0, 3);
    if (key === value) return [...part(query, 0, 1), ...part(key, 1, 2)];
    return [query, key, value].flatMap((x, i) => part(x, i, 1));
  }

  /** [N, L, E] or [L, N, E] or [L, E] as [N, heads, L, D]. */
  #heads(x: Tensor): Tensor {
    const split = x.reshape([...x.shape.slice(0, -1), this.numHeads, this.embedDim / this.numHeads]);
    if (x.ndim === 2) return split.transpose(0, 1).unsqueeze(0);
    return this.batchFirst ? split.transpose(1, 2) : split.permute([1, 2, 0, 3]);
  }

  /** [N, heads, L, D] in the layout of the query. */
  #joined(x: Tensor, batched: boolean): Tensor {
    const [N, , L] = x.shape;
    const E = this.embedDim;
    if (!batched) return x.squeeze(0).transpose(0, 1).reshape([L, E]);
    return this.batchFirst ? x.transpose(1, 2).reshape([N, L, E]) : x.permute([2, 0, 1, 3]).reshape([L, N, E]);
  }

  #modifiers({ attnMask, keyPaddingMask }: AttendOptions, q: Tensor, k: Tensor): Modifiers {
    const [N, H, L] = q.shape;
    const S = k.shape[2];
    const fail = (name: string, { shape }: Tensor, expected: string): never => {
      throw new Error(`MultiheadAttention: ${name} ${show(shape)} does not fit: expected ${expected}`);
    };
    const masks: Tensor[] = [];
    if (attnMask) {
      if (sameShape(attnMask.shape, [L, S])) masks.push(attnMask.reshape([1, 1, L, S]));
      else if (sameShape(attnMask.shape, [N * H, L, S])) masks.push(attnMask.reshape([N, H, L, S]));
      else fail("attnMask", attnMask, `${show([L, S])} or ${show([N * H, L, S])}`);
    }
    if (keyPaddingMask) {
      if (keyPaddingMask.numel !== N * S || keyPaddingMask.shape[keyPaddingMask.ndim - 1] !== S)
        fail("keyPaddingMask", keyPaddingMask, show([N, S]));
      masks.push(keyPaddingMask.reshape([N, 1, 1, S]));
    }
    const wrong = masks.find((x) => x.dtype !== "bool" && !isFloat(x.dtype));
    if (wrong)
      throw new TypeError(`MultiheadAttention: masks must be bool (true hides a key) or float, got ${wrong.dtype}`);
    const hidden = masks.filter((x) => x.dtype === "bool");
    const added = masks.filter((x) => x.dtype !== "bool");
    return {
      ...(hidden.length && { mask: hidden.reduce((a, b) => a.logicalOr(b)).logicalNot() }),
      ...(added.length && { bias: added.reduce((a, b) => a.add(b)) }),
    };
  }
}

/** softmax(q kᵀ / √D + bias): [N, heads, L, S]. */
function attentionWeights(q: Tensor, k: Tensor, { mask, bias }: Modifiers, isCausal: boolean): Tensor {
  const product = q.matmul(k.transpose(-1, -2)).mul(1 / Math.sqrt(q.shape[3]));
  const scores = bias ? product.add(bias) : product;
  const shown = mask ? scores.maskedFill(mask.logicalNot(), -Infinity) : scores;
  if (!isCausal) return shown.softmax(-1);
  const later = arange(k.shape[2]).gt(arange(q.shape[2]).unsqueeze(1)); // [L, S]
  return shown.maskedFill(later, -Infinity).softmax(-1);
}
