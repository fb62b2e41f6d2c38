import * as sg from "../../../src/index.ts";
import { box, type Family, ints, of, stepwise } from "./sample.ts";

const ties = ints([3, -1, 3, 0, 7, -1, 2, 3, 0, 5, 5, 1], [3, 4]);

export const sorting: Family = {
  given: {
    argsort: [
      { inputs: [of(box)], f: (x) => [x.argsort(), x.argsort({ dim: 0, descending: true })], noGradient: stepwise },
      {
        inputs: [ties],
        f: (x) => [x.argsort(), x.argsort({ dim: 0, descending: true }), x.kthvalue(2).indices, x.mode(0).values],
        noGradient: stepwise,
      },
    ],
    permute_along: [
      { inputs: [of(box)], f: (x) => [x.sort({ dim: 1 }).values, x.sort({ descending: true }).values] },
      { inputs: [of([3, 5])], f: (x) => [x.quantile([0.1, 0.7]), x.nanquantile(0.4, { dim: 0 })], tolerance: 1e-5 },
      { inputs: [of([3, 5])], f: (x) => [x.median(), x.median(0).values, x.nanmedian(1).values] },
    ],
    searchsorted: {
      inputs: [ints([1, 3, 5, 5, 9, 2, 4, 4, 8, 9], [2, 5]), ints([5, 0, 10, 4, 4, 9], [2, 3])],
      f: (sorted, values) => [
        sg.searchsorted(sorted, values),
        sg.searchsorted(sorted, values, { right: true }),
        values.bucketize(sorted.select(0, 0)),
      ],
      noGradient: stepwise,
    },
  },
};
