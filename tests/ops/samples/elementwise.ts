import { type Family, ints } from "./sample.ts";

export const elementwise: Family = {
  given: {
    integer_pow: {
      inputs: [ints([3, -2, 7, 46_341, -1, 0, 5]), ints([4, 31, 0, 2, 3, 2, 13])],
      f: (a, b) => [a.pow(b), a.pow(5), a.to("u32").pow(b.to("u32"))],
      noGradient: "integers",
    },
  },
};
