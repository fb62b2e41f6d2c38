import type { Attrs } from "../graph/node.ts";
import { type Op, registerOp, type SplitContext, type SplitNode } from "../graph/op.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** `split` of an op. */
export type Split<A = any> = (node: SplitNode<A>, x: Tensor[], cx: SplitContext) => Tensor[] | undefined;

/** Registers an op whose rules are written in tensors. */
export const defineOp = <A extends Attrs = Attrs>(op: Op<A, Tensor>): Op<A, Tensor> => registerOp(op);
