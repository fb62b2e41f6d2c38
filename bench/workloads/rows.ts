import { gelu, layerNormRow, rmsNormRow, rows, softmaxRow } from "./reference.ts";
import { normal, type Workload } from "./workload.ts";

const shape = [4096, 1024];
const bytes = 2 * 4 * 4096 * 1024;
const size = [4 * 1024 * 1024];
export const eps = 1e-5;
/** Number of ops in the chain of tiny ops. */
export const TINY = 1000;

/** A thousand dependent ops on 1,024 values: the overhead per op, with and without fusion. */
const tiny = (name: string, fuse: boolean): Workload => ({
  name,
  tolerance: 1e-4,
  inputs: () => ({ a: normal(11, [1024]), b: normal(12, [1024], 0.01) }),
  expected: ({ a, b }) =>
    Float64Array.from(a.data as Float32Array, (x, i) => {
      let y = x;
      for (let n = 0; n < TINY; n++) y += b.data[i];
      return y;
    }),
  ours: ({ bench, unfused }, { a, b }) =>
    (fuse ? bench : unfused)(
      (p, q) => {
        for (let n = 0; n < TINY; n++) p = p.add(q);
        return p;
      },
      a,
      b,
    ),
});

export const workloads: Workload[] = [
  {
    name: "softmax_4096x1024",
    bytes,
    tolerance: 1e-6,
    inputs: () => ({ x: normal(3, shape) }),
    expected: ({ x }) => rows(x, softmaxRow),
    ours: ({ bench }, { x }) => bench((p) => p.softmax(-1), x),
  },
  {
    name: "layernorm_4096x1024",
    bytes,
    tolerance: 5e-6,
    inputs: () => ({ x: normal(4, shape), w: normal(5, [1024]), b: normal(6, [1024]) }),
    expected: ({ x, w, b }) => rows(x, (row) => layerNormRow(row, w.data, b.data, eps)),
    ours: ({ sg, bench }, { x, w, b }) => bench((p, q, r) => sg.layerNorm(p, q, r, eps), x, w, b),
  },
  {
    name: "rmsnorm_4096x1024",
    bytes,
    tolerance: 5e-6,
    inputs: () => ({ x: normal(7, shape), w: normal(8, [1024]) }),
    expected: ({ x, w }) => rows(x, (row) => rmsNormRow(row, w.data, eps)),
    ours: ({ sg, bench }, { x, w }) => bench((p, q) => sg.rmsNorm(p, q, eps), x, w),
  },
  {
    // tanh(gelu(a·0.5 + b))·a − b: six elementwise ops on 4M values.
    name: "gelu_chain_4M",
    bytes: 3 * 4 * size[0],
    tolerance: 2e-6,
    inputs: () => ({ a: normal(9, size), b: normal(10, size) }),
    expected: ({ a, b }) =>
      Float64Array.from(a.data as Float32Array, (x, i) =>
        i % 64 ? NaN : Math.tanh(gelu(x * 0.5 + b.data[i])) * x - b.data[i],
      ),
    ours: ({ bench }, { a, b }) => bench((p, q) => p.mul(0.5).add(q).gelu().tanh().mul(p).sub(q), a, b),
  },
  tiny("dispatch_1000", true),
  tiny("dispatch_1000_unfused", false),
];
