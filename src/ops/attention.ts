import { isGradEnabled } from "../autograd.ts";
import { isFloat } from "../dtype.ts";
import type { Node } from "../node.ts";
import { broadcastShapes, sameShape, show } from "../shape.ts";
import { applyMany, type Tensor } from "../tensor.ts";
import { defineOp } from "./define.ts";
import { where } from "./elementwise.ts";
import { lowerAttention, lowerAttentionBackward } from "./lower/attention.ts";
import { cat, expand } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";

export interface AttentionAttrs extends Record<string, unknown> {
  scale: number;
  /** Which keys a query sees: all; those up to its own index; or, aligned at the ends, up to its index + S - T. */
  causal: "none" | "top-left" | "bottom-right";
  hasMask: boolean;
  hasBias: boolean;
  hasLengths: boolean;
}

/** Scores of keys that a query may not see; finite, so that a query without any key gives zeros, not NaN. */
const HIDDEN = -1e30;

/** The optional sources, which follow the fixed ones in this order. */
function optional(rest: readonly Tensor[], { hasMask, hasBias, hasLengths }: AttentionAttrs) {
  const queue = [...rest];
  const next = (has: boolean): Tensor | undefined => (has ? queue.shift() : undefined);
  return { mask: next(hasMask), bias: next(hasBias), lengths: next(hasLengths) };
}

/** Splits the query heads into those of each key head: [B, H, T, D] -> [B, Hkv, H / Hkv, T, D]. */
const grouped = (x: Tensor, heads: number): Tensor =>
  x.reshape([x.shape[0], heads, x.shape[1] / heads, x.shape[2], x.shape[3]]);

/** Attention weights [B, H, T, S], zero where hidden, and of each row the largest score in base 2 and 1 / sum. */
function weights(q: Tensor, k: Tensor, rest: readonly Tensor[], attrs: AttentionAttrs): { p: Tensor; stats: Tensor } {
  const { mask, bias, lengths } = optional(rest, attrs);
  const [B, H, T] = q.shape;
  const [heads, S] = [k.shape[1], k.shape[2]];
  const product = grouped(q, heads).matmul(k.unsqueeze(2).transpose(-1, -2)).reshape([B, H, T, S]);
  const scores = bias ? product.mul(attrs.scale).add(bias) : product.mul(attrs.scale);
  const allowed = visible(T, S, attrs, mask, lengths);
  const seen = allowed ? where(allowed, scores, HIDDEN) : scores;
  const top = seen.detach().amax(-1, true);
  const e = seen.sub(top).exp();
  const shown = allowed ? where(allowed, e, 0) : e;
  const total = shown.sum(-1, true);
  const empty = total.eq(0);
  const norm = where(empty, 0, where(empty, 1, total).reciprocal());
  return { p: shown.mul(norm), stats: cat([top.mul(Math.LOG2E), norm], -1) };
}

/** Which keys each query sees, broadcastable to [B, H, T, S]; undefined = all. */
function visible(
  T: number,
  S: number,
  { causal }: AttentionAttrs,
  mask?: Tensor,
  lengths?: Tensor,
): Tensor | undefined {
  const [query, key] = [positionsAlong(2, T, 4), positionsAlong(3, S, 4)];
  const count = lengths?.reshape([-1, 1, 1, 1]);
  const parts: Tensor[] = mask ? [mask] : [];
  if (count) parts.push(key.lt(count));
  if (causal === "top-left") parts.push(key.le(query));
  if (causal === "bottom-right") parts.push(key.le(query.add(count ? count.sub(T) : S - T)));
  return parts.length ? parts.reduce((a, b) => a.logicalAnd(b)) : undefined;
}

const strided =
  (fixed: readonly number[], extra: number) =>
  (node: Node): readonly number[] => {
    const { hasMask, hasBias } = node.attrs as AttentionAttrs;
    return [...fixed, ...[hasMask, hasBias].filter(Boolean).map((_, i) => extra + i)];
  };

/**
 * FlashAttention (https://arxiv.org/abs/2205.14135). Sources q [B, H, T, D], k and v [B, Hkv, S, D] (H a multiple of
 * Hkv), then if present mask (bool) and bias (both [B, H, T, S], usually broadcast views) and lengths (i32 [B]: keys
 * from there on are hidden). Outputs o [B, H, T, D] and stats [B, H, T, 2], from which backward has the weights
 * again: the largest score in base 2 and 1 / sum. A query that sees no key gives zeros.
 */
export const attentionOp = defineOp<AttentionAttrs>({
  name: "attention",
  kind: "kernel",
  strided: strided([0, 1, 2], 3),
  lower: lowerAttention,
  vjp: ([g], [o, stats], [q, k, v, ...rest], attrs) => {
    const outputs = [q, k, v].map(({ shape, dtype }) => ({ shape, dtype }));
    return [
      ...applyMany(attentionBackwardOp, [q, k, v, o, stats, g, ...rest], attrs, outputs),
      ...rest.map(() => null),
    ];
  },
  fallback: ([q, k, v, ...rest], attrs) => {
    const { p, stats } = weights(q, k, rest, attrs);
    const o = grouped(p, k.shape[1]).matmul(v.unsqueeze(2)).reshape(q.shape); // [B, H, T, D]
    return [o, stats];
  },
});

/**
 * Sources q, k, v, o, stats, gradient of o, and the optional ones of `attention`; outputs the gradients of q, k and v.
 * The fallback computes o and stats again, so that its own derivative is complete.
 */
export const attentionBackwardOp = defineOp<AttentionAttrs>({
  name: "attention_backward",
  kind: "kernel",
  strided: strided([0, 1, 2, 5], 6),
  lower: lowerAttentionBackward,
  fallback: ([q, k, v, _o, _stats, g, ...rest], attrs) => {
    const heads = k.shape[1];
    const p = weights(q, k, rest, attrs).p;
    const dp = grouped(g, heads).matmul(v.unsqueeze(2).transpose(-1, -2)).reshape(p.shape);
    const ds = grouped(p.mul(dp.sub(p.mul(dp).sum(-1, true))).mul(attrs.scale), heads); // [B, Hkv, G, T, S]
    return [
      ds.matmul(k.unsqueeze(2)).reshape(q.shape),
      ds.transpose(-1, -2).matmul(grouped(q, heads)).sum(2),
      grouped(p, heads).transpose(-1, -2).matmul(grouped(g, heads)).sum(2),
    ];
  },
});

export interface AttentionOptions {
  /** True where a query may attend; broadcasts to [B, H, T, S]. */
  mask?: Tensor;
  /** Added to the scores; broadcasts to [B, H, T, S]. */
  bias?: Tensor;
  isCausal?: boolean;
  /** Which corner of [T, S] the causal diagonal starts from. bottom-right: the last query sees the last (valid) key. */
  align?: "top-left" | "bottom-right";
  /** Default 1 / sqrt(D). */
  scale?: number;
  /** i32 [B]: number of valid keys of each sample; later ones are hidden. */
  lengths?: Tensor;
}

/** softmax(q kᵀ scale + bias) v: q [B, H, T, D], k and v [B, Hkv, S, D] -> [B, H, T, D]; each key head serves H / Hkv query heads. */
export function scaledDotProductAttention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { mask, bias, isCausal = false, align = "top-left", lengths } = options;
  const fail = (what: string): never => {
    throw new Error(`scaledDotProductAttention: ${what} (q ${show(q.shape)}, k ${show(k.shape)}, v ${show(v.shape)})`);
  };
  if (q.ndim !== 4 || k.ndim !== 4) fail("q and k must be [B, H, T, D] and [B, Hkv, S, D]");
  if (!sameShape(k.shape, v.shape)) fail("k and v differ in shape");
  if (q.shape[0] !== k.shape[0] || q.shape[3] !== k.shape[3]) fail("batch sizes or head dims differ");
  if (q.shape[1] % k.shape[1] !== 0) fail("the key heads do not divide the query heads");
  if (![q, k, v].every((t) => isFloat(t.dtype) && t.dtype === q.dtype))
    fail(`q, k and v need one float dtype, got ${q.dtype}, ${k.dtype}, ${v.dtype}`);
  const [B, H, T, D] = q.shape;
  const full4 = [B, H, T, k.shape[2]];
  const fit = (t: Tensor, name: string): Tensor =>
    sameShape(broadcastShapes(`scaledDotProductAttention ${name}`, t.shape, full4), full4)
      ? expand(t, full4)
      : fail(`${name} ${show(t.shape)} is larger than the scores`);
  if (lengths && !sameShape(lengths.shape, [B])) fail(`lengths must be [${B}], got ${show(lengths.shape)}`);
  const attrs: AttentionAttrs = {
    scale: options.scale ?? 1 / Math.sqrt(D),
    causal: isCausal ? align : "none",
    hasMask: mask !== undefined,
    hasBias: bias !== undefined,
    hasLengths: lengths !== undefined,
  };
  const sources = [q, k, v];
  if (mask) sources.push(fit(mask.to("bool"), "mask"));
  if (bias) sources.push(fit(bias, "bias"));
  if (lengths) sources.push(lengths);
  // The kernels give no gradient of the bias: a learned one takes the composed form.
  if (bias?.requiresGrad && isGradEnabled()) return (attentionOp.fallback!(sources, attrs) as Tensor[])[0];
  const outputs = [
    { shape: q.shape, dtype: q.dtype },
    { shape: [B, H, T, 2], dtype: "f32" as const },
  ];
  return applyMany(attentionOp, sources, attrs, outputs)[0];
}
