import { type Machine, measure, print, type Row } from "./harness.ts";
import type { Ours } from "./ours.ts";
import { allWorkloads } from "./workloads/index.ts";
import type { Case, Input } from "./workloads/workload.ts";
import { ids, normal } from "./workloads/workload.ts";

interface Kernel {
  readonly name: string;
  readonly flops?: number;
  readonly bytes?: number;
  make(ours: Ours): Case;
}

const bytesOf = (...shapes: number[][]) => shapes.reduce((sum, s) => sum + 4 * s.reduce((a, b) => a * b, 1), 0);

/** Kernels measured here only. Those of bench/workloads are also measured against the peers. */
const more: Kernel[] = [
  {
    name: "add_4M",
    bytes: 3 * 4 * 2 ** 22,
    make: ({ bench }) => bench((a, b) => a.add(b), normal(1, [2 ** 22]), normal(2, [2 ** 22])),
  },
  {
    name: "transpose_2048",
    bytes: bytesOf([2048, 2048]) * 2,
    make: ({ bench }) => bench((a) => a.t().add(0.5), normal(1, [2048, 2048])),
  },
  {
    name: "sum_4M",
    bytes: 4 * 2 ** 22,
    make: ({ bench }) => bench((a) => a.sum().reshape([1]), normal(1, [2 ** 22])),
  },
  {
    name: "sum_rows_4096x1024",
    bytes: bytesOf([4096, 1024]),
    make: ({ bench }) => bench((a) => a.sum(0), normal(1, [4096, 1024])),
  },
  {
    name: "embedding_4096x256",
    bytes: 2 * bytesOf([4096, 256]),
    make: ({ sg, bench }) => bench((a, w) => sg.embedding(a, w), ids(1, [4096], 8192), normal(2, [8192, 256])),
  },
  {
    name: "conv2d_8x32x64x64_k3",
    flops: 2 * 8 * 64 * 64 * 64 * 32 * 9,
    bytes: bytesOf([8, 32, 64, 64], [64, 32, 3, 3], [8, 64, 64, 64]),
    make: ({ sg, bench }) =>
      bench(
        (a, w) => sg.conv2d(a, w, undefined, { padding: 1 }),
        normal(1, [8, 32, 64, 64]),
        normal(2, [64, 32, 3, 3]),
      ),
  },
  {
    name: "cross_entropy_512x32000",
    bytes: bytesOf([512, 32000]),
    make: ({ sg, bench }) =>
      bench((a, t) => sg.crossEntropy(a, t).reshape([1]), normal(1, [512, 32000]), ids(2, [512], 32000)),
  },
];

export async function benchKernels(ours: Ours, machine: Machine, only: (name: string) => boolean): Promise<Row[]> {
  const rows: Row[] = [];
  const shared = allWorkloads
    .filter((w) => !w.name.endsWith("train_step"))
    .map((w): Kernel => ({ ...w, make: () => w.ours(ours, w.inputs() as Record<string, Input>) }));
  for (const kernel of [...shared, ...more].filter((k) => only(k.name))) {
    const { run, dispose } = kernel.make(ours);
    const row = await measure({ ...kernel, run }, machine);
    await dispose?.();
    print(row);
    rows.push(row);
  }
  return rows;
}
