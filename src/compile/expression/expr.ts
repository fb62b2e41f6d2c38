import type { DType } from "../../graph/dtype.ts";
import {
  dynamic,
  type Index,
  type IndexVector,
  linearize,
  type Range,
  sameIndex,
  substitute,
  type ViewIndex,
} from "../../graph/index-map.ts";
import type { Node } from "../../graph/node.ts";
import type { Op } from "../../graph/op.ts";

/** The value that a kernel computes at one point of its iteration space. Shared subexpressions are shared objects. */
export type Expr =
  | { readonly kind: "load"; readonly node: Node; readonly address: Index; readonly dtype: DType }
  | {
      readonly kind: "op";
      readonly op: Op;
      readonly attrs: any;
      readonly args: readonly Expr[];
      readonly linear?: Index;
      readonly dtype: DType;
    }
  | {
      readonly kind: "guard";
      readonly ranges: readonly Range[];
      readonly value: Expr;
      readonly otherwise: number;
      readonly dtype: DType;
    }
  /** A variable of the surrounding kernel: a template's result, a reduction's accumulator. */
  | { readonly kind: "register"; readonly name: string; readonly width: 1 | 4; readonly dtype: DType };

/** Decides which nodes an expression loads from a buffer, and which it reads from a variable of the kernel. */
export interface ExprScope {
  isBuffer(node: Node): boolean;
  register?(node: Node): Expr | undefined;
}

/** Where a view node reads its source for the element at `index`. */
const viewIndexOf = ({ op, attrs, src, shape }: Node, index: IndexVector): ViewIndex =>
  op.viewIndex!(index, attrs, { from: src[0].shape, to: shape });

/** Builds the expression of a node at an index: descends through views and elementwise nodes to buffers. */
export class ExprBuilder {
  private readonly seen = new Map<Node, { index: IndexVector; expr: Expr }[]>();

  constructor(private readonly scope: ExprScope) {}

  /** With `root`, computes the node even if it has a buffer. */
  build(node: Node, index: IndexVector, root = false): Expr {
    const known = this.seen.get(node);
    const hit = known?.find((k) => sameVector(k.index, index));
    if (hit) return hit.expr;
    const expr = this.express(node, index, root);
    if (known) known.push({ index, expr });
    else this.seen.set(node, [{ index, expr }]);
    return expr;
  }

  private express(node: Node, index: IndexVector, root: boolean): Expr {
    const register = this.scope.register?.(node);
    if (register) return register;
    const { op, dtype } = node;
    if (!root && (node.realized || this.scope.isBuffer(node))) {
      return { kind: "load", node, address: linearize(index, node.shape), dtype };
    }
    switch (op.kind) {
      case "elementwise":
        return {
          kind: "op",
          op,
          attrs: node.attrs,
          args: ordered(
            op,
            node.src.map((s) => this.build(s, index)),
          ),
          linear: op.indexed ? linearize(index, node.shape) : undefined,
          dtype,
        };
      case "view": {
        const { index: inner, ranges, fill = 0 } = viewIndexOf(node, index);
        const value = this.build(node.src[0], inner);
        return ranges?.length ? { kind: "guard", ranges, value, otherwise: fill, dtype } : value;
      }
      case "gather": {
        const dim = node.attrs.dim as number;
        const [x, positions] = node.src;
        const at = this.build(positions, op.positionIndex!(index, node.attrs));
        const size = x.shape[dim];
        const inner = index.map((ix, d) => (d === dim ? dynamic(at, size) : ix));
        // Computed positions may lie anywhere. Outside of the dim the element is 0, not one of another row.
        const ranges = [{ index: dynamic(at, 2 ** 32), size }];
        return { kind: "guard", ranges, value: this.build(x, inner), otherwise: 0, dtype };
      }
      case "assign":
        return this.build(node.src[0], index);
      default:
        throw new Error(`internal: ${op.name} node ${node.id} is not in a buffer`);
    }
  }
}

/**
 * Whether two index vectors are equal, linear positions included. Equal dims do not suffice: outside the tensor, where the
 * guard of a pad hides the value, i and i - n have equal remainders of n.
 */
function sameVector(a: IndexVector, b: IndexVector): boolean {
  const linear = a.linear && b.linear ? sameIndex(a.linear, b.linear) : a.linear === b.linear;
  return linear && a.every((ix, d) => sameIndex(ix, b[d]));
}

/** Orders the operands of a commutative op, computed ones first: a + f(b) and f(b) + a share a shader. */
function ordered(op: Op, args: Expr[]): Expr[] {
  const swap = op.commutative && args[0].kind === "load" && args[1].kind !== "load";
  return swap ? [args[1], args[0]] : args;
}

/** Every expression reachable from `roots` once, sources before users. */
export function walk(roots: readonly Expr[]): Expr[] {
  const order: Expr[] = [];
  const done = new Set<Expr>();
  const visit = (e: Expr): void => {
    if (done.has(e)) return;
    done.add(e);
    if (e.kind === "op") e.args.forEach(visit);
    if (e.kind === "guard") visit(e.value);
    for (const index of indicesOf(e)) visitIndex(index);
    order.push(e);
  };
  const visitIndex = (index: Index): void => {
    for (const { atom } of index.terms) {
      if (atom.kind === "value") visit(atom.expr as Expr);
      else if (atom.kind !== "var") visitIndex(atom.of);
    }
  };
  roots.forEach(visit);
  return order;
}

/** The indices of an expression itself, without those of its operands. */
export function indicesOf(e: Expr): Index[] {
  if (e.kind === "load") return [e.address];
  if (e.kind === "op") return e.linear ? [e.linear] : [];
  return e.kind === "guard" ? e.ranges.map((r) => r.index) : [];
}

/** The same expressions with every iteration variable replaced. */
export function rewrite(roots: readonly Expr[], replace: (id: number, size: number) => Index): Expr[] {
  const done = new Map<Expr, Expr>();
  const go = (e: Expr): Expr => {
    const known = done.get(e);
    if (known) return known;
    const index = (ix: Index): Index => substitute(ix, replace, (e) => go(e as Expr));
    let out: Expr = e;
    if (e.kind === "load") out = { ...e, address: index(e.address) };
    else if (e.kind === "op") out = { ...e, args: e.args.map(go), linear: e.linear && index(e.linear) };
    else if (e.kind === "guard")
      out = { ...e, value: go(e.value), ranges: e.ranges.map((r) => ({ index: index(r.index), size: r.size })) };
    done.set(e, out);
    return out;
  };
  return roots.map(go);
}
