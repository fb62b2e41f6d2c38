import { notePlace } from "./anomaly.ts";
import { checkDevice } from "./device-of.ts";
import { isFloat } from "./dtype.ts";
import { type Attrs, Node, type OutputSpec } from "./node.ts";
import type { Op } from "./op.ts";
import { noteScalar } from "./pending.ts";
import { isGradEnabled } from "./recording.ts";
import { numel, show } from "./shape.ts";
import { pickOp } from "./structural.ts";

let noteScalars = true;

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
  isGradEnabled() && (op.vjp !== undefined || op.fallback !== undefined) && src.some((s) => s.requiresGrad);

const MOST = 2 ** 32 - 1; // elements of a tensor

/** The node of an op with one output. */
export function buildNode(
  op: Op,
  src: readonly Node[],
  attrs: Attrs,
  shape: readonly number[],
  dtype: OutputSpec["dtype"],
): Node {
  checkDevice(op.name, src);
  const node = new Node(op, src, attrs, shape, dtype);
  node.requiresGrad = isFloat(dtype) && records(op, src);
  notePlace(node);
  const count = numel(shape);
  if (count === 0) realizeEmpty(node);
  if (count > MOST)
    throw new RangeError(
      `${op.name}: ${show(shape)} has ${count} elements: expected at most ${MOST}, as positions have 32 bits`,
    );
  if (noteScalars && shape.length === 0 && src.length > 0) noteScalar(node);
  return node;
}

/** The outputs of an op with several outputs. */
export function buildNodes(op: Op, src: readonly Node[], attrs: Attrs, outputs: readonly OutputSpec[]): Node[] {
  checkDevice(op.name, src);
  const node = new Node(op, src, attrs, outputs[0].shape, outputs[0].dtype, outputs);
  node.requiresGrad = records(op, src);
  notePlace(node);
  return outputs.map((_, i) => pickNode(node, i));
}

/** Output `i` of a node with several outputs. */
export function pickNode(node: Node, i: number): Node {
  const { shape, dtype } = node.outputs![i];
  const out = new Node(pickOp, [node], { output: i }, shape, dtype);
  out.requiresGrad = node.requiresGrad && isFloat(dtype);
  notePlace(out);
  if (shape.includes(0)) realizeEmpty(out);
  return out;
}

/** A value without elements needs no kernel: it is there at once. It keeps its sources if gradients pass through it. */
function realizeEmpty(node: Node): void {
  node.host = new Float64Array(0); // read in the array type of its dtype
  node.forgetSources();
}
