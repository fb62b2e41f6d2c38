import { isFloat } from "../graph/dtype.ts";
import type { SplitContext, SplitNode } from "../graph/op.ts";
import { bitsOf, groupsOf, middleOf, NF4, NF4_WGSL, type QuantLayout } from "../graph/quantization.ts";
import { show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { iotaOp } from "./constant.ts";
import { defineOp } from "./define.ts";
import { row, rowWith, where } from "./elementwise.ts";
import { tensor } from "./leaf.ts";
import { cat } from "./movement.ts";
import { sumOp } from "./reduce.ts";

/**
 * A quantised matrix: codes u32 [N, groups * group * bits / 32], and scales f16 [N, groups], or [N, groups, 2] where a
 * zero-point follows each scale.
 */
export interface Packed {
  readonly packed: Tensor;
  readonly scales: Tensor;
}

/** Shapes of `Packed` for a layout. */
export function packedShapes(q: QuantLayout): { packed: readonly number[]; scales: readonly number[] } {
  const groups = groupsOf(q);
  const words = (groups * q.group * bitsOf(q.format)) / 32;
  return { packed: [q.shape[0], words], scales: [q.shape[0], groups, ...(q.zeroPoint ? [2] : [])] };
}

/** The `count` bits of x that start at bit `at`. */
const bits = rowWith<{ count: number }>({
  name: "bits",
  rule: () => ({ args: "u32", out: "u32" }),
  wgsl: ([x, at], { count }, type) => `((${x} >> ${at}) & ${type}(${2 ** count - 1}u))`,
  js: (x, at, _c, { count }) => Math.floor(x / 2 ** at) % 2 ** count,
});

const nf4 = row({
  name: "nf4",
  rule: () => ({ args: "u32", out: "f32" }),
  wgsl: ([x], _, type) => (type === "f32" ? `nf4(vec4u(${x})).x` : `nf4(${x})`),
  helpers: () => NF4_WGSL,
  js: (x) => NF4[x],
  cost: 20,
});

/** Quantises a matrix [N, K] with ordinary ops. A group of zeros keeps the scale 0. @throws as `checkRange`. */
export function encode(weight: Tensor, q: QuantLayout): Packed {
  checkRange(weight, q);
  const [N, K] = q.shape;
  const [groups, count] = [groupsOf(q), bitsOf(q.format)];
  const w = weight
    .float()
    .pad([
      [0, 0],
      [0, groups * q.group - K],
    ])
    .reshape([N, groups, q.group]);
  const { codes, scales } = q.format === "nf4" ? nearest(w) : q.zeroPoint ? between(w, count) : symmetric(w, count);
  const words = codes.reshape([N, (groups * q.group * count) / 32, 32 / count]);
  const shifts = tensor(Uint32Array.from({ length: 32 / count }, (_, i) => 2 ** (count * i)));
  const shifted = words.mul(shifts);
  return {
    packed: apply(sumOp, [shifted], { dims: [2] }, [...shifted.shape.slice(0, 2), 1], "u32").squeeze(2),
    scales,
  };
}

/** w / scale, and 0 where the scale is 0. */
const over = (w: Tensor, scale: Tensor): Tensor => w.mul(where(scale.eq(0), 0, scale.reciprocal()));

const LARGEST_HALF = 65504;
const SMALLEST_NORMAL = 2 ** -14;

/**
 * Scales as f16. Below 2^-14 they are multiples of 2^-24, rounded up, so that the largest value of a group keeps a code. A scale
 * beyond 65504 becomes 65504: `checkRange` refuses such values where they lie on the host.
 */
function stepsOf(scale: Tensor): Tensor {
  const up = scale
    .mul(2 ** 24)
    .ceil()
    .mul(2 ** -24);
  return where(scale.lt(SMALLEST_NORMAL), up, scale).minimum(LARGEST_HALF).half();
}

/** @throws if values on the host are larger than the format's largest code times the largest f16 scale. */
function checkRange(weight: Tensor, q: QuantLayout): void {
  const codes = q.format === "nf4" ? 1 : middleOf(q.format) - 1;
  const bad = weight.node.host?.find((w) => !(Math.abs(w) <= codes * LARGEST_HALF));
  if (bad !== undefined)
    throw new RangeError(
      `quantize: ${bad} of a weight ${show(weight.shape)} is out of the range of ${q.format}, whose f16 scales reach ±${codes * LARGEST_HALF}: scale the weight down`,
    );
}

/** Integer codes around the middle code, which stands for 0. */
function symmetric(w: Tensor, count: number): { codes: Tensor; scales: Tensor } {
  const middle = 2 ** (count - 1);
  const scales = stepsOf(
    w
      .abs()
      .amax(-1, true)
      .div(middle - 1),
  ); // [N, groups, 1]
  const steps = over(w, scales.float())
    .round()
    .clamp({ min: -middle, max: middle - 1 });
  return { codes: steps.add(middle).to("u32"), scales: scales.squeeze(-1) };
}

/** Integer codes between the smallest and largest value of each group, with a zero-point per group. */
function between(w: Tensor, count: number): { codes: Tensor; scales: Tensor } {
  const most = 2 ** count - 1;
  const [low, high] = [w.amin(-1, true).clamp({ max: 0 }), w.amax(-1, true).clamp({ min: 0 })]; // 0 must have a code
  const scale = stepsOf(high.sub(low).div(most));
  const zero = over(low.neg(), scale.float()).round().clamp({ min: 0, max: most }); // [N, groups, 1]
  const codes = over(w, scale.float()).round().add(zero).clamp({ min: 0, max: most }).to("u32");
  return { codes, scales: cat([scale, zero.half()], -1) };
}

/** Codes of the nearest NF4 values. */
function nearest(w: Tensor): { codes: Tensor; scales: Tensor } {
  const scales = w.abs().amax(-1, true).minimum(LARGEST_HALF).half(); // [N, groups, 1]
  const x = over(w, scales.float());
  const limits = NF4.slice(1).map((value, i) => (value + NF4[i]) / 2);
  const codes = limits.reduce((sum, limit) => sum.add(x.gt(limit).to("u32")), x.gt(2).to("u32"));
  return { codes, scales: scales.squeeze(-1) };
}

/** The dense matrix f32 [N, K], decoded with ordinary ops. */
export function decode({ packed, scales }: Packed, q: QuantLayout): Tensor {
  const [N, K] = q.shape;
  const [groups, count] = [groupsOf(q), bitsOf(q.format)];
  const firstBits = apply(iotaOp, [], { start: 0, step: count }, [32 / count], "u32");
  const codes = bits({ count }, packed.unsqueeze(-1), firstBits).reshape([N, groups, q.group]);
  const part = scales.float().reshape([N, groups, -1]);
  const scale = part.narrow(-1, 0, 1); // [N, groups, 1]
  const zero = q.zeroPoint ? part.narrow(-1, 1, 1) : middleOf(q.format);
  const values = q.format === "nf4" ? nf4(codes) : codes.float().sub(zero);
  return values.mul(scale).reshape([N, -1]).narrow(1, 0, K);
}

/** x [M, K] after int8 rounding, with one scale per row and group, as products with int8 activations read it. */
function roundRows(x: Tensor, { shape: [, K], ...q }: QuantLayout): Tensor {
  const groups = Math.ceil(K / q.group);
  const fill = groups * q.group - K;
  const parts = x
    .float()
    .pad([
      [0, 0],
      [0, fill],
    ])
    .reshape([-1, groups, q.group]);
  const scales = parts.abs().amax(-1, true).div(127); // [M, groups, 1]
  const values = over(parts, scales).round().mul(scales);
  return values.reshape([x.shape[0], -1]).narrow(1, 0, K);
}

interface ProductAttrs extends QuantLayout {
  /** false: x [M, K] · Wᵀ; true: x [M, N] · W. */
  readonly transposed: boolean;
}

/** Sources: x [M, K or N], packed, scales. The weight has no gradient. That of x ignores the rounding of x. */
const quantizedMatmulOp = defineOp<ProductAttrs>({
  name: "quantized_matmul",
  kind: "kernel",
  halves: [2],
  split: splitQuantizedProduct,
  vjp: (g, _y, [x, packed, scales], attrs) => [
    multiply(g, { packed, scales }, { ...attrs, transposed: !attrs.transposed, activations: "float" }).to(x.dtype),
    null,
    null,
  ],
  fallback: ([x, packed, scales], { transposed, ...q }) => {
    const weight = decode({ packed, scales }, q as QuantLayout);
    return ((q as QuantLayout).activations === "int8" ? roundRows(x, q as QuantLayout) : x).matmul(
      transposed ? weight : weight.t(),
    );
  },
});

/** Splits by rows of x, else by rows of the packed matrix: parts are concatenated, or added if the product sums over rows. */
function splitQuantizedProduct(
  node: SplitNode<ProductAttrs>,
  [x, packed, scales]: Tensor[],
  cx: SplitContext,
): Tensor[] | undefined {
  if (!cx.large) return undefined;
  const { transposed, shape } = node.attrs;
  const many = Math.ceil(Math.max(cx.bytesOf(x), cx.bytesOf(node)) / cx.limit);
  if (many > 1 && x.shape[0] > 1) {
    const rows = cx.stretches(x.shape[0], many).map(({ start, size }) => {
      const own = [x.narrow(0, start, size), packed, scales];
      return apply(node.op, own, node.attrs, [size, node.shape[1]], node.dtype);
    });
    return [cat(rows, 0)];
  }
  const stretches = cx.stretches(packed.shape[0], Math.ceil(cx.bytesOf(packed) / cx.limit));
  if (stretches.length < 2) return undefined;
  const results = stretches.map(({ start, size }) =>
    apply(
      node.op,
      [transposed ? x.narrow(1, start, size) : x, packed.narrow(0, start, size), scales.narrow(0, start, size)],
      { ...node.attrs, shape: [size, shape[1]] },
      transposed ? node.shape : [node.shape[0], size],
      node.dtype,
    ),
  );
  return [transposed ? results.reduce((a, b) => a.add(b)) : cat(results, 1)];
}

function multiply(x: Tensor, { packed, scales }: Packed, attrs: ProductAttrs): Tensor {
  const { transposed, shape } = attrs;
  return apply(quantizedMatmulOp, [x, packed, scales], attrs, [x.shape[0], shape[transposed ? 1 : 0]], x.dtype);
}

/** x [..., K] · Wᵀ + bias [N] -> [..., N], for a packed W [N, K]. */
export function quantizedProduct(x: Tensor, weight: Packed, q: QuantLayout, bias?: Tensor | null): Tensor {
  const [N, K] = q.shape;
  if (x.ndim === 0 || x.shape[x.ndim - 1] !== K)
    throw new Error(
      `quantizedLinear: input ${show(x.shape)} does not fit weight ${show(q.shape)} ([out, in]): expected [..., ${K}]`,
    );
  if (!isFloat(x.dtype))
    throw new TypeError(`quantizedLinear: float input expected, got ${x.dtype}: cast it with float() or half()`);
  const attrs: ProductAttrs = { ...q, shape: [...q.shape], transposed: false };
  const y = multiply(x.reshape([-1, K]), weight, attrs).reshape([...x.shape.slice(0, -1), N]);
  return bias ? y.add(bias) : y;
}
