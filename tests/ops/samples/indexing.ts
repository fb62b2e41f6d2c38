import { type Family, ints, of } from "./sample.ts";

const at = ints([2, 0, 2, 1, 0, 2], [3, 2]);

export const indexing: Family = {
  given: {
    last_writer: { inputs: [of([4, 3]), ints([3, 0, 3])], f: (x, ids) => x.indexFill(0, ids, 0.5) },
    pick_rows: {
      inputs: [of([4, 3]), ints([1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0], [4, 3], "bool"), of([12])],
      f: (x, mask, source) => x.maskedScatter(mask, source.square()).mul(x),
    },
    write_rows: [
      { inputs: [of([4, 3]), ints([3, 0, 3]), of([3, 3])], f: (x, ids, y) => x.indexCopy(0, ids, y.mul(y)).mul(x) },
      { inputs: [of([3, 2]), at, of([3, 2])], f: (x, ids, y) => x.scatter(0, ids, y.exp()), tolerance: 1e-5 },
      {
        inputs: [of([4, 5, 2]), ints([3, 0, 3]), of([3, 4])],
        f: (x, ids, y) => x.atSet([null, ids, 1], y.sum(0).unsqueeze(1)).square(),
      },
    ],
    scatter_reduce: [
      { inputs: [of([3, 2]), at, of([3, 2])], f: (x, ids, y) => x.scatterReduce(0, ids, y, "amax").square() },
      {
        inputs: [of([3, 2]), at, of([3, 2])],
        f: (x, ids, y) => x.scatterReduce(0, ids, y, "amin", { includeSelf: false }).mul(x),
      },
      {
        inputs: [of([3, 2], 0.3, 1.5), at, of([3, 2], 0.3, 1.5)],
        f: (x, ids, y) => x.scatterReduce(0, ids, y, "prod"),
      },
    ],
  },
};
