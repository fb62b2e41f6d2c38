import { numel } from "../graph/shape.ts";
import { tensor } from "../ops/functional.ts";
import { assign, flush } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { withoutRecording } from "./optimizer.ts";

export interface LBFGSOptions {
  /** Step size; with a line search its first guess. Default 1. */
  lr?: number;
  /** Iterations per `step`. Default 20. */
  maxIter?: number;
  /** Evaluations of the closure per `step`. Default 1.25 maxIter. */
  maxEval?: number;
  /** Ends when no element of the gradient is larger. Default 1e-7. */
  toleranceGrad?: number;
  /** Ends when step or loss change by less. Default 1e-9. */
  toleranceChange?: number;
  /** Earlier steps that shape the direction. Default 100. */
  historySize?: number;
  /** Step sizes by the strong Wolfe conditions, or `lr`. Default "none". */
  lineSearch?: "none" | "strong_wolfe";
}

type Vector = Float64Array;
/** Loss and gradient at one point. */
interface Point {
  readonly loss: number;
  readonly g: Vector;
}

/**
 * Limited-memory BFGS (Liu and Nocedal 1989), as torch.optim.LBFGS. `step` takes a closure that clears the gradients, computes
 * the loss, calls `backward` and returns the loss; it runs several times per step. Vectors are f64 on the host: for problems of
 * up to some million parameters.
 * @example
 * await new LBFGS(model.parameters(), { lineSearch: "strong_wolfe" }).step(() => {
 *   const loss = mseLoss(model.forward(x), y);
 *   loss.backward();
 *   return loss;
 * });
 */
export class LBFGS {
  readonly #params: readonly Tensor[];
  readonly #options: Required<LBFGSOptions>;
  readonly #pairs: { s: Vector; y: Vector; rho: number }[] = [];
  #iterations = 0;
  #direction?: Vector;
  #size = 0;
  #previous?: Vector;
  #scale = 1;

  constructor(params: Iterable<Tensor>, options: LBFGSOptions = {}) {
    const { lr = 1, maxIter = 20, toleranceGrad = 1e-7, toleranceChange = 1e-9, historySize = 100 } = options;
    const { maxEval = Math.floor(maxIter * 1.25), lineSearch = "none" } = options;
    const known = { lr, maxIter, maxEval, toleranceGrad, toleranceChange, historySize, lineSearch };
    for (const key of Object.keys(options))
      if (!(key in known))
        throw new TypeError(`LBFGS: unknown option ${key}; options: ${Object.keys(known).join(", ")}`);
    for (const [key, value] of Object.entries({ lr, toleranceGrad, toleranceChange }))
      if (!(Number.isFinite(value) && value >= 0))
        throw new RangeError(`LBFGS: ${key} must be finite and >= 0, got ${value}`);
    for (const [key, value] of Object.entries({ maxIter, maxEval, historySize }))
      if (!(Number.isInteger(value) && value >= 1))
        throw new RangeError(`LBFGS: ${key} must be a whole number >= 1, got ${value}`);
    if (lineSearch !== "none" && lineSearch !== "strong_wolfe")
      throw new TypeError(`LBFGS: lineSearch must be "none" or "strong_wolfe", got ${JSON.stringify(lineSearch)}`);
    this.#params = [...params].filter((p) => p.requiresGrad);
    if (this.#params.length === 0)
      throw new Error("LBFGS: no parameters to train: the list is empty, or all parameters are frozen");
    this.#options = known;
  }

  /** Clears the gradients. */
  zeroGrad(): void {
    for (const p of this.#params) p.grad = null;
  }

  /** Minimises the loss of `closure` by up to `maxIter` iterations. Returns the loss before them. */
  async step(closure: () => Tensor | Promise<Tensor>): Promise<number> {
    const { lr, maxIter, maxEval, toleranceGrad, toleranceChange, lineSearch } = this.#options;
    let x = await this.#read((p) => p);
    let evaluations = 0;
    const at = async (point: Vector): Promise<Point> => {
      evaluations++;
      await this.#write(point);
      this.zeroGrad();
      const loss = await closure();
      const g = await this.#read((p) => p.grad);
      return { loss: await loss.item(), g };
    };
    let here = await at(x);
    const first = here.loss;
    for (let i = 0; i < maxIter && largest(here.g) > toleranceGrad; i++) {
      this.#iterations++;
      const d = this.#nextDirection(here.g);
      this.#previous = here.g;
      this.#direction = d;
      let t = this.#iterations === 1 ? Math.min(1, 1 / here.g.reduce((sum, v) => sum + Math.abs(v), 0)) * lr : lr;
      const slope = dot(here.g, d);
      if (slope > -toleranceChange) break;
      const before = here.loss;
      if (lineSearch === "strong_wolfe") {
        const start = x;
        const found = await strongWolfe(
          (size) => at(plus(start, d, size)),
          t,
          largest(d),
          here,
          slope,
          (g) => dot(g, d),
        );
        t = found.t;
        x = plus(x, d, t);
        here = found.point;
      } else {
        x = plus(x, d, t);
        // The last iteration's point is not evaluated: the next step begins there.
        if (i < maxIter - 1) here = await at(x);
      }
      this.#size = t;
      if (evaluations >= maxEval || t * largest(d) <= toleranceChange || Math.abs(here.loss - before) < toleranceChange)
        break;
    }
    await this.#write(x);
    return first;
  }

  /** The quasi-Newton direction at gradient g: two loops over the history. */
  #nextDirection(g: Vector): Vector {
    if (this.#direction && this.#previous) {
      const y = plus(g, this.#previous, -1);
      const s = this.#direction.map((v) => v * this.#size);
      const ys = dot(y, s);
      if (ys > 1e-10) {
        if (this.#pairs.length === this.#options.historySize) this.#pairs.shift();
        this.#pairs.push({ s, y, rho: 1 / ys });
        this.#scale = ys / dot(y, y);
      }
    }
    let q: Vector = g.map((v) => -v);
    const alphas = this.#pairs.map(() => 0);
    for (let i = this.#pairs.length - 1; i >= 0; i--) {
      const { s, y, rho } = this.#pairs[i];
      alphas[i] = rho * dot(s, q);
      q = plus(q, y, -alphas[i]);
    }
    let r: Vector = q.map((v) => v * this.#scale);
    for (const [i, { s, y, rho }] of this.#pairs.entries()) r = plus(r, s, alphas[i] - rho * dot(y, r));
    return r;
  }

  /** Parameters, or their gradients (0 where one has none), as one vector. */
  async #read(of: (p: Tensor) => Tensor | null): Promise<Vector> {
    const parts = this.#params.map(of);
    await flush(...parts.filter((t) => t !== null));
    const out = new Float64Array(this.#params.reduce((n, p) => n + p.numel, 0));
    let start = 0;
    for (const [i, part] of parts.entries()) {
      if (part) out.set(await part.data(), start);
      start += this.#params[i].numel;
    }
    return out;
  }

  async #write(x: Vector): Promise<void> {
    let start = 0;
    withoutRecording(() => {
      for (const p of this.#params) {
        const size = numel(p.shape);
        assign(p, tensor(Float32Array.from(x.subarray(start, start + size)), { shape: p.shape, dtype: p.dtype }));
        start += size;
      }
    });
    await flush();
  }
}

const dot = (a: Vector, b: Vector): number => a.reduce((sum, v, i) => sum + v * b[i], 0);
const plus = (a: Vector, b: Vector, scale: number): Vector => a.map((v, i) => v + scale * b[i]);
const largest = (a: Vector): number => a.reduce((most, v) => Math.max(most, Math.abs(v)), 0);

interface Trial {
  readonly t: number;
  readonly point: Point;
  readonly slope: number;
}

/** A step size that meets the strong Wolfe conditions: Nocedal and Wright, Numerical Optimization, algorithms 3.5 and 3.6. */
async function strongWolfe(
  at: (t: number) => Promise<Point>,
  guess: number,
  length: number,
  start: Point,
  slope: number,
  slopeOf: (g: Vector) => number,
): Promise<{ t: number; point: Point }> {
  const [decrease, curvature, most] = [1e-4, 0.9, 25];
  const tryAt = async (t: number): Promise<Trial> => {
    const point = await at(t);
    return { t, point, slope: slopeOf(point.g) };
  };
  const tooHigh = ({ t, point }: Trial): boolean => point.loss > start.loss + decrease * t * slope;
  const flat = (trial: Trial): boolean => Math.abs(trial.slope) <= -curvature * slope;
  let previous: Trial = { t: 0, point: start, slope };
  let trial = await tryAt(guess);
  let bracket: [low: Trial, high: Trial] | undefined;
  let steps = 0;
  for (; steps < most; steps++) {
    if (tooHigh(trial) || (steps > 0 && trial.point.loss >= previous.point.loss)) {
      bracket = [previous, trial];
      break;
    }
    if (flat(trial)) return trial;
    if (trial.slope >= 0) {
      bracket = [previous, trial];
      break;
    }
    const [least, far] = [trial.t + 0.01 * (trial.t - previous.t), trial.t * 10];
    const next = await tryAt(cubicMinimum(previous, trial, least, far));
    previous = trial;
    trial = next;
  }
  bracket ??= [{ t: 0, point: start, slope }, trial];
  let [low, high] = bracket[0].point.loss <= bracket[1].point.loss ? bracket : [bracket[1], bracket[0]];
  let stuck = false;
  for (; steps < most; steps++) {
    if (Math.abs(high.t - low.t) * length < 1e-9) break;
    const [left, right] = low.t < high.t ? [low.t, high.t] : [high.t, low.t];
    let t = cubicMinimum(low, high, left, right);
    // A minimum near an end of the bracket twice in a row: a tenth of the bracket away from it.
    const margin = 0.1 * (right - left);
    if (Math.min(right - t, t - left) < margin) {
      if (stuck || t >= right || t <= left) {
        t = Math.abs(t - right) < Math.abs(t - left) ? right - margin : left + margin;
        stuck = false;
      } else stuck = true;
    } else stuck = false;
    const next = await tryAt(t);
    if (tooHigh(next) || next.point.loss >= low.point.loss) {
      high = next;
      if (high.point.loss < low.point.loss) [low, high] = [high, low];
      continue;
    }
    if (flat(next)) return next;
    if (next.slope * (high.t - low.t) >= 0) high = low;
    low = next;
  }
  return low;
}

/** Minimum within [least, most] of the cubic through two points with their slopes. */
function cubicMinimum(a: Trial, b: Trial, least: number, most: number): number {
  const d1 = a.slope + b.slope - (3 * (a.point.loss - b.point.loss)) / (a.t - b.t);
  const square = d1 * d1 - a.slope * b.slope;
  if (!(square >= 0)) return (least + most) / 2;
  const d2 = Math.sqrt(square);
  const [p, q] = a.t <= b.t ? [a, b] : [b, a];
  const t = q.t - (q.t - p.t) * ((q.slope + d2 - d1) / (q.slope - p.slope + 2 * d2));
  return Math.min(Math.max(t, least), most);
}
