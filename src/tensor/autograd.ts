import { pickNode, untracked, withRecording } from "../graph/build.ts";
import { isFloat } from "../graph/dtype.ts";
import { restoreGenerator, saveGenerator } from "../graph/generator.ts";
import type { Node } from "../graph/node.ts";
import { sameShape, show } from "../graph/shape.ts";
import { pickOp } from "../graph/structural.ts";
import { full } from "../ops/constant.ts";
import { afterOp } from "../ops/elementwise.ts";
import { expand } from "../ops/movement.ts";
import { alias, apply, Tensor } from "./tensor.ts";

/** The tensor whose `.grad` a leaf node's gradient goes to. */
const owners = new WeakMap<Node, Tensor>();
export const setOwner = (node: Node, tensor: Tensor): void => void owners.set(node, tensor);
export const isLeafNode = (node: Node): boolean =>
  node.op.kind === "leaf" || node.op.kind === "assign" || owners.has(node);

/** Outputs of checkpointed functions: how to build them again, late. */
const recomputations = new WeakMap<Node, (g: Tensor) => Tensor>();

type Gradient = Tensor | (Tensor | null)[];

/**
 * The reverse walk. Sources have smaller ids than their users, so taking the largest id first visits a node
 * after all its users; what the walk itself adds (fallbacks, recomputed checkpoints) has larger ids still.
 */
class ReverseWalk {
  private readonly grads = new Map<Node, Gradient>();
  private readonly heap: Node[] = [];

  /** `arrive` is told the finished gradient of every node. */
  constructor(private readonly arrive: (node: Node, g: Tensor) => void) {}

  /** Adds to the gradient of a node (of one `output`, when it has several). */
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

  private step(node: Node, g: Gradient): void {
    if (!Array.isArray(g)) this.arrive(node, g);
    if (isLeafNode(node)) return;
    const { op, attrs, src } = node;
    if (op === pickOp) return this.push(src[0], g as Tensor, attrs.output as number);
    const again = recomputations.get(node);
    if (again) return this.push(withRecording(true, () => again(g as Tensor)).node, g as Tensor);
    const x = src.map((s) => new Tensor(s));
    if (op.vjp) {
      const y = node.outputs ? node.outputs.map((_, i) => new Tensor(pickNode(node, i))) : new Tensor(node);
      op.vjp(g, y, x, attrs).forEach((gx, i) => gx && this.push(src[i], gx));
      return;
    }
    // A fused op without a derivative of its own is its fallback: walk on through that.
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
      throw new Error("backward: the tensor does not require grad: nothing it is made of has requiresGrad set");
    if (!gradient && output.numel !== 1) {
      throw new Error(
        `backward: a gradient is needed for an output of shape ${show(output.shape)} (only scalars have an implicit one)`,
      );
    }
    if (gradient && !sameShape(gradient.shape, output.shape)) {
      throw new Error(
        `backward: gradient ${show(gradient.shape)} does not have the output's shape ${show(output.shape)}`,
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

/** Adds the gradients of `output` to `.grad` of every leaf that requires one. Builds nodes, computes nothing. */
export function backward(output: Tensor, gradient?: Tensor, { createGraph = false } = {}): void {
  const leaves: [Tensor, Tensor][] = [];
  ReverseWalk.from(output, gradient, createGraph, (node, g) => {
    const owner = owners.get(node);
    if (owner) leaves.push([owner, g]);
  });
  // After the walk, so that a failing vjp leaves every .grad as it was.
  untracked(() => withRecording(createGraph, () => leaves.forEach(([t, g]) => (t.grad = t.grad ? t.grad.add(g) : g))));
}

export interface GradOptions {
  /** Records the gradients' own graph, for gradients of gradients. */
  createGraph?: boolean;
  /** Default 1, for an output of one element. */
  gradOutput?: Tensor;
  /** Gives null, rather than an error, for inputs that the output does not depend on. */
  allowUnused?: boolean;
}

/** Gradients of `output` with respect to `inputs` (leaves or not); `.grad` stays untouched. */
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
      throw new Error(`grad: the output does not depend on input ${i} (or that does not require grad)`);
    return g;
  });
}

/**
 * fn(...inputs), whose intermediates are computed again in backward rather than kept.
 * Parameters that `fn` captures receive their gradients as usual; random numbers come out the same.
 */
export function checkpoint(fn: (...inputs: Tensor[]) => Tensor, ...inputs: Tensor[]): Tensor {
  const generator = saveGenerator();
  const first = fn(...inputs);
  if (!first.requiresGrad) return first;
  const result = alias(first);
  recomputations.set(result.node, (g) => {
    // The copies depend on the arriving gradient, so they are neither merged with the first run nor computed early.
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

/** The same value as a leaf of its own, without history. */
export const detach = (x: Tensor): Tensor => withRecording(false, () => alias(x));
