import { castValue, castWgsl, type DType } from "./dtype.ts";
import type { Attrs } from "./node.ts";
import { type Op, registerOp } from "./op.ts";

// Ops of the graph itself, defined below the layer of ops/.

/** A value from outside the graph. Its data is not part of a plan's key. */
export const leafOp = registerOp<Op>({ name: "leaf", kind: "leaf" });

/** The value that a leaf gets in place at the next flush. */
export const assignOp = registerOp<Op>({ name: "assign", kind: "assign", vjp: () => [null], reference: ([x]) => x });

/** One output of a node with several outputs. */
export const pickOp = registerOp<Op<{ output: number }>>({ name: "pick", kind: "pick" });

/** The same values in a buffer of their own. Only the compiler makes such nodes. */
export const copyOp = registerOp<Op>({
  name: "copy",
  kind: "elementwise",
  algebra: true,
  wgsl: ([x]) => x,
  reference: ([x]) => x,
});

/**
 * A window: the part of a buffer, larger than a binding, that a kernel binds instead of the whole. It is no value of the graph.
 * `offset` counts elements and lies on a 256-byte boundary.
 */
export const windowOp = registerOp<Op<{ offset: number }>>({ name: "window", kind: "pick" });

interface CastAttrs extends Attrs {
  from: DType;
  to: DType;
}

/** The facts of a cast. ops/ adds the gradient; the compiler casts where kernels need another dtype. */
export const castFacts = {
  name: "cast",
  kind: "elementwise",
  wgsl: ([x]: string[], { from, to }: CastAttrs, type: string) => castWgsl(x, from, to, type),
  opaque: ({ from }) => from === "bool", // else x * cast(mask) is 0 where the mask is, even for NaN
  reference: ([x], { from, to }, { shape, dtype }) => ({
    data: x.data.map((v) => castValue(v, to, from)),
    shape,
    dtype,
  }),
} satisfies Op<CastAttrs>;
