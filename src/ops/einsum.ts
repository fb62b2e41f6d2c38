import { isFloat } from "../graph/dtype.ts";
import { type Shape, show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { matmul } from "./matmul.ts";
import { expand } from "./movement.ts";

/** A tensor whose dims have names: letters, or "0", "1", … for the dims of an ellipsis, counted from the last. */
interface Labelled {
  readonly value: Tensor;
  readonly labels: readonly string[];
}

/**
 * Sum of products in Einstein's notation. Every letter is a dim; letters that the result does not have are summed. Spaces
 * are ignored, `...` stands for broadcast dims, and a letter repeated in one operand takes the diagonal. Without `->` the
 * result has the letters that occur once, in alphabetical order, after those of `...`. More than two operands are
 * contracted pair by pair, the cheapest pair first; sums over shared letters are matrix products.
 * @example einsum("bhqd,bhkd->bhqk", q, k)
 * @throws if the equation does not fit the operands
 */
export function einsum(equation: string, ...operands: Tensor[]): Tensor {
  const text = equation.replace(/\s+/g, "");
  const fail = (what: string): never => {
    throw new Error(`einsum "${equation}": ${what}: operands ${operands.map((t) => show(t.shape)).join(", ")}`);
  };
  const [left, right, ...more] = text.split("->");
  if (more.length > 0) fail('"->" may occur once');
  const terms = left.split(",");
  if (operands.length === 0 || terms.length !== operands.length)
    fail(`${terms.length} terms for ${operands.length} operands`);
  const sizes = new Map<string, number>();
  let rest = operands.map((value, i) => {
    const labels = labelsOf(terms[i], value.ndim, fail);
    for (const [d, label] of labels.entries()) {
      const known = sizes.get(label) ?? 1;
      const size = value.shape[d];
      if (known !== size && known !== 1 && size !== 1) fail(`"${label}" has the sizes ${known} and ${size}`);
      sizes.set(label, Math.max(known, size === 0 ? 0 : size));
      if (size === 0) sizes.set(label, 0);
    }
    return diagonals({ value, labels });
  });
  const output = right === undefined ? implied(rest, left) : resultLabels(right, sizes, fail);
  while (rest.length > 1) {
    const [i, j] = cheapest(rest, output, sizes);
    const others = rest.filter((_, k) => k !== i && k !== j);
    const kept = new Set([...output, ...others.flatMap(({ labels }) => labels)]);
    rest = [...others, contract(rest[i], rest[j], kept, sizes)];
  }
  const { value, labels } = summed(rest[0], new Set(output));
  return value.permute(output.map((label) => labels.indexOf(label)));
}

/** Names of the dims of one term. */
function labelsOf(term: string, rank: number, fail: (what: string) => never): string[] {
  const match = /^([A-Za-z]*)(\.\.\.)?([A-Za-z]*)$/.exec(term);
  if (!match) return fail(`"${term}" is not a list of letters with at most one ellipsis`);
  const [, before, dots, after] = match;
  const hidden = rank - before.length - after.length;
  if (hidden < 0 || (!dots && hidden > 0)) return fail(`"${term}" does not name the ${rank} dims of its operand`);
  return [...before, ...ellipsis(hidden), ...after];
}

/** Names of `count` dims under an ellipsis: the last one is "0". */
const ellipsis = (count: number): string[] => Array.from({ length: count }, (_, i) => `${count - 1 - i}`);

const isHidden = (label: string): boolean => /\d/.test(label);

/** Hidden dims in the order of the result, from the most distant. */
const hiddenLabels = (labels: Iterable<string>): string[] =>
  [...new Set(labels)].filter(isHidden).sort((a, b) => Number(b) - Number(a));

function implied(terms: readonly Labelled[], left: string): string[] {
  const letters = [...left].filter((c) => /[A-Za-z]/.test(c));
  const once = letters.filter((c) => letters.indexOf(c) === letters.lastIndexOf(c)).sort();
  return [...hiddenLabels(terms.flatMap(({ labels }) => labels)), ...once];
}

function resultLabels(right: string, sizes: ReadonlyMap<string, number>, fail: (what: string) => never): string[] {
  const hidden = hiddenLabels(sizes.keys());
  const labels = labelsOf(right, right.replace("...", "").length + (right.includes("...") ? hidden.length : 0), fail);
  for (const label of labels) if (!sizes.has(label)) fail(`"${label}" of the result is in no operand`);
  if (new Set(labels).size < labels.length) fail("the result repeats a letter");
  return labels;
}

/** Takes diagonals until no label repeats. A diagonal goes to the place of the first of its two dims. */
function diagonals({ value, labels }: Labelled): Labelled {
  const again = labels.findIndex((label, d) => labels.indexOf(label) < d);
  if (again < 0) return { value, labels };
  const first = labels.indexOf(labels[again]);
  const n = value.shape[first];
  const others = labels.map((_, d) => d).filter((d) => d !== first && d !== again);
  // [..., n, n] in one dim: the diagonal is every (n + 1)-th element.
  const flat = value.permute([...others, first, again]).flatten(-2);
  const diagonal = flat.slice([...others.map(() => [] as const), [0, n * n, n + 1]]);
  return diagonals({ value: diagonal, labels: [...others.map((d) => labels[d]), labels[first]] });
}

/** Sums the dims that are not kept. */
function summed({ value, labels }: Labelled, kept: ReadonlySet<string>): Labelled {
  const gone = labels.flatMap((label, d) => (kept.has(label) ? [] : [d]));
  return gone.length === 0 ? { value, labels } : { value: value.sum(gone), labels: labels.filter((l) => kept.has(l)) };
}

/** The pair whose contraction has the fewest products, and of equals the one with the smallest result. */
function cheapest(
  terms: readonly Labelled[],
  output: readonly string[],
  sizes: ReadonlyMap<string, number>,
): [number, number] {
  let best: [number, number] = [0, 1];
  let least = [Infinity, Infinity];
  const product = (labels: Iterable<string>): number => [...labels].reduce((n, l) => n * sizes.get(l)!, 1);
  for (let i = 0; i < terms.length; i++) {
    for (let j = i + 1; j < terms.length; j++) {
      const all = new Set([...terms[i].labels, ...terms[j].labels]);
      const needed = new Set([...output, ...terms.filter((_, k) => k !== i && k !== j).flatMap((t) => t.labels)]);
      const cost = [product(all), product([...all].filter((l) => needed.has(l)))];
      if (cost[0] < least[0] || (cost[0] === least[0] && cost[1] < least[1])) {
        least = cost;
        best = [i, j];
      }
    }
  }
  return best;
}

/** Product of two operands, summed over the labels that are not kept. */
function contract(x: Labelled, y: Labelled, kept: ReadonlySet<string>, sizes: ReadonlyMap<string, number>): Labelled {
  const has = (labels: readonly string[]) => (label: string) => labels.includes(label);
  const a = summed(x, new Set([...kept, ...y.labels]));
  const b = summed(y, new Set([...kept, ...x.labels]));
  const shared = a.labels.filter(has(b.labels));
  const batch = shared.filter((l) => kept.has(l));
  const inner = shared.filter((l) => !kept.has(l));
  const left = a.labels.filter((l) => !b.labels.includes(l));
  const right = b.labels.filter((l) => !a.labels.includes(l));
  const labels = [...batch, ...left, ...right];
  const ordered = ({ value, labels }: Labelled, order: readonly string[]): Tensor =>
    value.permute(order.map((l) => labels.indexOf(l)));
  if (inner.length === 0 || !isFloat(a.value.dtype) || !isFloat(b.value.dtype)) {
    // No sum, or integers, which have no matrix product: broadcast, multiply, add up.
    const wide = (t: Labelled, own: readonly string[], before: number, after: number): Tensor => {
      const value = ordered(t, [...batch, ...own, ...inner]);
      const [head, middle, tail] = [batch.length, own.length, inner.length].map((n, i, all) => {
        const start = all.slice(0, i).reduce((sum, m) => sum + m, 0);
        return value.shape.slice(start, start + n);
      });
      return value.reshape([...head, ...ones(before), ...middle, ...ones(after), ...tail]);
    };
    const product = wide(a, left, 0, right.length).mul(wide(b, right, left.length, 0));
    const dims = inner.map((_, i) => labels.length + i);
    return { value: dims.length > 0 ? product.sum(dims) : product, labels };
  }
  const sizeOf = (l: string): number => sizes.get(l)!;
  // A label of size 1 in one operand only broadcasts. Batch dims do so in matmul; summed dims are expanded here.
  const filled = (t: Labelled): Labelled => {
    const shape = t.labels.map((l, d) => (inner.includes(l) ? sizeOf(l) : t.value.shape[d]));
    return { value: expand(t.value, shape), labels: t.labels };
  };
  const K = inner.reduce((n, l) => n * sizeOf(l), 1);
  const flat = (t: Labelled, order: readonly string[], shape: Shape): Tensor =>
    ordered(filled(t), order).reshape(shape);
  const count = (t: Labelled, own: readonly string[]): number =>
    own.reduce((n, l) => n * t.value.shape[t.labels.indexOf(l)], 1);
  const batchOf = (t: Labelled): Shape => batch.map((l) => t.value.shape[t.labels.indexOf(l)]);
  const p = flat(a, [...batch, ...left, ...inner], [...batchOf(a), count(a, left), K]);
  const q = flat(b, [...batch, ...inner, ...right], [...batchOf(b), K, count(b, right)]);
  const product = matmul(p, q);
  const own = (t: Labelled, list: readonly string[]): Shape => list.map((l) => t.value.shape[t.labels.indexOf(l)]);
  return { value: product.reshape([...product.shape.slice(0, -2), ...own(a, left), ...own(b, right)]), labels };
}

const ones = (n: number): number[] => new Array<number>(n).fill(1);
