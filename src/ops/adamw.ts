import type { RefArray } from "../graph/op.ts";
import { sameShape, show } from "../graph/shape.ts";
import { applyMany, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";

/**
 * One AdamW step (https://arxiv.org/abs/1711.05101). Weight decay comes first, as in torch.
 * Sources, f32: parameters, gradient, first and second moment [n]; hyper [8] = lr, beta1, beta2, eps, weight decay,
 * 1 - beta1^t, 1 - beta2^t, factor of the gradient (for clipping). Outputs: new parameters and moments [n].
 */
const adamwOp = defineOp({
  name: "adamw",
  kind: "kernel",
  inPlace: [0, 2, 3],
  fallback: ([p, g, m, v, hyper]) => {
    const [lr, beta1, beta2, eps, decay, correction1, correction2, scale] = hyper.chunk(8); // [1] each
    const scaled = g.mul(scale);
    const m1 = m.mul(beta1).add(scaled.mul(beta1.neg().add(1)));
    const v1 = v.mul(beta2).add(scaled.square().mul(beta2.neg().add(1)));
    const root = v1.sqrt().div(correction2.sqrt()).add(eps);
    const step = m1.div(root).mul(lr.div(correction1));
    return [p.mul(lr.mul(decay).neg().add(1)).sub(step), m1, v1];
  },
});

/**
 * One AdamW step as an op: f32 vectors p, g, m, v [n] give the new [p, m, v]. `assign` stores them; `optim.AdamW` does both.
 * @param hyper f32 [8] = lr, beta1, beta2, eps, weight decay, 1 - beta1^t, 1 - beta2^t, factor of the gradient
 */
export function adamw(p: Tensor, g: Tensor, m: Tensor, v: Tensor, hyper: Tensor): [Tensor, Tensor, Tensor] {
  if (p.ndim !== 1 || ![g, m, v].every((t) => sameShape(t.shape, p.shape)) || !sameShape(hyper.shape, [8])) {
    throw new Error(
      `adamw: p, g, m and v must be vectors of one size and hyper [8], got ${[p, g, m, v, hyper].map((t) => show(t.shape)).join(", ")}`,
    );
  }
  const output = { shape: p.shape, dtype: "f32" as const };
  return applyMany(adamwOp, [p, g, m, v, hyper], {}, [output, output, output]) as [Tensor, Tensor, Tensor];
}

/** Number of consecutive parameters that share one scale in 8-bit moments. */
export const STATE_BLOCK = 256;
const [M_DIGITS, ROOT_DIGITS] = [6, 7];

/** The value in [0, 1] of a dynamic-exponent code, as kernels/optim/adamw_int8.wgsl defines it. */
function decode(code: number, digits: number): number {
  const d = Math.floor(Math.log2(code + 1));
  return code === 0 ? 0 : 8 ** (d - digits) * (0.125 + 0.875 * ((code + 1) / 2 ** d - 1));
}

/** The code nearest to `x` in [0, 1]: the inverse of `decode`. */
function encode(x: number, digits: number): number {
  if (x < 8 ** (-digits - 1)) return 0;
  const d = digits + 1 + Math.floor(Math.floor(Math.log2(x)) / 3);
  return 2 ** d - 1 + Math.max(0, Math.round(((x * 8 ** (digits - d) - 0.125) / 0.875) * 2 ** d));
}

/**
 * AdamW with moments of 8 bits (https://arxiv.org/abs/2110.02861). Sources: parameters, gradient, m, v, scales, hyper.
 * m and sqrt(v) are u32 [n / 4], four codes per word. Scales are f32 [ceil(n / 256), 2]: the largest |m| and sqrt(v) of
 * each block. The rest is as in `adamwOp`.
 */
export const adamwInt8Op = defineOp({
  name: "adamw_int8",
  kind: "kernel",
  inPlace: [0, 2, 3, 4],
  reference: (x, _attrs, node): RefArray[] => {
    const [lr, beta1, beta2, eps, decay, correction1, correction2, scale] = x[5].data;
    const [p, m, v, scales] = [x[0], x[2], x[3], x[4]].map(({ data }) => Float64Array.from(data));
    const code = (words: Float64Array, i: number): number => (words[i >> 2] >>> (8 * (i & 3))) & 255;
    const put = (words: Float64Array, i: number, c: number): void => {
      const shift = 8 * (i & 3);
      words[i >> 2] = ((words[i >> 2] & ~(255 << shift)) | (c << shift)) >>> 0;
    };
    for (let block = 0; block * STATE_BLOCK < p.length; block++) {
      const begin = block * STATE_BLOCK;
      const size = Math.min(STATE_BLOCK, p.length - begin);
      const [highM, highRoot] = scales.subarray(2 * block, 2 * block + 2);
      const m1 = new Float64Array(size);
      const root1 = new Float64Array(size);
      for (let k = 0; k < size; k++) {
        const g = x[1].data[begin + k] * scale;
        const c = code(m, begin + k);
        const before = decode(c & 127, M_DIGITS) * highM * (c >= 128 ? -1 : 1);
        m1[k] = beta1 * before + (1 - beta1) * g;
        const root = decode(code(v, begin + k), ROOT_DIGITS) * highRoot;
        root1[k] = Math.sqrt(beta2 * root * root + (1 - beta2) * g * g);
      }
      const high = [m1, root1].map((values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0));
      scales.set(high, 2 * block);
      for (let k = 0; k < size; k++) {
        const step = (lr / correction1) * (m1[k] / (root1[k] / Math.sqrt(correction2) + eps));
        p[begin + k] = p[begin + k] * (1 - lr * decay) - step;
        const magnitude = encode(Math.abs(m1[k]) / (high[0] || 1), M_DIGITS);
        put(m, begin + k, magnitude + (m1[k] < 0 ? 128 : 0));
        put(v, begin + k, root1[k] > 0 ? Math.max(1, encode(root1[k] / high[1], ROOT_DIGITS)) : 0);
      }
    }
    return [p, m, v, scales].map((data, i) => ({ data, ...node.outputs![i] }));
  },
});

/**
 * One AdamW step with 8-bit moments: the new [p, m, v, scales].
 * p and g are f32 [n]; m and v are u32 [n / 4]; scales are f32 [ceil(n / STATE_BLOCK), 2]; hyper is as in `adamw`.
 */
export function adamwInt8(p: Tensor, g: Tensor, m: Tensor, v: Tensor, scales: Tensor, hyper: Tensor): Tensor[] {
  const [n] = p.shape;
  const expected = [[n], [n], [n / 4], [n / 4], [Math.ceil(n / STATE_BLOCK), 2], [8]];
  const given = [p, g, m, v, scales, hyper];
  if (p.ndim !== 1 || !given.every((t, i) => sameShape(t.shape, expected[i])))
    throw new Error(
      `adamwInt8: p, g, m, v, scales and hyper must be ${expected.map(show).join(", ")}, got ${given.map((t) => show(t.shape)).join(", ")}`,
    );
  const outputs = [p, m, v, scales].map(({ shape, dtype }) => ({ shape, dtype }));
  return applyMany(adamwInt8Op, given, {}, outputs);
}
