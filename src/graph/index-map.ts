import { contiguousStrides, type Shape } from "./shape.ts";

/**
 * An integer expression over the iteration variables of a kernel: offset + Σ coef · atom.
 * Views only rewrite such expressions. No view moves data by itself.
 */
export interface Index {
  readonly offset: number;
  readonly terms: readonly Term[];
}

export interface Term {
  readonly coef: number;
  readonly atom: Atom;
}

/** A value that the kernel computes (the positions of a gather). Only the compiler looks inside. */
export type Computed = object;

/** An iteration variable, a quotient or remainder that did not simplify, or a computed value with `size` possible results. */
export type Atom =
  | { readonly kind: "var"; readonly id: number; readonly size: number }
  | { readonly kind: "div" | "mod"; readonly of: Index; readonly by: number; readonly size: number }
  | { readonly kind: "value"; readonly expr: Computed; readonly size: number };

export const constant = (offset: number): Index => ({ offset, terms: [] });

export function variable(id: number, size: number): Index {
  return size === 1 ? constant(0) : { offset: 0, terms: [{ coef: 1, atom: { kind: "var", id, size } }] };
}

/** A computed value with `size` possible results as an index. */
export const dynamic = (expr: Computed, size: number): Index => ({
  offset: 0,
  terms: [{ coef: 1, atom: { kind: "value", expr, size } }],
});

function sameAtom(a: Atom, b: Atom): boolean {
  if (a === b) return true;
  if (a.kind === "var") return b.kind === "var" && a.id === b.id;
  if (a.kind === "value") return b.kind === "value" && a.expr === b.expr;
  return a.kind === b.kind && a.by === (b as typeof a).by && sameIndex(a.of, (b as typeof a).of);
}

export function sameIndex(a: Index, b: Index): boolean {
  return (
    a.offset === b.offset &&
    a.terms.length === b.terms.length &&
    a.terms.every((t, i) => t.coef === b.terms[i].coef && sameAtom(t.atom, b.terms[i].atom))
  );
}

export function add(a: Index, b: Index): Index {
  const terms = [...a.terms];
  for (const t of b.terms) {
    const at = terms.findIndex((u) => sameAtom(u.atom, t.atom));
    if (at < 0) terms.push(t);
    else {
      const coef = terms[at].coef + t.coef;
      if (coef === 0) terms.splice(at, 1);
      else terms[at] = { coef, atom: terms[at].atom };
    }
  }
  return { offset: a.offset + b.offset, terms };
}

export function scale(a: Index, k: number): Index {
  if (k === 0) return constant(0);
  return k === 1 ? a : { offset: a.offset * k, terms: a.terms.map((t) => ({ coef: t.coef * k, atom: t.atom })) };
}

/** Smallest and largest value. */
export function bounds(a: Index): [number, number] {
  let lo = a.offset;
  let hi = a.offset;
  for (const { coef, atom } of a.terms) {
    if (coef > 0) hi += coef * (atom.size - 1);
    else lo += coef * (atom.size - 1);
  }
  return [lo, hi];
}

/** A bound that no value of `a` reaches. Values below zero wrap around and count as large. */
export function limitOf(a: Index): number {
  const [lo, hi] = bounds(a);
  return lo < 0 ? Infinity : hi + 1;
}

/** Splits `a` into (multiple of `by`, rest) term by term. */
function splitMultiples(a: Index, by: number): [Index, Index] {
  const whole = Math.floor(a.offset / by) * by;
  return [
    { offset: whole, terms: a.terms.filter((t) => t.coef % by === 0) },
    { offset: a.offset - whole, terms: a.terms.filter((t) => t.coef % by !== 0) },
  ];
}

function divide(a: Index, by: number, size: number): Index {
  if (by === 1) return a;
  const [multiple, rest] = splitMultiples(a, by);
  const quotient = {
    offset: multiple.offset / by,
    terms: multiple.terms.map((t) => ({ coef: t.coef / by, atom: t.atom })),
  };
  const [lo, hi] = bounds(rest);
  if (lo >= 0 && hi < by) return quotient;
  if (lo >= 0)
    return add(quotient, {
      offset: 0,
      terms: [{ coef: 1, atom: { kind: "div", of: rest, by, size: Math.floor(hi / by) + 1 } }],
    });
  return { offset: 0, terms: [{ coef: 1, atom: { kind: "div", of: a, by, size } }] };
}

function modulo(a: Index, by: number): Index {
  if (by === 1) return constant(0);
  const [, rest] = splitMultiples(a, by);
  const [lo, hi] = bounds(rest);
  if (lo >= 0 && hi < by) return rest;
  return { offset: 0, terms: [{ coef: 1, atom: { kind: "mod", of: lo >= 0 ? rest : a, by, size: by } }] };
}

/** One index per dim of a tensor. `linear` is the row-major position, where a reshape knows it. */
export type IndexVector = readonly Index[] & { linear?: Index };

/** Row-major position of `index` in a tensor of `shape`. */
export function linearize(index: IndexVector, shape: Shape): Index {
  if (index.linear) return index.linear;
  const strides = contiguousStrides(shape);
  return index.reduce((sum, ix, d) => add(sum, scale(ix, strides[d])), constant(0));
}

/** Index into `from` of the element at `index` of its reshape to `to`. */
export function reshapeIndex(index: IndexVector, to: Shape, from: Shape): IndexVector {
  const out: Index[] & { linear?: Index } = new Array<Index>(from.length);
  out.linear = linearize(index, to);
  let i = 0;
  let j = 0;
  while (i < to.length || j < from.length) {
    // Grow a group of dims on each side until both groups hold equally many elements.
    const group: number[] = [];
    const target: number[] = [];
    let a = 1;
    let b = 1;
    do {
      if (a <= b && i < to.length) a *= to[(group.push(i), i++)];
      else if (j < from.length) b *= from[(target.push(j), j++)];
      else a *= to[(group.push(i), i++)];
    } while (a !== b || (group.length === 0 && target.length === 0));
    const linear = linearize(
      group.map((d) => index[d]),
      group.map((d) => to[d]),
    );
    let inner = 1;
    for (let t = target.length - 1; t >= 0; t--) {
      const size = from[target[t]];
      const shifted = divide(linear, inner, Math.ceil(b / inner));
      out[target[t]] = t === 0 && size * inner === b ? shifted : modulo(shifted, size);
      if (size === 1) out[target[t]] = constant(0);
      inner *= size;
    }
  }
  return out;
}

/** An element comes from the source only while this index lies in [0, size). */
export interface Range {
  readonly index: Index;
  readonly size: number;
}

/** What a view reads: an index into its source, and `fill` where one of `ranges` does not hold (padding). */
export interface ViewIndex {
  readonly index: IndexVector;
  readonly ranges?: readonly Range[];
  readonly fill?: number;
}

/** Replaces iteration variables everywhere in an index. */
export function substitute(
  a: Index,
  replace: (id: number, size: number) => Index,
  values: (e: Computed) => Computed,
): Index {
  let out = constant(a.offset);
  for (const { coef, atom } of a.terms) {
    let value: Index;
    if (atom.kind === "var") value = replace(atom.id, atom.size);
    else if (atom.kind === "value") value = dynamic(values(atom.expr), atom.size);
    else {
      const of = substitute(atom.of, replace, values);
      value = atom.kind === "div" ? divide(of, atom.by, atom.size) : modulo(of, atom.by);
    }
    out = add(out, scale(value, coef));
  }
  return out;
}

/** Offset and strides of an affine address; undefined if it is not affine. */
export function affine(address: Index, rank: number): { offset: number; strides: number[] } | undefined {
  const strides = new Array<number>(rank).fill(0);
  for (const { coef, atom } of address.terms) {
    if (atom.kind !== "var") return undefined;
    strides[atom.id] = coef;
  }
  return { offset: address.offset, strides };
}
