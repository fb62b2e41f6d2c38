import { isFloat } from "../../graph/dtype.ts";
import type { Atom, Index } from "../../graph/index-map.ts";
import { attrsText } from "../../graph/op.ts";
import type { Expr } from "../expression/expr.ts";

/**
 * Finds operands that share a term, such as x in x - x and (x + y) - x. A driver merges equal expressions, so terms are compared
 * by structure: a sum of two equal calls of an op shares a term too.
 */
export class Terms {
  private readonly ids = new Map<Expr, number>();
  private readonly idsByKey = new Map<string, number>();
  private readonly terms = new Map<Expr, ReadonlySet<number>>();

  /** Whether the last operand has a term in common with the others, through ops that drivers rearrange. */
  areShared(operands: readonly Expr[]): boolean {
    const last = this.termsOf(operands[operands.length - 1]);
    return operands.slice(0, -1).some((a) => [...this.termsOf(a)].some((term) => last.has(term)));
  }

  private termsOf(e: Expr): ReadonlySet<number> {
    let terms = this.terms.get(e);
    if (!terms) {
      const inner = e.kind === "op" && e.op.algebra && isFloat(e.dtype);
      terms = new Set(inner ? e.args.flatMap((a) => [...this.termsOf(a)]) : [this.idOf(e)]);
      this.terms.set(e, terms);
    }
    return terms;
  }

  /** A number that equal expressions share. */
  private idOf(e: Expr): number {
    let id = this.ids.get(e);
    if (id === undefined) {
      const key = this.keyOf(e);
      id = this.idsByKey.get(key) ?? this.idsByKey.size;
      this.idsByKey.set(key, id);
      this.ids.set(e, id);
    }
    return id;
  }

  private keyOf(e: Expr): string {
    if (e.kind === "register") return `register ${e.name}`;
    if (e.kind === "load") return `load ${e.node.id} ${this.indexKey(e.address)}`;
    if (e.kind === "guard") {
      const ranges = e.ranges.map((r) => `${this.indexKey(r.index)}<${r.size}`);
      return `guard ${ranges} ${this.idOf(e.value)} ${e.otherwise}`;
    }
    const args = e.args.map((a) => this.idOf(a));
    if (e.op.commutative) args.sort();
    return `${e.op.name} ${attrsText(e)} ${e.dtype} ${args} ${e.linear && this.indexKey(e.linear)}`;
  }

  private indexKey({ offset, terms }: Index): string {
    return [offset, ...terms.map(({ coef, atom }) => `${coef}*${this.atomKey(atom)}`).sort()].join("+");
  }

  private atomKey(atom: Atom): string {
    if (atom.kind === "var") return `i${atom.id}`;
    if (atom.kind === "value") return `v${this.idOf(atom.expr as Expr)}`;
    return `${atom.kind}${atom.by}(${this.indexKey(atom.of)})`;
  }
}
