import * as sg from "../../../src/index.ts";
import { box, every, type Family, ints, of, type Sample } from "./sample.ts";

const whole = "integers";
const [a, b] = [ints([3, -2, 7, 46_341, -1, 0, 2 ** 31 - 1]), ints([4, 31, 0, 2, 3, 33, -5])];
const bits = (f: Sample["f"]): Sample[] => [
  { inputs: [a, b], f, noGradient: whole },
  { inputs: [a, b], f: (x, y) => f(x.to("u32"), y.abs().to("u32")), noGradient: whole },
  { inputs: [a, b], f: (x, y) => f(x.gt(0), y.gt(2)), noGradient: whole },
];

export const elementwise: Family = {
  given: {
    binary_cross_entropy: {
      inputs: [of(box, 0.1, 0.9), of(box, 0.1, 0.9)],
      f: (x, y) => sg.binaryCrossEntropy(x, y, { reduction: "none" }),
    },
    bitwise_and: bits((x, y) => [x.bitwiseAnd(y), x.bitwiseAnd(6)]),
    bitwise_left_shift: bits((x, y) => [x.bitwiseLeftShift(y), x.bitwiseLeftShift(40)]),
    bitwise_not: bits((x) => x.bitwiseNot()),
    bitwise_or: bits((x, y) => [x.bitwiseOr(y), x.bitwiseOr(6)]),
    bitwise_right_shift: bits((x, y) => [x.bitwiseRightShift(y), x.bitwiseRightShift(3)]),
    bitwise_xor: bits((x, y) => [x.bitwiseXor(y), x.bitwiseXor(6)]),
    floor_divide: [
      { inputs: [of(box, -9, 9), of(box, 0.6, 0.7)], f: (x, y) => x.floorDivide(y), noGradient: "steps" },
      { inputs: [ints([-7, 7, -8, 5]), ints([2, -2, 4, 3])], f: (x, y) => x.floorDivide(y), noGradient: whole },
      { inputs: [ints([7, 8, 5])], f: (x) => x.to("u32").floorDivide(3), noGradient: whole },
    ],
    fmod: [
      { inputs: [of(box, 0.8, 1.3), of(box, 0.6, 0.7)], f: (x, y) => x.fmod(y), broadcasts: true },
      { inputs: [of(box, -1.3, -0.8), of(box, 0.6, 0.7)], f: (x, y) => x.fmod(y) },
      { inputs: [ints([-7, 7, -8, 5]), ints([2, -2, 4, 3])], f: (x, y) => x.fmod(y), noGradient: whole },
    ],
    integer_pow: {
      inputs: [ints([3, -2, 7, 46_341, -1, 0, 5]), ints([4, 31, 0, 2, 3, 2, 13])],
      f: (x, y) => [x.pow(y), x.pow(5), x.to("u32").pow(y.to("u32"))],
      noGradient: whole,
    },
    integer_quotient: {
      inputs: [ints([-7, 7, -8, 5])],
      f: (x) => x.div(3, { roundingMode: "trunc" }),
      noGradient: whole,
    },
    logit: { inputs: [of(box, 0.05, 0.95)], f: (x) => [x.logit(), x.logit(0.2)], dtypes: ["f16"] },
    logit_cross_entropy: {
      inputs: [of(box, -3, 3), of(box, 0.1, 0.9)],
      f: (x, y) => sg.binaryCrossEntropyWithLogits(x, y, { reduction: "none" }),
    },
    trunc_divide: [
      {
        inputs: [of(box, -9, 9), of(box, 0.6, 0.7)],
        f: (x, y) => x.div(y, { roundingMode: "trunc" }),
        noGradient: "steps",
      },
      { inputs: [ints([-7, 7, -8, 5])], f: (x) => x.div(3, { roundingMode: "trunc" }), noGradient: whole },
    ],
    trunc: { inputs: [of(box, -4, 4)], f: (x) => x.trunc(), noGradient: "steps", dtypes: every },
  },
  domains: {
    acos: [[-0.9, 0.9]],
    acosh: [[1.1, 3]],
    asin: [[-0.9, 0.9]],
    atanh: [[-0.9, 0.9]],
    copysign: [
      [0.1, 2],
      [0.1, 2],
    ],
    erfinv: [[-0.9, 0.9]],
    log10: [[0.2, 2]],
    log1p: [[-0.5, 2]],
    log2: [[0.2, 2]],
    xlogy: [
      [0.2, 2],
      [0.2, 2],
    ],
  },
};
