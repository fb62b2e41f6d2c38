import type { Attrs } from "../graph/node.ts";
import { type Op, registerOp, type SplitContext, type SplitNode } from "../graph/op.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** The `split` rule of an op (src/graph/op.ts). */
export type Split<A = any> = (node: SplitNode<A>, x: Tensor[], cx: SplitContext) => Tensor[] | undefined;

/** Registers an op whose rules (vjp, fallback, split) are functions of tensors. */
export const defineOp = <A extends Attrs = Attrs>(op: Op<A, Tensor>): Op<A, Tensor> => registerOp(op);
