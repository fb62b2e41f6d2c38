import { sameShape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { splitRows } from "./split.ts";

/**
 * Draws one token per row. Sources: logits f32 [B, V]; params f32 [B or 1, 4] = temperature, topK, topP, minP; uniform f32
 * [B] in [0, 1). Output: ids i32 [B].
 * topK 0, topP 1 and minP 0 filter nothing. Temperature 0 takes the first largest logit. The order is temperature, topK (all
 * logits equal to the k-th stay), topP, minP. Then the cumulative distribution over the kept ids, ascending, is inverted.
 */
export const sampleOp = defineOp({
  name: "sample",
  kind: "kernel",
  split: splitRows({ sources: [0, 2] }),
  reference: ([logits, params, uniform], _attrs, { shape, dtype }) => {
    const V = logits.shape[1];
    const data = new Float64Array(shape[0]);
    for (let b = 0; b < data.length; b++) {
      const at = params.shape[0] === 1 ? 0 : b * 4;
      data[b] = draw(logits.data.subarray(b * V, (b + 1) * V), params.data.subarray(at, at + 4), uniform.data[b]);
    }
    return { data, shape, dtype };
  },
});

function draw(logits: Float64Array, [temperature, topK, topP, minP]: Float64Array, uniform: number): number {
  if (logits.some(Number.isNaN)) return -1;
  const best = logits.reduce((top, x, i) => (x > logits[top] ? i : top), 0);
  if (temperature === 0) return best;
  const order = Array.from(logits, (_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
  const last = topK > 0 && topK < order.length ? logits[order[topK - 1]] : -Infinity;
  const weight = logits.map((x) => (x >= last ? Math.exp((x - logits[best]) / temperature) : 0)); // 1 for the best
  const total = weight.reduce((a, b) => a + b, 0);
  let before = 0;
  for (const id of order) {
    const w = weight[id];
    if (before >= topP * total && id !== best) weight[id] = 0;
    if (w < minP) weight[id] = 0;
    before += w;
  }
  let left = uniform * weight.reduce((a, b) => a + b, 0);
  let chosen = best;
  for (let id = 0; id < weight.length; id++) {
    if (weight[id] === 0) continue;
    chosen = id;
    left -= weight[id];
    if (left < 0) break;
  }
  return chosen;
}

/**
 * Draws token ids i32 [B] from logits [B, V]. A row with NaN gives -1, which is no token.
 * @param params f32 [B or 1, 4] = temperature (0: the largest logit), topK (0: all), topP (1: all), minP (0: all)
 * @param uniform f32 [B], random numbers in [0, 1)
 * @example sample(logits, tensor([[0.7, 40, 0.95, 0]]), rand(logits.shape[0]))
 */
export function sample(logits: Tensor, params: Tensor, uniform: Tensor): Tensor {
  const B = logits.shape[0];
  const rows = params.shape[0];
  if (
    logits.ndim !== 2 ||
    params.ndim !== 2 ||
    (rows !== 1 && rows !== B) ||
    params.shape[1] !== 4 ||
    !sameShape(uniform.shape, [B])
  ) {
    throw new Error(
      `sample: logits [B, V], params [B or 1, 4] and uniform [B] expected, got ${[logits, params, uniform].map((t) => show(t.shape)).join(", ")}`,
    );
  }
  return apply(sampleOp, [logits.to("f32"), params, uniform], {}, [B], "i32");
}
