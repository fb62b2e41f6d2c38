import { show } from "../graph/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { where } from "./elementwise.ts";
import { logaddexp } from "./exponential.ts";
import { tensor } from "./leaf.ts";
import { checkLoss, type LossOptions, reduced } from "./loss.ts";
import { positionsAlong } from "./reduce.ts";

export interface CtcOptions extends LossOptions {
  /** The class that stands for no label. Default 0. */
  blank?: number;
  /** Losses of targets that do not fit into their inputs are 0, not infinite; so are their gradients. Default false. */
  zeroInfinity?: boolean;
}

/** Log-probability of states that cannot be reached: finite, because the gradient of log(0 + 0) is NaN. */
const NEVER = -1e30;

/** Whole numbers [N] in [0, most]. Host values are checked. */
function lengthsOf(name: string, lengths: Tensor | readonly number[], N: number, most: number): Tensor {
  const given = lengths instanceof Tensor ? lengths.reshape([-1]) : tensor(lengths as number[], { dtype: "i32" });
  if (given.dtype !== "i32" || given.shape[0] !== N)
    throw new Error(`ctcLoss: ${name} must be ${N} whole numbers (i32), got ${given.dtype} ${show(given.shape)}`);
  const bad = given.node.host?.find((n) => n < 0 || n > most);
  if (bad !== undefined) throw new RangeError(`ctcLoss: ${name} ${bad} is out of range: expected 0 to ${most}`);
  return given;
}

/** @throws if a label on the host, within its target's length, is no class, or is the blank. */
function checkLabels(labels: Tensor, sizes: Tensor, C: number, blank: number): void {
  const S = labels.shape[1];
  const [host, lengths] = [labels.node.host, sizes.node.host];
  host?.forEach((label, i) => {
    if (lengths && i % S >= lengths[Math.floor(i / S)]) return;
    if (lengths && (label < 0 || label >= C || label === blank))
      throw new RangeError(
        `ctcLoss: label ${label}: expected a class from 0 to ${C - 1} other than the blank ${blank}`,
      );
  });
}

/**
 * Connectionist temporal classification (https://www.cs.toronto.edu/~graves/icml_2006.pdf): -log of the probability of all
 * alignments of targets with inputs. Two reductions a time step, which end fusion: fused steps would compute earlier ones again.
 * @param logProbs [T, N, C] or [T, C], from logSoftmax
 * @param targets i32 [N, S] padded (or [S]), without blanks
 * @param inputLengths [N], at most T
 * @param targetLengths [N], at most S
 * @returns [], or [N] with reduction "none". The mean divides each loss by its target's length (at least 1) first.
 */
export function ctcLoss(
  logProbs: Tensor,
  targets: Tensor,
  inputLengths: Tensor | readonly number[],
  targetLengths: Tensor | readonly number[],
  options: CtcOptions = {},
): Tensor {
  checkLoss("ctcLoss", options, ["blank", "zeroInfinity"]);
  const { blank = 0, zeroInfinity = false, reduction = "mean" } = options;
  const batch = logProbs.ndim === 2 ? logProbs.unsqueeze(1) : logProbs;
  const labels = targets.ndim === 1 ? targets.unsqueeze(0) : targets;
  const [T, N, C] = batch.shape;
  if (batch.ndim !== 3 || labels.ndim !== 2 || labels.shape[0] !== N || T === 0)
    throw new Error(
      `ctcLoss: log-probabilities [T, N, C] and targets [N, S] expected, got ${show(logProbs.shape)} and ${show(targets.shape)}`,
    );
  if (labels.dtype !== "i32") throw new TypeError(`ctcLoss: targets must be i32, got ${labels.dtype}`);
  if (!Number.isInteger(blank) || blank < 0 || blank >= C)
    throw new RangeError(`ctcLoss: blank ${blank} is not a class of ${show(logProbs.shape)}`);
  const S = labels.shape[1];
  const steps = lengthsOf("inputLengths", inputLengths, N, T);
  const sizes = lengthsOf("targetLengths", targetLengths, N, S);

  checkLabels(labels, sizes, C, blank);

  const losses = alignments(batch.dtype === "f16" ? batch.to("f32") : batch, labels, steps, sizes, blank).neg();
  const impossible = losses.gt(-NEVER / 2);
  const finite = where(impossible, zeroInfinity ? 0 : Infinity, losses);
  if (reduction !== "mean") {
    const shaped = logProbs.ndim === 2 ? finite.reshape([]) : finite;
    return reduction === "none" ? shaped : shaped.sum();
  }
  return reduced(finite.div(sizes.maximum(1)), { reduction });
}

/** log of the probability of all alignments, [N]. The states of a target a b are: - a - b -, with - the blank. */
function alignments(logProbs: Tensor, labels: Tensor, steps: Tensor, sizes: Tensor, blank: number): Tensor {
  const [T, N] = logProbs.shape;
  const S = labels.shape[1];
  const states = 2 * S + 1;
  const position = positionsAlong(1, states, 2); // [1, states]
  // Of state 2k the blank, of state 2k + 1 label k.
  const spread = labels
    .unsqueeze(2)
    .expand([N, S, 2])
    .reshape([N, 2 * S]);
  const odd = position.mod(2).eq(1);
  const symbols = where(
    odd,
    spread.pad([
      [0, 0],
      [0, 1],
    ]),
    blank,
  ); // [N, states]
  // A label may follow another one without a blank between, unless both are equal.
  const before = spread.pad([
    [0, 0],
    [2, -1],
  ]);
  const skips = odd.logicalAnd(position.ge(2)).logicalAnd(symbols.ne(before));
  const observed = logProbs.gather(2, symbols.unsqueeze(0).expand([T, N, states])).maximum(NEVER); // [T, N, states]

  const allowed = positionsAlong(2, 3, 3).gt(0).logicalOr(skips.unsqueeze(2)); // [N, states, 3]

  const present = position.le(sizes.unsqueeze(1).mul(2)); // states of this target
  let alpha = where(position.le(1).logicalAnd(present), observed.select(0, 0), NEVER);
  for (let t = 1; t < T; t++) {
    const from = alpha
      .pad(
        [
          [0, 0],
          [2, 0],
        ],
        NEVER,
      )
      .unfold(1, 3, 1); // [N, states, 3]: two states before, one before, itself
    const reached = where(allowed, from, NEVER).logsumexp(-1);
    alpha = where(steps.gt(t).unsqueeze(1), reached.add(observed.select(0, t)), alpha);
  }
  const last = alpha.gather(1, sizes.mul(2).unsqueeze(1)).squeeze(1); // ends in a blank
  if (S === 0) return last;
  const label = alpha.gather(1, sizes.mul(2).sub(1).maximum(0).unsqueeze(1)).squeeze(1);
  return logaddexp(last, where(sizes.eq(0), NEVER, label));
}
