import type { AttentionAttrs } from "../graph/attributes.ts";
import { isFloat } from "../graph/dtype.ts";
import type { Node } from "../graph/node.ts";
import type { SplitContext, SplitNode } from "../graph/op.ts";
import { isGradEnabled } from "../graph/recording.ts";
import { broadcastShapes, numel, type Shape, sameShape, show } from "../graph/shape.ts";
import { applyMany, type Tensor } from "../tensor/tensor.ts";
import { defineOp, type Split } from "./define.ts";
import { where } from "./elementwise.ts";
import { int8Words, readInt8 } from "./int8.ts";
import { cat, expand, tokensFirst } from "./movement.ts";
import { positionsAlong } from "./reduce.ts";
import { splitRows } from "./split.ts";

/** The least finite f32, as torch.finfo(torch.float32).min. Biases use it to hide keys. */
const LOWEST = -3.4028234663852886e38;

/** Names the optional sources. They follow the fixed sources in the order mask, bias, lengths. */
function optional(rest: readonly Tensor[], { hasMask, hasBias, joint, hasLengths }: AttentionAttrs) {
  const queue = [...rest];
  if (joint) {
    const both = queue.shift()!;
    const [mask, bias] = both.split(joint.map(numel), 0).map((x, i) => x.reshape(joint[i]));
    queue.unshift(mask.ne(0), bias);
  }
  const next = (has: boolean): Tensor | undefined => (has ? queue.shift() : undefined);
  return { mask: next(hasMask), bias: next(hasBias), lengths: next(hasLengths) };
}

/** Groups query heads by their key head: [B, H, T, D] -> [B, Hkv, H / Hkv, T, D]. */
const grouped = (x: Tensor, heads: number): Tensor =>
  x.reshape([x.shape[0], heads, x.shape[1] / heads, x.shape[2], x.shape[3]]);

/**
 * Attention weights p [B, H, T, S], 0 for hidden keys, and stats [B, H, T, 2]: the largest score of each row in the unit of the
 * kernels (times log2(e), or with a bias a quarter), and 1 / the sum of its exponentials. A score of -Infinity hides its key.
 */
function weights(q: Tensor, k: Tensor, rest: readonly Tensor[], attrs: AttentionAttrs): { p: Tensor; stats: Tensor } {
  const { mask, bias, lengths } = optional(rest, attrs);
  const [B, H, T] = q.shape;
  const [heads, S] = [k.shape[1], k.shape[2]];
  const product = grouped(q, heads).matmul(k.unsqueeze(2).transpose(-1, -2)).reshape([B, H, T, S]);
  const scores = bias ? product.mul(attrs.scale).add(bias) : product.mul(attrs.scale);
  const allowed = visible(T, S, attrs, mask, lengths);
  const finite = scores.eq(-Infinity).logicalNot(); // NaN is seen
  const seen = allowed ? finite.logicalAnd(allowed) : finite;
  const top = where(seen, scores, LOWEST).detach().amax(-1, true);
  // Hidden scores could exceed the largest seen one: their exponential would be infinite, and its gradient NaN.
  const shown = where(seen, where(seen, scores, top).sub(top).exp(), 0);
  const total = shown.sum(-1, true);
  const empty = total.eq(0);
  const norm = where(empty, 0, where(empty, 1, total).reciprocal());
  return { p: shown.mul(norm), stats: cat([top.mul(bias ? 0.25 : Math.LOG2E), norm], -1) };
}

/** True where a query sees a key, broadcastable to [B, H, T, S]. Undefined if every query sees every key. */
function visible(
  T: number,
  S: number,
  { causal, window }: AttentionAttrs,
  mask?: Tensor,
  lengths?: Tensor,
): Tensor | undefined {
  const [query, key] = [positionsAlong(2, T, 4), positionsAlong(3, S, 4)];
  const count = lengths?.reshape([-1, 1, 1, 1]);
  const parts: Tensor[] = mask ? [mask] : [];
  if (count) parts.push(key.lt(count));
  if (causal !== "none") {
    const own = causal === "top-left" ? query : query.add(count ? count.sub(T) : S - T);
    parts.push(key.le(own));
    if (window !== undefined) parts.push(key.gt(own.sub(window)));
  }
  return parts.length ? parts.reduce((a, b) => a.logicalAnd(b)) : undefined;
}

/** Sources that kernels read with strides: `fixed`, and mask and bias, which follow source `extra` - 1. */
const strided =
  (fixed: readonly number[], extra: number) =>
  (node: Node): readonly number[] => {
    const { hasMask, hasBias, joint } = node.attrs as AttentionAttrs;
    if (joint) return fixed;
    return [...fixed, ...[hasMask, hasBias].filter(Boolean).map((_, i) => extra + i)];
  };

/**
 * FlashAttention (https://arxiv.org/abs/2205.14135).
 * Sources: q [B, H, T, D]; k and v [B, Hkv, S, D], where Hkv divides H. f16 is read as is; k and v may be int8 rows (int8.ts).
 * Optional sources: mask (bool) or bias (f32), [B, H, T, S] and usually broadcast views; lengths (i32 [B]), which hide the
 * keys from lengths[b] on.
 * Outputs: o [B, H, T, D] and stats [B, H, T, 2], from which backward recomputes the weights: a score near the largest of
 * the row (see `weights`), and 1 / the sum of weights relative to it. A query that sees no key gives zeros.
 */
const attentionOp = defineOp<AttentionAttrs>({
  name: "attention",
  kind: "kernel",
  strided: strided([0, 1, 2], 3),
  halves: [0, 1, 2],
  split: splitAttention(false),
  vjp: ([g], [o, stats], [q, k, v, ...rest], attrs) => {
    const sources = [q, k, v, o, stats, laidOut(g, attrs), ...rest];
    const outputs = [q, k, v].map(({ shape, dtype }) => ({ shape: laidOutShape(shape, attrs), dtype }));
    const gradients = applyMany(attentionBackwardOp, sources, attrs, outputs);
    return [...gradients.map((x) => laidOut(x, attrs)), ...rest.map(() => null)];
  },
  fallback: ([q, ...others], attrs) => {
    const [k, v, ...rest] = others.map((x, i) => (i < 2 ? plainRows(x, q) : x));
    const { p, stats } = weights(q, k, rest, attrs);
    const o = grouped(p, k.shape[1]).matmul(v.unsqueeze(2)).reshape(q.shape); // [B, H, T, D]
    return [laidOut(o, attrs), stats];
  },
});

/** Transposes between [B, H, T, D] and the layout of the results. */
const laidOut = (x: Tensor, { tokensFirst }: AttentionAttrs): Tensor => (tokensFirst ? x.transpose(1, 2) : x);
const laidOutShape = ([B, H, T, D]: Shape, { tokensFirst }: AttentionAttrs): Shape =>
  tokensFirst ? [B, T, H, D] : [B, H, T, D];

/** Keys or values in the dtype of q. Decodes int8 rows. */
const plainRows = (x: Tensor, q: Tensor): Tensor => (x.dtype === "u32" ? readInt8(x, q.shape[3]) : x.to(q.dtype));

/**
 * Sources: q, k, v, o, stats, gradient of o, and the optional sources of `attention`. Outputs: gradients of q, k and v.
 * The fallback recomputes o and stats from q, k and v, so that second derivatives flow through them.
 */
const attentionBackwardOp = defineOp<AttentionAttrs>({
  name: "attention_backward",
  kind: "kernel",
  strided: strided([0, 1, 2, 5], 6),
  halves: [0, 1, 2],
  split: splitAttention(true),
  fallback: ([q, packedK, packedV, _o, _stats, g, ...rest], attrs) => {
    const [k, v] = [packedK, packedV].map((x) => plainRows(x, q));
    const heads = k.shape[1];
    const p = weights(q, k, rest, attrs).p;
    const dp = grouped(g, heads).matmul(v.unsqueeze(2).transpose(-1, -2)).reshape(p.shape);
    const ds = grouped(p.mul(dp.sub(p.mul(dp).sum(-1, true))).mul(attrs.scale), heads); // [B, Hkv, G, T, S]
    return [
      ds.matmul(k.unsqueeze(2)).reshape(q.shape),
      ds.transpose(-1, -2).matmul(grouped(q, heads)).sum(2),
      grouped(p, heads).transpose(-1, -2).matmul(grouped(g, heads)).sum(2),
    ].map((x) => laidOut(x, attrs));
  },
});

/** Splits along the batch; if that does not suffice, along key heads, each with its query heads. */
function splitAttention(backward: boolean): Split<AttentionAttrs> {
  const bySamples = splitRows();
  return (node, x, cx) => bySamples(node, x, cx) ?? (cx.large ? byHeads(node, x, cx, backward) : undefined);
}

function byHeads(
  node: SplitNode<AttentionAttrs>,
  x: Tensor[],
  cx: SplitContext,
  backward: boolean,
): Tensor[] | undefined {
  const { joint, tokensFirst } = node.attrs;
  const [heads, group] = [x[1].shape[1], x[0].shape[1] / x[1].shape[1]];
  if (heads < 2 || joint) return undefined;
  const outside = tokensFirst ? 2 : 1; // the dim of heads in o and in the outputs
  const dimOf = (output: number): number => (backward || output === 0 ? outside : 1); // stats are [B, H, T, 2] always
  const specs = node.outputs!;
  const largest = Math.max(...[...specs, ...x].map((t) => cx.bytesOf(t)));
  const results = cx.stretches(heads, Math.ceil(largest / (cx.limit - 256))).map(({ start, size }) => {
    const part = x.map((t, i) => {
      if (t.ndim < 4) return t; // lengths
      const each = i === 1 || i === 2 ? 1 : group;
      return t.narrow(backward && i === 3 ? outside : 1, start * each, size * each);
    });
    const outputs = specs.map(({ shape, dtype }, i) => {
      const each = backward && i > 0 ? 1 : group;
      return { shape: shape.map((n, d) => (d === dimOf(i) ? size * each : n)), dtype };
    });
    return applyMany(node.op, part, node.attrs, outputs);
  });
  return specs.map((_, i) =>
    cat(
      results.map((r) => r[i]),
      dimOf(i),
    ),
  );
}

export interface AttentionOptions {
  /** True where a query may attend to a key. Broadcasts to [B, H, T, S]. */
  mask?: Tensor;
  /**
   * Added to the scores. Broadcasts to [B, H, T, S]. -Infinity hides a key as a mask does; a query that sees no key gives
   * zeros. finfo.min hides it only beside larger scores: a row that has nothing else is the mean of v, as in torch. The kernels compute no gradient of it: a bias that requires one runs
   * the fallback, which stores the weights [B, H, T, S].
   */
  bias?: Tensor;
  /** A query sees no key after its own. */
  isCausal?: boolean;
  /** Corner of [T, S] where the causal diagonal lies. "bottom-right": the last query sees the last valid key. */
  align?: "top-left" | "bottom-right";
  /** Only with isCausal: a query sees its own key and the `window` - 1 keys before it. Earlier keys cost no time. */
  window?: number;
  /** Default 1 / sqrt(D). */
  scale?: number;
  /** i32 [B]: number of valid keys of each sample. Later keys are hidden. */
  lengths?: Tensor;
}

/**
 * softmax(q kᵀ scale + bias) v, for float q [B, H, T, D] and k, v [B, Hkv, S, D] -> [B, H, T, D].
 * Each key head serves H / Hkv query heads. k and v may be f16 while q is f32, or int8 rows u32 [B, Hkv, S, ceil(D/4) + 1].
 * The result has the memory layout of q, as in torch: if q is a transpose of [B, T, H, D], joining its heads copies nothing.
 * @throws if shapes or dtypes do not fit, or `window` is given without `isCausal`.
 * @example scaledDotProductAttention(q, k, v, { isCausal: true })
 */
export function scaledDotProductAttention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const { mask, isCausal = false, align = "top-left", window, lengths } = options;
  const bias = options.bias?.to("f32");
  const fail = (what: string): never => {
    throw new Error(`scaledDotProductAttention: ${what} (q ${show(q.shape)}, k ${show(k.shape)}, v ${show(v.shape)})`);
  };
  if (q.ndim !== 4 || k.ndim !== 4) fail("q and k must be [B, H, T, D] and [B, Hkv, S, D]");
  if (!sameShape(k.shape, v.shape)) fail("k and v must have one shape");
  const int8 = k.dtype === "u32" && v.dtype === "u32";
  if (q.shape[0] !== k.shape[0] || (int8 ? int8Words(q.shape[3]) : q.shape[3]) !== k.shape[3])
    fail("batch sizes or head dims differ: q and k must agree in B and D");
  if (q.shape[1] % k.shape[1] !== 0) fail("the key heads do not divide the query heads");
  if (!isFloat(q.dtype) || !(int8 || isFloat(k.dtype)) || k.dtype !== v.dtype)
    fail(`q must be float, k and v of one float dtype (or int8 rows), got ${q.dtype}, ${k.dtype}, ${v.dtype}`);
  if (window !== undefined && (!isCausal || !Number.isInteger(window) || window < 1))
    fail(`a window is a positive integer and needs isCausal, got ${window}`);
  const [B, H, T, D] = q.shape;
  if (k.shape[2] === 0) return expand(q.narrow(3, 0, 0).sum(3, true), q.shape); // no keys: zeros, with a gradient of zeros
  const full4 = [B, H, T, k.shape[2]];
  const fit = (t: Tensor, name: string): Tensor =>
    sameShape(broadcastShapes(`scaledDotProductAttention ${name}`, t.shape, full4), full4)
      ? t.reshape([...full4.slice(t.ndim).fill(1), ...t.shape])
      : fail(`${name} ${show(t.shape)} is larger than the scores ${show(full4)}: it must broadcast to them`);
  const modifiers = [mask && fit(mask.to("bool"), "mask"), bias && fit(bias, "bias")].filter((x) => x !== undefined);
  if (lengths && !sameShape(lengths.shape, [B])) fail(`lengths must be [${B}], got ${show(lengths.shape)}`);
  const attrs: AttentionAttrs = {
    scale: options.scale ?? 1 / Math.sqrt(D),
    causal: isCausal ? align : "none",
    window: window !== undefined && window < k.shape[2] ? window : undefined,
    hasMask: mask !== undefined,
    hasBias: bias !== undefined,
    joint: modifiers.length === 2 ? [modifiers[0].shape, modifiers[1].shape] : undefined,
    hasLengths: lengths !== undefined,
    tokensFirst: tokensFirst(q),
  };
  const sources = [q, k, v];
  if (attrs.joint) sources.push(cat(modifiers.map((x) => x.to("f32").reshape([-1]))));
  else sources.push(...modifiers.map((x) => expand(x, full4)));
  if (lengths) sources.push(lengths);
  if (bias?.requiresGrad && isGradEnabled())
    return laidOut((attentionOp.fallback!(sources, attrs) as Tensor[])[0], attrs);
  const outputs = [
    { shape: laidOutShape(q.shape, attrs), dtype: q.dtype },
    { shape: [B, H, T, 2], dtype: "f32" as const },
  ];
  return laidOut(applyMany(attentionOp, sources, attrs, outputs)[0], attrs);
}
