import { add, constant, type Index, scale, substitute, variable } from "../../graph/index-map.ts";
import { type Expr, indicesOf, rewrite, walk } from "./expr.ts";

/** An iteration space and the expressions over its variables (variable d = position in dim d). */
export interface Space {
  readonly sizes: readonly number[];
  readonly exprs: readonly Expr[];
}

/** All indices of the expressions, including those inside quotients and remainders. */
function allIndices(exprs: readonly Expr[], extra: readonly Index[]): Index[] {
  const out: Index[] = [];
  const visit = (ix: Index): void => {
    out.push(ix);
    for (const { atom } of ix.terms) if (atom.kind === "div" || atom.kind === "mod") visit(atom.of);
  };
  for (const e of walk(exprs)) indicesOf(e).forEach(visit);
  extra.forEach(visit);
  return out;
}

const coefOf = (ix: Index, id: number): number =>
  ix.terms.find((t) => t.atom.kind === "var" && t.atom.id === id)?.coef ?? 0;

/**
 * Simplifies an iteration space. A variable whose quotient or remainder occurs is split in two. Neighbouring dims that every
 * index traverses as one are merged.
 * `extra` are more indices to rewrite (stores). `barrier` separates the outer dims of a reduction from its reduced dims:
 * no dims are merged across it.
 */
export function normalize(
  space: Space,
  extra: readonly Index[],
  barrier = space.sizes.length,
): { space: Space; extra: Index[]; barrier: number } {
  let { sizes, exprs } = { sizes: [...space.sizes], exprs: [...space.exprs] };
  let kept = [...extra];
  let at = barrier;
  const replaceAll = (replace: (id: number, size: number) => Index, next: number[]): void => {
    exprs = rewrite(exprs, replace);
    kept = kept.map((ix) => substitute(ix, replace, (e) => e));
    sizes = next;
  };
  for (;;) {
    const split = findSplit(allIndices(exprs, kept), sizes);
    if (!split) break;
    const { id, by } = split; // variable id = by * (new variable id) + (new variable id + 1)
    const next = [...sizes.slice(0, id), sizes[id] / by, by, ...sizes.slice(id + 1)];
    replaceAll((v, size) => {
      if (v === id) return add(scale(variable(id, size / by), by), variable(id + 1, by));
      return variable(v > id ? v + 1 : v, size);
    }, next);
    if (id < at) at++;
  }
  for (let d = sizes.length - 2; d >= 0; d--) {
    if (d + 1 === at) continue;
    const mergeable = allIndices(exprs, kept).every(
      (ix) => coefOf(ix, d) === coefOf(ix, d + 1) * sizes[d + 1] || sizes[d] === 1 || sizes[d + 1] === 1,
    );
    if (!mergeable) continue;
    const [outer, inner] = [sizes[d], sizes[d + 1]];
    const next = [...sizes.slice(0, d), outer * inner, ...sizes.slice(d + 2)];
    replaceAll((v, size) => {
      if (v === d) return inner === 1 ? variable(d, size) : constant(0);
      if (v === d + 1) return variable(d, outer * inner);
      return variable(v > d ? v - 1 : v, size);
    }, next);
    if (d + 1 < at) at--;
  }
  return { space: { sizes, exprs }, extra: kept, barrier: at };
}

/** A variable that occurs alone in a quotient or remainder by a divisor of its size. */
function findSplit(indices: readonly Index[], sizes: readonly number[]): { id: number; by: number } | undefined {
  for (const ix of indices) {
    for (const { atom } of ix.terms) {
      if (atom.kind !== "div" && atom.kind !== "mod") continue;
      const { of, by } = atom;
      if (of.offset !== 0 || of.terms.length !== 1 || of.terms[0].coef !== 1) continue;
      const inner = of.terms[0].atom;
      if (inner.kind === "var" && sizes[inner.id] % by === 0 && by > 1 && by < sizes[inner.id])
        return { id: inner.id, by };
    }
  }
  return undefined;
}
