import { asGradientOf } from "../graph/anomaly.ts";
import { pickNode, untracked } from "../graph/build.ts";
import { isFloat } from "../graph/dtype.ts";
import { restoreGenerator, saveGenerator } from "../graph/generator.ts";
import type { Node } from "../graph/node.ts";
import { withRecording } from "../graph/recording.ts";
import { sameShape, show } from "../graph/shape.ts";
import { pickOp } from "../graph/structural.ts";
import { full } from "../ops/constant.ts";
import { afterOp } from "../ops/elementwise.ts";
import { expand } from "../ops/movement.ts";
import { alias, apply, Tensor } from "./tensor.ts";

/** The tensor that collects the gradient of a leaf node in its `.grad`. */
const owners = new WeakMap<Node, Tensor>();
export const setOwner = (node: Node, tensor: Tensor): void => void owners.set(node, tensor);
export const isLeafNode = (node: Node): boolean =>
  node.op.kind === "leaf" || node.op.kind === "assign" || owners.has(node);

/** Receives a tensor's complete gradient. The tensor that it returns replaces the gradient. */
export type GradientHook = (gradient: Tensor) => Tensor | undefined;

/** Hooks by the tensor that owns a leaf, or by the node of another tensor. */
const hooks = new WeakMap<Tensor | Node, Set<{ readonly hook: GradientHook }>>();

/**
 * Calls `hook` with the gradient of `x` in every later walk, before it goes on to the tensors that x was computed from.
 * Hooks run in the order in which they were added. Returns a handle whose `remove` takes the hook away.
 * @throws if x does not require grad
 */
export function registerHook(x: Tensor, hook: GradientHook): { remove(): void } {
  if (!x.requiresGrad)
    throw new Error(
      "registerHook: the tensor does not require grad: set requiresGrad, or call it on a tensor computed from one that does",
    );
  const key = owners.get(x.node) ?? x.node;
  const entry = { hook };
  const list = hooks.get(key) ?? new Set();
  hooks.set(key, list.add(entry));
  return { remove: () => void list.delete(entry) };
}

/** The gradient of a node after its hooks. */
function hooked(node: Node, g: Tensor): Tensor {
  const list = hooks.get(owners.get(node) ?? node);
  if (!list) return g;
  let current = g;
  for (const { hook } of list) {
    const next = hook(current);
    if (!next) continue;
    if (!sameShape(next.shape, g.shape))
      throw new Error(`registerHook: a hook returned ${show(next.shape)} for a gradient ${show(g.shape)}`);
    current = next;
  }
  return current;
}

/** For outputs of checkpointed functions: rebuilds the output, given its gradient. */
const recomputations = new WeakMap<Node, (g: Tensor) => Tensor>();

type Gradient = Tensor | (Tensor | null)[];

/**
 * Reverse mode: visits every node after all its users, and passes its gradient to its sources. A source has a smaller id
 * than its users, so taking the largest id first is such an order. Nodes that the walk itself builds (fallbacks,
 * recomputed checkpoints) have larger ids than all others, so they come first.
 */
class ReverseWalk {
  private readonly grads = new Map<Node, Gradient>();
  private readonly heap: Node[] = [];

  /** `arrive` receives the complete gradient of every node. */
  constructor(private readonly arrive: (node: Node, g: Tensor) => void) {}

  /** Adds to the gradient of a node, or of one `output` of a node with several. */
  push(node: Node, g: Tensor, output = 0): void {
    if (!node.requiresGrad) return;
    const known = this.grads.get(node);
    if (!known) this.enqueue(node);
    if (node.outputs) {
      const list = (known as (Tensor | null)[] | undefined) ?? node.outputs.map(() => null);
      list[output] = list[output]?.add(g) ?? g;
      this.grads.set(node, list);
    } else {
      this.grads.set(node, known ? (known as Tensor).add(g) : g);
    }
  }

  run(): void {
    for (let node = this.dequeue(); node; node = this.dequeue()) {
      const g = this.grads.get(node)!;
      this.grads.delete(node);
      this.step(node, g);
    }
  }

  private step(node: Node, arrived: Gradient): void {
    const g = Array.isArray(arrived) ? arrived : hooked(node, arrived);
    if (!Array.isArray(g)) this.arrive(node, g);
    if (isLeafNode(node)) return;
    const { op, attrs, src } = node;
    if (op === pickOp) return this.push(src[0], g as Tensor, attrs.output as number);
    const recompute = recomputations.get(node);
    if (recompute) return this.push(withRecording(true, () => recompute(g as Tensor)).node, g as Tensor);
    const x = src.map((s) => new Tensor(s));
    if (op.vjp) {
      const y = node.outputs ? node.outputs.map((_, i) => new Tensor(pickNode(node, i))) : new Tensor(node);
      asGradientOf(node, () => op.vjp!(g, y, x, attrs)).forEach((gx, i) => gx && this.push(src[i], gx));
      return;
    }
    // A fused op without a vjp is differentiated through its fallback.
    const y = withRecording(true, () => op.fallback!(x, attrs));
    [y].flat().forEach((t, i) => {
      const gi = Array.isArray(g) ? g[i] : g;
      if (gi) this.push(t.node, gi);
    });
  }

  private enqueue(node: Node): void {
    const { heap } = this;
    let i = heap.push(node) - 1;
    for (let up = (i - 1) >> 1; i > 0 && heap[up].id < node.id; up = (i - 1) >> 1) {
      heap[i] = heap[up];
      i = up;
    }
    heap[i] = node;
  }

  private dequeue(): Node | undefined {
    const { heap } = this;
    const top = heap[0];
    const last = heap.pop();
    if (!last || heap.length === 0) return top;
    let i = 0;
    for (;;) {
      let down = 2 * i + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && heap[down + 1].id > heap[down].id) down++;
      if (heap[down].id < last.id) break;
      heap[i] = heap[down];
      i = down;
    }
    heap[i] = last;
    return top;
  }

  static from(
    output: Tensor,
    gradient: Tensor | undefined,
    createGraph: boolean,
    arrive: (node: Node, g: Tensor) => void,
  ): void {
    if (!output.requiresGrad)
      throw new Error(
        "backward: the tensor does not require grad: set requiresGrad on a tensor that it is computed from, outside noGrad",
      );
    if (!gradient && output.numel !== 1) {
      throw new Error(
        `backward: a gradient is needed for an output of shape ${show(output.shape)}: pass one of that shape, or reduce the output to one element`,
      );
    }
    if (gradient && !sameShape(gradient.shape, output.shape)) {
      throw new Error(
        `backward: gradient ${show(gradient.shape)} does not have the output's shape ${show(output.shape)}: both must be equal`,
      );
    }
    untracked(() =>
      withRecording(createGraph, () => {
        const walk = new ReverseWalk(arrive);
        walk.push(output.node, gradient ?? full(output.shape, 1, output.dtype));
        walk.run();
      }),
    );
  }
}

/** Adds the gradients of `output` to `.grad` of every leaf that requires one. Builds nodes and computes nothing. */
export function backward(output: Tensor, gradient?: Tensor, { createGraph = false } = {}): void {
  const leaves: [Tensor, Tensor][] = [];
  ReverseWalk.from(output, gradient, createGraph, (node, g) => {
    const owner = owners.get(node);
    if (owner) leaves.push([owner, g]);
  });
  // After the walk: a vjp that throws leaves every .grad as it was.
  untracked(() => withRecording(createGraph, () => leaves.forEach(([t, g]) => (t.grad = t.grad ? t.grad.add(g) : g))));
}

export interface GradOptions {
  /** Records the gradients' own graph, for gradients of gradients. */
  createGraph?: boolean;
  /** Gradient of the output, in its shape. Default 1 for an output of one element. */
  gradOutput?: Tensor;
  /** Returns null, instead of an error, for inputs that the output does not depend on. */
  allowUnused?: boolean;
}

/**
 * Gradients of `output` with respect to `inputs`, which need not be leaves. Leaves every `.grad` as it is.
 * @throws if the output does not depend on an input, unless `allowUnused`.
 * @example const [dx] = grad(y, [x], { createGraph: true })
 */
export function grad(
  output: Tensor,
  inputs: readonly Tensor[],
  options?: GradOptions & { allowUnused?: false },
): Tensor[];
export function grad(output: Tensor, inputs: readonly Tensor[], options: GradOptions): (Tensor | null)[];
export function grad(output: Tensor, inputs: readonly Tensor[], options: GradOptions = {}): (Tensor | null)[] {
  const { createGraph = false, gradOutput, allowUnused = false } = options;
  const wanted = new Map<Node, Tensor | null>(inputs.map((t) => [t.node, null]));
  ReverseWalk.from(output, gradOutput, createGraph, (node, g) => wanted.has(node) && wanted.set(node, g));
  return inputs.map((t, i) => {
    const g = wanted.get(t.node) ?? null;
    if (!g && !allowUnused)
      throw new Error(
        `grad: the output does not depend on input ${i}, or the input does not require grad: set requiresGrad, or pass allowUnused`,
      );
    return g;
  });
}

/**
 * fn(...inputs) with less memory: backward recomputes the intermediates of `fn` instead of keeping them.
 * Parameters that `fn` captures receive their gradients as usual. Random numbers repeat.
 * @example const y = checkpoint((x) => block.forward(x), x)
 */
export function checkpoint(fn: (...inputs: Tensor[]) => Tensor, ...inputs: Tensor[]): Tensor {
  const generator = saveGenerator();
  const first = fn(...inputs);
  if (!first.requiresGrad) return first;
  const result = alias(first);
  recomputations.set(result.node, (g) => {
    // The recomputed nodes depend on the gradient of the output. So the compiler neither merges them with the first run nor
    // computes them before backward.
    const signal = g.detach().flatten().narrow(0, 0, 1);
    const late = inputs.map((x) => {
      const after = expand(signal.to(x.dtype).reshape(x.shape.map(() => 1)), x.shape);
      return isFloat(x.dtype) ? apply(afterOp, [x, after], {}, x.shape, x.dtype) : x;
    });
    const current = saveGenerator();
    restoreGenerator(generator);
    try {
      return fn(...late);
    } finally {
      restoreGenerator(current);
    }
  });
  return result;
}

/** The same value without its graph. */
export const detach = (x: Tensor): Tensor => withRecording(false, () => alias(x));
