import { isFloat } from "../graph/dtype.ts";
import { normalizeDim } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { transpose } from "./movement.ts";
import { splitRows } from "./split.ts";

/** Running sum over the last dim. */
const cumsumOp = defineOp({
  name: "cumsum",
  kind: "kernel",
  split: splitRows({ flat: true }),
  vjp: (g) => [cumsum(g.flip(-1), -1).flip(-1)],
  reference: ([x], _attrs, { shape, dtype }) => {
    const data = x.data.slice();
    const n = shape[shape.length - 1];
    for (let i = 0; i < data.length; i++) if (i % n !== 0) data[i] += data[i - 1];
    return { data, shape, dtype };
  },
});

/** Running sum along `dim`. Integers and booleans are summed as i32. */
export function cumsum(x: Tensor, dim: number): Tensor {
  const d = normalizeDim("cumsum", dim, x.ndim);
  const values = isFloat(x.dtype) ? x : x.to("i32");
  if (x.ndim === 0) return values;
  const last = transpose(values, d, -1);
  return transpose(apply(cumsumOp, [last], {}, last.shape, last.dtype), d, -1);
}
