import { box, type Family, ints, of } from "./sample.ts";

const zeros = [0.5, 0, -2, 3, 1, 0, 0, 2, -1, 4, 0.25, 1];

export const scan: Family = {
  given: {
    scan: [
      { inputs: [of(box)], f: (x) => [x.cumsum(0), x.cumsum(1)], tolerance: 1e-5 },
      { inputs: [of(box, 0.5, 1.5)], f: (x) => [x.cumprod(0), x.cumprod(1), x.cumprod(-1)], tolerance: 1e-5 },
      { inputs: [ints(zeros, [3, 4], "f32")], f: (x) => x.cumprod(1), tolerance: 1e-5 },
      { inputs: [of(box, -3, 3)], f: (x) => [x.logcumsumexp(0), x.logcumsumexp(2)], tolerance: 1e-5 },
      {
        inputs: [of(box)],
        f: (x) => [x.cummax(1), x.cummin(-1)].flatMap(({ values, indices }) => [values, indices]),
        dtypes: ["i32", "u32"],
      },
      {
        inputs: [ints([3, -1, 3, 5, 5, 2, 0, -7], [2, 4])],
        f: (x) => [x.cumsum(0), x.cumprod(1), x.cummax(1).indices, x.cummin(0).indices],
        noGradient: "integers",
      },
    ],
  },
};
