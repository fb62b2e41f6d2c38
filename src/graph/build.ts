import { isFloat } from "./dtype.ts";
import { type Attrs, Node, type OutputSpec } from "./node.ts";
import type { Op } from "./op.ts";
import { noteScalar } from "./pending.ts";
import { pickOp } from "./structural.ts";

let recording = true;
let noteScalars = true;

/** Whether ops record the graph of gradients now: false inside `noGrad`. */
export const isGradEnabled = (): boolean => recording;

/** Runs `fn` (sync or async) with recording of gradients on or off. */
export function withRecording<T>(on: boolean, fn: () => T): T {
  const before = recording;
  recording = on;
  const restore = (): void => void (recording = before);
  let result: T;
  try {
    result = fn();
  } catch (error) {
    restore();
    throw error;
  }
  if (result instanceof Promise) return result.finally(restore) as T;
  restore();
  return result;
}

/** Runs `fn` (sync or async) without recording gradients, and returns its result: `noGrad(() => model.forward(x))`. */
export const noGrad = <T>(fn: () => T): T => withRecording(false, fn);

/** Runs `fn` without adding its 0-d results to the next flush. For code whose intermediates nobody else reads. */
export function untracked<T>(fn: () => T): T {
  const before = noteScalars;
  noteScalars = false;
  try {
    return fn();
  } finally {
    noteScalars = before;
  }
}

const records = (op: Op, src: readonly Node[]): boolean =>
  recording && (op.vjp !== undefined || op.fallback !== undefined) && src.some((s) => s.requiresGrad);

/** The node of an op with one output. */
export function buildNode(
  op: Op,
  src: readonly Node[],
  attrs: Attrs,
  shape: readonly number[],
  dtype: OutputSpec["dtype"],
): Node {
  const node = new Node(op, src, attrs, shape, dtype);
  node.requiresGrad = isFloat(dtype) && records(op, src);
  if (shape.includes(0)) realizeEmpty(node);
  if (noteScalars && shape.length === 0 && src.length > 0) noteScalar(node);
  return node;
}

/** The outputs of an op with several outputs. */
export function buildNodes(op: Op, src: readonly Node[], attrs: Attrs, outputs: readonly OutputSpec[]): Node[] {
  const node = new Node(op, src, attrs, outputs[0].shape, outputs[0].dtype, outputs);
  node.requiresGrad = records(op, src);
  return outputs.map((_, i) => pickNode(node, i));
}

/** Output `i` of a node with several outputs. */
export function pickNode(node: Node, i: number): Node {
  const { shape, dtype } = node.outputs![i];
  const out = new Node(pickOp, [node], { output: i }, shape, dtype);
  out.requiresGrad = node.requiresGrad && isFloat(dtype);
  if (shape.includes(0)) realizeEmpty(out);
  return out;
}

/** A value without elements needs no kernel: it is there at once. It keeps its sources if gradients pass through it. */
function realizeEmpty(node: Node): void {
  node.host = new Float32Array(0);
  node.forgetSources();
}
