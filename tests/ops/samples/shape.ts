import { every, type Family, of } from "./sample.ts";

export const shape: Family = {
  given: {
    diagonal: {
      inputs: [of([3, 4, 5])],
      f: (x) => [x.diagonal({ offset: -1, dim1: 2, dim2: 0 }), x.square().select(0, 1).diag(1)],
      dtypes: every,
    },
  },
};
