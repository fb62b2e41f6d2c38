import { attention, join } from "./reference.ts";
import { normal, type Workload } from "./workload.ts";

// Causal attention of 8 heads of 64.
const H = 8;
const D = 64;
const flopsOf = (T: number) => 4 * H * D * ((T * (T + 1)) / 2);

const forward = (T: number): Workload => ({
  name: `attn_causal_fwd_${T}`,
  flops: flopsOf(T),
  tolerance: 3e-6,
  inputs: () => ({ q: normal(13, [H, T, D]), k: normal(14, [H, T, D]), v: normal(15, [H, T, D]) }),
  expected: ({ q, k, v }) => attention(q.data, k.data, v.data, H, T, D)[0],
  ours: ({ sg, bench }, { q, k, v }) =>
    bench(
      (a, b, c) => {
        const [x, y, z] = [a, b, c].map((t) => t.unsqueeze(0)); // [1, H, T, D]
        return sg.scaledDotProductAttention(x, y, z, { isCausal: true });
      },
      q,
      k,
      v,
    ),
});

const backward = (T: number): Workload => ({
  name: `attn_causal_fwdbwd_${T}`,
  flops: 3.5 * flopsOf(T),
  tolerance: 5e-6,
  inputs: () => ({ ...forward(T).inputs(), g: normal(16, [H, T, D]) }),
  expected: ({ q, k, v, g }) => join(attention(q.data, k.data, v.data, H, T, D, g.data)),
  ours: ({ sg, bench }, { q, k, v, g }) =>
    bench(
      (a, b, c, d) => {
        const leaves = [a, b, c].map((t) => t.unsqueeze(0).detach().requiresGrad_()); // [1, H, T, D]
        const o = sg.scaledDotProductAttention(leaves[0], leaves[1], leaves[2], { isCausal: true });
        o.backward(d.unsqueeze(0));
        return [o, ...leaves.map((leaf) => leaf.grad!)];
      },
      q,
      k,
      v,
      g,
    ),
});

export const workloads: Workload[] = [forward(512), forward(1024), backward(512), backward(1024)];
