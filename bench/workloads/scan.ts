import { type Input, normal, type Workload } from "./workload.ts";

const LONG = 10_000_000;
const KEYS = 1_000_000;

/** Values of one sign, from 0.5 to about 5. */
const positive = (seed: number, count: number): Input => {
  const { shape, data } = normal(seed, [count]);
  return { shape, data: data.map((v) => 0.5 + Math.abs(v)) };
};

/** Sums and running sums of ten million values of one sign, and a sort of a million. */
export const workloads: Workload[] = [
  {
    name: "sum_10M",
    bytes: 4 * LONG,
    tolerance: 2e-5,
    inputs: () => ({ x: positive(61, LONG) }),
    expected: ({ x }) => Float64Array.of((x.data as Float32Array).reduce((a, b) => a + b, 0)),
    ours: ({ bench }, { x }) => bench((p) => p.sum(0, true), x),
  },
  {
    name: "cumsum_10M",
    bytes: 2 * 4 * LONG,
    tolerance: 2e-5,
    inputs: () => ({ x: positive(62, LONG) }),
    expected: ({ x }) => {
      let sum = 0;
      return Float64Array.from(x.data as Float32Array, (v) => (sum += v));
    },
    ours: ({ bench }, { x }) => bench((p) => p.cumsum(0), x),
  },
  {
    name: "sort_1M",
    bytes: 2 * 4 * KEYS,
    tolerance: 1e-7,
    inputs: () => ({ x: normal(63, [KEYS]) }),
    expected: ({ x }) => Float64Array.from(x.data as Float32Array).sort(),
    ours: ({ bench }, { x }) => bench((p) => p.sort().values, x),
  },
];
