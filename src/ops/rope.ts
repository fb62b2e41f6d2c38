import type { Op } from "../graph/op.ts";
import { show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { tensor } from "./leaf.ts";
import { cat, tokensFirst } from "./movement.ts";

/**
 * Rotary position embedding (https://arxiv.org/abs/2104.09864) in the half-split form of Hugging Face: rotates each pair
 * (i, i + D/2) by the angle position * frequencies[i], or its negative if `inverse`.
 * Sources: x [B, H, T, D], positions i32 [T] or [B, T], inverse frequencies [D/2].
 * Output: [B, H, T, D], or with `tokensFirst` [B, T, H, D], the layout of x before its split into heads.
 */
interface RopeAttrs extends Record<string, unknown> {
  inverse: boolean;
  tokensFirst: boolean;
}
const ropeOp: Op<RopeAttrs> = defineOp<RopeAttrs>({
  name: "rope",
  kind: "kernel",
  strided: [0, 1],
  vjp: (g, _y, [x, positions, frequencies], { inverse, tokensFirst }) => [
    rotate(tokensFirst ? g.transpose(1, 2) : g, positions, frequencies, { inverse: !inverse, tokensFirst }, x.dtype),
    null,
    null,
  ],
  fallback: ([x, positions, frequencies], { inverse, tokensFirst }) => {
    const [B, , T, D] = x.shape;
    const perToken = positions.to("f32").reshape([positions.ndim === 2 ? B : 1, 1, T, 1]);
    const angles = perToken.mul(frequencies.reshape([D / 2])); // [B or 1, 1, T, D/2]
    const cos = angles.cos();
    const sin = inverse ? angles.sin().neg() : angles.sin();
    const [a, b] = x.split(D / 2, -1);
    const y = cat([a.mul(cos).sub(b.mul(sin)), b.mul(cos).add(a.mul(sin))], -1);
    return tokensFirst ? y.transpose(1, 2) : y;
  },
});

/** Applies the op, and returns the result in the shape of x whatever its layout. */
function rotate(x: Tensor, positions: Tensor, frequencies: Tensor, attrs: RopeAttrs, dtype = x.dtype): Tensor {
  const [B, H, T, D] = x.shape;
  const shape = attrs.tokensFirst ? [B, T, H, D] : x.shape;
  const y = apply(ropeOp, [x, positions, frequencies], attrs, shape, dtype);
  return attrs.tokensFirst ? y.transpose(1, 2) : y;
}

export interface RopeOptions {
  /** Base of the frequencies. Default 10000. */
  theta?: number;
  /** f32 [D/2]. Default theta^(-2i/D). */
  inverseFrequencies?: Tensor;
}

/**
 * Rotary position embedding (https://arxiv.org/abs/2104.09864): rotates the pairs (i, i + D/2) of x [B, H, T, D] by
 * position * frequency. Positions are i32 [T] or [B, T]. D is even.
 * @example rope(q, arange(T))
 */
export function rope(x: Tensor, positions: Tensor, { theta = 10000, inverseFrequencies }: RopeOptions = {}): Tensor {
  const [B, , T, D] = x.shape;
  if (x.ndim !== 4 || D % 2 !== 0) throw new Error(`rope: x must be [B, H, T, D] with an even D, got ${show(x.shape)}`);
  const fits =
    positions.ndim === 1
      ? positions.shape[0] === T
      : positions.ndim === 2 && positions.shape[0] === B && positions.shape[1] === T;
  if (!fits) throw new Error(`rope: positions must be [${T}] or [${B},${T}], got ${show(positions.shape)}`);
  const frequencies =
    inverseFrequencies ?? tensor(Float32Array.from({ length: D / 2 }, (_, i) => theta ** ((-2 * i) / D)));
  if (frequencies.ndim !== 1 || frequencies.shape[0] !== D / 2) {
    throw new Error(`rope: inverse frequencies must be [${D / 2}], got ${show(frequencies.shape)}`);
  }
  return rotate(x, positions.to("i32"), frequencies, { inverse: false, tokensFirst: tokensFirst(x) });
}

/** Rotary embedding with given cos and sin [B, T, D]: x cos + rotateHalf(x) sin, for x [B, H, T, D]. */
export function applyRope(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  const [a, b] = x.split(x.shape[x.ndim - 1] / 2, -1);
  return x.mul(cos.unsqueeze(-3)).add(cat([b.neg(), a], -1).mul(sin.unsqueeze(-3)));
}
