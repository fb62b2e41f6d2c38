import { isFloat, promote } from "../graph/dtype.ts";
import { broadcastShapes, numel, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { expand, reshape } from "./movement.ts";
import { splitProduct } from "./split.ts";

/** [..., M, K] x [..., K, N] -> [..., M, N] with equal batch dims. Operands may be strided views (transposed, broadcast). */
const matmulOp = defineOp({
  name: "matmul",
  kind: "kernel",
  product: true,
  strided: [0, 1],
  split: splitProduct,
  halves: [0, 1],
  vjp: (g, _y, [a, b]) => [
    a.requiresGrad ? matmul(g, b.transpose(-1, -2)).to(a.dtype) : null,
    b.requiresGrad ? matmul(a.transpose(-1, -2), g).to(b.dtype) : null,
  ],
  reference: ([a, b], _attrs, { shape, dtype }) => {
    const [M, N] = shape.slice(-2);
    const K = a.shape[a.shape.length - 1];
    const data = new Float64Array(numel(shape));
    for (let batch = 0; batch < data.length / (M * N); batch++) {
      for (let m = 0; m < M; m++) {
        const out = (batch * M + m) * N;
        for (let k = 0; k < K; k++) {
          const scale = a.data[(batch * M + m) * K + k];
          const row = (batch * K + k) * N;
          for (let n = 0; n < N; n++) data[out + n] += scale * b.data[row + n];
        }
      }
    }
    return { data, shape, dtype };
  },
});

/**
 * Matrix product with torch's rules: [..., M, K] x [..., K, N] -> [..., M, N]. Batch dims broadcast. A 1-D operand is a row
 * (left) or a column (right). f16 and f32 mix; sums are in f32.
 * @throws if the inner sizes differ, batch dims do not broadcast, or no operand is float.
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  const problem = (what: string): Error => new Error(`matmul: ${what}: ${show(a.shape)} x ${show(b.shape)}`);
  if (a.ndim === 0 || b.ndim === 0) throw problem("operands need at least one dim");
  const dtype = promote(a.dtype, b.dtype);
  if (!isFloat(dtype))
    throw new TypeError(
      `matmul: float operands expected, got ${a.dtype} and ${b.dtype}: cast one with float() or half()`,
    );
  const left = a.ndim === 1 ? reshape(a, [1, a.shape[0]]) : a;
  const right = b.ndim === 1 ? reshape(b, [b.shape[0], 1]) : b;
  const K = left.shape[left.ndim - 1];
  const [Kb, N] = right.shape.slice(-2);
  if (K !== Kb) throw new Error(`${problem("inner sizes differ").message} (${K} vs ${Kb})`);
  const M = left.shape[left.ndim - 2];
  let product: Tensor;
  // A right operand without batch dims: all rows of the left one are one large product.
  if (right.ndim === 2 && left.ndim > 2) {
    const flat = multiply(reshape(left, [-1, K]), right, []);
    product = reshape(flat, [...left.shape.slice(0, -1), N]);
  } else {
    const batch = broadcastShapes("matmul", left.shape.slice(0, -2), right.shape.slice(0, -2));
    product = multiply(expand(left, [...batch, M, K]), expand(right, [...batch, K, N]), batch);
  }
  if (a.ndim > 1 && b.ndim > 1) return product;
  const batch = product.shape.slice(0, -2);
  return reshape(product, [...batch, ...(a.ndim === 1 ? [] : [M]), ...(b.ndim === 1 ? [] : [N])]);

  function multiply(x: Tensor, y: Tensor, batch: readonly number[]): Tensor {
    // An f16 operand of an f32 product stays f16: kernels read both and accumulate in f32.
    const [a, b] = [x, y].map((t) => (isFloat(t.dtype) ? t : t.to(dtype)));
    return apply(matmulOp, [a, b], {}, [...batch, x.shape[x.ndim - 2], N], dtype);
  }
}

/** x [..., in] · weightᵀ + bias [out] -> [..., out], for weight [out, in] as in torch. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  if (weight.ndim !== 2 || x.shape[x.ndim - 1] !== weight.shape[1]) {
    throw new Error(
      `linear: input ${show(x.shape)} does not fit weight ${show(weight.shape)} ([out, in]): expected [..., in]`,
    );
  }
  const y = matmul(x, weight.t());
  return bias ? y.add(bias) : y;
}
