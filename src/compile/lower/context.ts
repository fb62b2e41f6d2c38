import type { BufferRef, CompileTarget, FusedNames, LowerContext, Operand, Temp } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { operandOf } from "../expression/operand.ts";
import { bytesOf, windowOf } from "../expression/window.ts";

/** A scratch buffer of at least `bytes`. */
export function makeTemp(bytes: number): Temp {
  return { temp: true, bytes: Math.max(16, Math.ceil(bytes / 16) * 16) };
}

/** The context for lowering `node`. With "ask", the tuner records cases without an answer as questions. */
export function lowerContext(
  node: Node,
  { info, tuner }: CompileTarget,
  fused?: FusedNames,
  how: "choose" | "ask" = "choose",
): LowerContext {
  const limit = info.maxBindingBytes;
  return {
    device: info,
    operand: (i) => windowed(operandOf(node, i, limit), limit),
    output: (i = 0): BufferRef => (node.outputs ? { node, output: i } : node),
    temp: makeTemp,
    window: (ref, dtype, first, last) => windowOf(ref, dtype, first, last).node,
    choose: (template, signature, candidates) => tuner[how](node, template, signature, candidates, fused ?? {}),
  };
}

/** Restricts a view of a buffer larger than a binding to a window of the elements that it reads. */
function windowed(view: Operand, limit: number): Operand {
  const { buffer, shape, strides, offset } = view;
  if (bytesOf(buffer) <= limit) return view;
  const ends = strides.map((s, d) => s * (shape[d] - 1));
  const sum = (list: number[]): number => list.reduce((a, b) => a + b, offset);
  const { node, start } = windowOf(
    buffer,
    buffer.dtype,
    sum(ends.filter((e) => e < 0)),
    sum(ends.filter((e) => e > 0)),
  );
  return { ...view, buffer: node, offset: offset - start };
}
