import type { Tensor } from "../../../src/index.ts";
import { gru, lstm, rnn } from "../../../src/ops/recurrent.ts";
import { type Family, of } from "./sample.ts";

// [T, N, gates H], states [N, H], weight [gates H, H] with T = 3, N = 2, H = 2.
const tolerance = 2e-5;
const plain = [of([2, 2]), of([2, 2])];

export const recurrent: Family = {
  given: {
    gru: {
      inputs: [of([3, 2, 6]), of([2, 2]), of([6, 2]), of([6])],
      f: (x, h, w, b) => [gru(x, h, w, b, { reverse: false }), gru(x, h, w, undefined, { reverse: true })],
      tolerance,
    },
    lstm: {
      inputs: [of([3, 2, 8]), of([2, 2]), of([2, 2]), of([8, 2]), of([2, 2])],
      f: (x, h, c, w, p): Tensor[] => [
        ...lstm(x, h, c, w, undefined, { reverse: false }),
        ...lstm(x, h, c, w, p, { reverse: true }),
      ],
      tolerance,
    },
    rnn: {
      inputs: [of([3, 2, 2]), ...plain],
      f: (x, h, w) => [
        rnn(x, h, w, { reverse: false, nonlinearity: "tanh" }),
        rnn(x.mul(2), h, w, { reverse: true, nonlinearity: "relu" }),
      ],
      tolerance,
    },
  },
};
