import type { DType } from "../graph/dtype.ts";
import { isFloat } from "../graph/dtype.ts";
import { numel, type Shape } from "../graph/shape.ts";

// Tensors as text, in the way torch prints them.

/** More elements than this: only the first and the last of every dim are shown. */
const MOST = 1000;
/** Elements at each end of a shortened dim. */
const EDGE = 3;
/** Characters per line. */
const WIDTH = 80;

export interface FormatOptions {
  /** Digits behind the point. Default 4. */
  precision?: number;
  /** Largest number of elements that are shown in full. Default 1000. */
  threshold?: number;
}

/** Values as nested brackets, aligned as torch aligns them. `indent` is the column at which the text starts. */
export function formatValues(
  data: ArrayLike<number>,
  shape: Shape,
  dtype: DType,
  indent: number,
  { precision = 4, threshold = MOST }: FormatOptions = {},
): string {
  const edge = numel(shape) > threshold ? EDGE : Infinity;
  const shown = visible(data, shape, edge);
  const text = elementFormat(shown, dtype, precision);
  const width = shape.length === 0 ? 0 : Math.max(0, ...shown.map((x) => text(x).length));
  const pad = (x: number): string => text(x).padStart(width);
  if (shape.length === 0) return pad(data[0]);
  return nested(0, 0, indent);

  function nested(depth: number, start: number, column: number): string {
    const size = shape[depth];
    const stride = numel(shape.slice(depth + 1));
    const at = indices(size, edge);
    if (depth === shape.length - 1) {
      const perLine = Math.max(1, Math.floor((WIDTH - column) / (width + 2)));
      const parts = at.map((i) => (i < 0 ? " ..." : pad(data[start + i])));
      const lines: string[] = [];
      for (let i = 0; i < parts.length; i += perLine) lines.push(parts.slice(i, i + perLine).join(", "));
      return `[${lines.join(`,\n${" ".repeat(column + 1)}`)}]`;
    }
    const gap = `,${"\n".repeat(shape.length - depth - 1)}${" ".repeat(column + 1)}`;
    const rows = at.map((i) => (i < 0 ? "..." : nested(depth + 1, start + i * stride, column + 1)));
    return `[${rows.join(gap)}]`;
  }
}

/** Positions 0 … n - 1; -1 stands for those that are left out. */
const indices = (n: number, edge: number): number[] =>
  n <= 2 * edge
    ? Array.from({ length: n }, (_, i) => i)
    : [...Array(edge).keys(), -1, ...Array.from({ length: edge }, (_, i) => n - edge + i)];

/** The elements that are shown. */
function visible(data: ArrayLike<number>, shape: Shape, edge: number, depth = 0, start = 0): number[] {
  if (depth === shape.length) return [data[start]];
  const stride = numel(shape.slice(depth + 1));
  return indices(shape[depth], edge)
    .filter((i) => i >= 0)
    .flatMap((i) => visible(data, shape, edge, depth + 1, start + i * stride));
}

/** How every element is written: whole numbers, fixed digits, or powers of ten where the range is wide. */
function elementFormat(shown: readonly number[], dtype: DType, precision: number): (x: number) => string {
  if (dtype === "bool") return (x) => (x ? "true" : "false");
  if (!isFloat(dtype)) return (x) => `${x}`;
  const named = (write: (x: number) => string) => (x: number) =>
    Number.isNaN(x) ? "nan" : x === Infinity ? "inf" : x === -Infinity ? "-inf" : write(x);
  const sizes = shown.filter((x) => Number.isFinite(x) && x !== 0).map(Math.abs);
  if (sizes.length === 0) return named((x) => (Object.is(x, -0) ? "-0." : "0."));
  const [least, largest] = [sizes.reduce((a, b) => Math.min(a, b)), sizes.reduce((a, b) => Math.max(a, b))];
  const whole = sizes.every(Number.isInteger);
  const wide = largest / least > 1000 || largest > 1e8 || (!whole && least < 1e-4);
  if (wide) return named((x) => scientific(x, precision));
  return named(whole ? (x) => `${Object.is(x, -0) ? "-0" : x}.` : (x) => x.toFixed(precision));
}

/** 1.2346e-05, with at least two digits in the exponent. */
const scientific = (x: number, precision: number): string =>
  x.toExponential(precision).replace(/e([+-])(\d)$/, "e$10$2");
