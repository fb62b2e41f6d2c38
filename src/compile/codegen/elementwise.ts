import {
  add,
  constant,
  type Index,
  type IndexVector,
  linearize,
  reshapeIndex,
  substitute,
  variable,
} from "../../graph/index-map.ts";
import type { BufferRef } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import type { DeviceInfo } from "../../runtime/device.ts";
import { type Expr, ExprBuilder, type ExprScope, rewrite, walk } from "../expression/expr.ts";
import { normalize, type Space } from "../expression/space.ts";
import { bytesOf, cutOf, reach, stretches, windowOf } from "../expression/window.ts";
import { bufferDeclaration, Emitter, numbersDeclaration } from "./emit.ts";

/** What stands at one binding: a uniform of these words, or a buffer. */
export type Bound = { readonly words: readonly number[] } | { readonly ref: BufferRef; readonly write: boolean };

/** One dispatch, ready to compile; `bind` is @binding(0), @binding(1), … */
export interface Kernel {
  readonly label: string;
  readonly code: string;
  readonly bind: readonly Bound[];
  readonly grid: readonly [number, number, number];
  readonly flops?: number;
}

const STREAM = 1 << 18; // vec4s from which on a tensor is a long stream
const LANES = 64; // invocations of a workgroup

/** Workgroups for `count` invocations within the limit of 65,535 per dim. */
function gridFor(count: number): [number, number, number] {
  const groups = Math.ceil(count / LANES);
  return groups <= 65_535 ? [groups, 1, 1] : [32_768, Math.ceil(groups / 32_768), 1];
}

/** Declares `names` of the variables from a linear position, innermost last; the variable `vectorAt` steps by 4. */
export function decode(
  emitter: Emitter,
  position: string,
  names: readonly string[],
  sizes: readonly number[],
  vectorAt: number,
): string[] {
  const lines: string[] = [];
  const counts = sizes.map((size, d) => (d === vectorAt ? Math.ceil(size / 4) : size));
  let limit = numel(counts);
  let rest = position;
  for (let d = sizes.length - 1; d >= 0; d--) {
    let value = rest;
    if (d > 0) {
      lines.push(`let q${names[d]} = ${emitter.quotient(rest, counts[d], limit)};`);
      value = `${rest} - q${names[d]} * ${emitter.word(counts[d])}`;
      rest = `q${names[d]}`;
      limit = Math.ceil(limit / counts[d]);
    }
    lines.push(`let ${names[d]} = ${d === vectorAt ? `(${value}) * 4u` : value};`);
  }
  return lines;
}

interface Output {
  readonly ref: BufferRef;
  readonly node: Node;
  readonly vector: boolean;
}

/** Puts declarations and `main` around a body. `main` returns early beyond `count` invocations. */
export function assemble(
  label: string,
  emitter: Emitter,
  outputs: readonly Output[],
  scratch: { ref: BufferRef; name: string; type: string; write: boolean }[],
  count: number,
  body: string,
): Kernel {
  const grid = gridFor(count);
  const position = grid[1] === 1 ? "group.x" : `(group.y * ${emitter.word(grid[0])} + group.x)`;
  const limit = emitter.word(count);
  const bind: Bound[] = [{ words: emitter.numbers }];
  const declarations: string[] = [];
  for (const b of emitter.buffers.values()) {
    declarations.push(bufferDeclaration(bind.length, b.name, b.node.dtype, b.vector, "read"));
    bind.push({ ref: b.node, write: false });
  }
  for (const t of scratch) {
    declarations.push(
      `@group(0) @binding(${bind.length}) var<storage, ${t.write ? "read_write" : "read"}> ${t.name}: array<${t.type}>;`,
    );
    bind.push({ ref: t.ref, write: t.write });
  }
  outputs.forEach((o, i) => {
    declarations.push(bufferDeclaration(bind.length, `out${i}`, o.node.dtype, o.vector, "read_write"));
    bind.push({ ref: o.ref, write: true });
  });
  const code = `${emitter.directives}${numbersDeclaration(0, "n", emitter.numbers.length)}
${declarations.join("\n")}
${[...emitter.helpers].join("\n")}
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
let id = ${position} * ${LANES}u + lane;
if (id >= ${limit}) { return; }
${body}
}
`;
  return { label, code, bind, grid };
}

export const variables = (prefix: string, sizes: readonly number[]): string[] => sizes.map((_, d) => `${prefix}${d}`);

/** A part of an iteration space: for each variable the first position and how many there are. */
type Box = readonly { readonly start: number; readonly size: number }[];

/**
 * Kernels that compute `root` from its buffers: elementwise chains, views and gathers in one. It is one kernel unless a
 * buffer is larger than a binding may be; then each computes a box of the elements from windows of the buffers.
 */
export function elementwiseKernels(root: Node, scope: ExprScope, device: DeviceInfo, part?: Box): Kernel[] {
  const { shape, dtype } = root;
  const half = dtype === "f16";
  // Halves are stored in pairs, so one lane must own four consecutive elements whatever the shape.
  const flat = half && shape.at(-1)! % 4 !== 0;
  const box = part ?? (flat ? [numel(shape)] : shape).map((size) => ({ start: 0, size }));
  const at = box.map(({ start, size }, d) => add(variable(d, size), constant(start)));
  const index: IndexVector = flat ? reshapeIndex(at, [numel(shape)], shape) : at;
  const expr = new ExprBuilder(scope).build(root, index, true);
  const store = flat ? at[0] : linearize(index, shape);
  const loads = walk([expr]).filter((e) => e.kind === "load");
  const cut = cutOf([{ node: root, address: store }, ...loads], device.maxBindingBytes);
  if (!cut) return [boxKernel(root, expr, store, flat ? [box[0].size] : box.map((b) => b.size), device)];
  const { start, size } = box[cut.variable];
  const unit = half && cut.variable === box.length - 1 ? 4 : 1;
  return stretches(size, cut.parts, unit).flatMap((s) =>
    elementwiseKernels(
      root,
      scope,
      device,
      box.map((b, d) => (d === cut.variable ? { start: start + s.start, size: s.size } : b)),
    ),
  );
}

/** `root` over the variables of a box: `expr` is its value there, `store` where it goes. */
function boxKernel(root: Node, value: Expr, store: Index, box: readonly number[], device: DeviceInfo): Kernel {
  const half = root.dtype === "f16";
  const flat = half && root.shape.at(-1)! % 4 !== 0;
  const [first, end] = reach(store, numel(root.shape));
  const large = bytesOf(root) > device.maxBindingBytes;
  const { node: ref, start } = large ? windowOf(root, root.dtype, first, end) : { node: root, start: 0 };
  const address = start === 0 ? store : add(store, constant(-start));
  const { space, extra } = flat
    ? { space: { sizes: box, exprs: [value] }, extra: [address] }
    : inLoadOrder(normalize({ sizes: box.length ? box : [1], exprs: [value] }, [address]), half);
  const [to] = extra;
  const { sizes } = space;
  const last = sizes.length - 1;
  // The last vector of a single dim may reach over its end: harmless only where the tensor ends too.
  const over = sizes.length === 1 && (sizes[0] % 4 === 0 || end === numel(root.shape) - 1);
  const rows = to.terms.every(({ coef, atom }) => coef % 4 === 0 || (atom.kind === "var" && atom.id === last));
  const whole = rows && to.offset % 4 === 0 && (over || (sizes.length > 1 && sizes[last] % 4 === 0));
  const vector = numel(sizes) >= 4 && whole ? last : half ? last : -1;
  const width = vector >= 0 ? 4 : 1;
  const emitter = new Emitter({ variables: variables("i", sizes), vector, prefix: "", device });
  emitter.declare(space.exprs);
  // Long streams: two vec4 a lane, half the tensor apart, so that each workgroup's start is paid once for both.
  const count = Math.ceil(numel(sizes) / width);
  const turns = sizes.length === 1 && count >= STREAM && count % 2 === 0 ? 2 : 1;
  const body =
    turns === 2 ? [`for (var turn = 0u; turn < 2u; turn++) {`, `let at = id + turn * ${emitter.word(count / 2)};`] : [];
  body.push(...decode(emitter, turns === 2 ? "at" : "id", variables("i", sizes), sizes, vector));
  const result = emitter.emit(space.exprs[0], width);
  const strided = width === 4 && !half && strideOf(to, last) !== 1;
  const addresses = (strided ? [0, 1, 2, 3] : [0]).map((lane) => emitter.index(to, lane));
  body.push(emitter.take());
  const tail = width === 4 && sizes[last] % 4 !== 0;
  if (tail)
    body.push(
      `let inside = vec4u(i${last}, i${last} + 1u, i${last} + 2u, i${last} + 3u) < vec4u(${emitter.word(sizes[last])});`,
    );
  const { dtype } = root;
  const stored = tail ? `select(${emitter.type(dtype, width)}(), ${result}, inside)` : result;
  if (strided)
    addresses.forEach((at, lane) => body.push(emitter.store("out0", dtype, `${stored}.${"xyzw"[lane]}`, at, 1)));
  else body.push(emitter.store("out0", dtype, stored, addresses[0], width));
  const output = { ref, node: root, vector: width === 4 && !strided };
  if (turns === 2) body.push("}");
  return assemble(describe(space.exprs), emitter, [output], [], count / turns, body.join("\n"));
}

/**
 * Puts the dim that most loads walk element by element innermost, so that they become vec4 loads. Costs scattered
 * stores, which is a bargain for many loads and one store (the gradient of a convolution).
 */
function inLoadOrder(normal: { space: Space; extra: Index[] }, half: boolean): { space: Space; extra: Index[] } {
  const { sizes, exprs } = normal.space;
  const last = sizes.length - 1;
  if (half || last < 1) return normal;
  const loads = walk(exprs).filter((e) => e.kind === "load");
  const score = (d: number): number =>
    sizes[d] % 4 === 0 ? loads.filter((e) => strideOf(e.address, d) === 1).length : 0;
  const best = sizes.map((_, d) => d).reduce((a, b) => (score(b) >= score(a) ? b : a));
  if (best === last || score(best) <= score(last) + 1) return normal;
  const move = (d: number): number => (d === best ? last : d > best ? d - 1 : d);
  const replace = (v: number, size: number): Index => variable(move(v), size);
  return {
    space: { sizes: [...sizes.filter((_, d) => d !== best), sizes[best]], exprs: rewrite(exprs, replace) },
    extra: normal.extra.map((index) => substitute(index, replace, (e) => e)),
  };
}

const strideOf = (index: Index, d: number): number =>
  index.terms.reduce((sum, { coef, atom }) => (atom.kind === "var" && atom.id === d ? sum + coef : sum), 0);

/** The ops of an expression, for reports: "mul·add·gelu". */
export function describe(exprs: readonly Expr[]): string {
  const names = walk(exprs).flatMap((e) => (e.kind === "op" ? [e.op.name] : e.kind === "guard" ? ["pad"] : []));
  if (names.length === 0) return "copy";
  return names.length > 6 ? `${names.slice(0, 5).join("·")}·+${names.length - 5}` : names.join("·");
}
