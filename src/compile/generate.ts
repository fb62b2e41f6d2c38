import { kernelSource } from "../../kernels/index.ts";
import type { Node } from "../node.ts";
import { sumParts } from "../ops/lower/grid.ts";
import type { DeviceInfo } from "../runtime/device.ts";
import { numel } from "../shape.ts";
import { bufferDeclaration, Emitter, floatLiteral, numbersDeclaration } from "./emit.ts";
import { type Expr, ExprBuilder, type ExprScope, rewrite, walk } from "./expr.ts";
import {
  add,
  constant,
  type Index,
  type IndexVector,
  linearize,
  reshapeIndex,
  substitute,
  variable,
} from "./index-map.ts";
import type { BufferRef, LowerContext } from "./lower.ts";
import { normalize, type Space } from "./space.ts";
import { specialize } from "./template.ts";
import { bytesOf, cutOf, reach, stretches, windowOf } from "./window.ts";

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
const SHORT = 512; // turns of a subgroup that take as long as another kernel

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
function assemble(
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

/** Terms that are summed apart, of n: what a sum loses to rounding grows with 2√n terms then, not with n. */
const blockOf = (n: number): number => Math.ceil(Math.sqrt(n));

const variables = (prefix: string, sizes: readonly number[]): string[] => sizes.map((_, d) => `${prefix}${d}`);

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

const REDUCERS: Record<string, { init: (float: boolean) => number; step: (a: string, b: string) => string }> = {
  sum: { init: () => 0, step: (a, b) => `${a} + ${b}` },
  prod: { init: () => 1, step: (a, b) => `${a} * ${b}` },
  max: { init: (float) => (float ? -Infinity : -2147483648), step: (a, b) => `max(${a}, ${b})` },
  min: { init: (float) => (float ? Infinity : 2147483647), step: (a, b) => `min(${a}, ${b})` },
};

/**
 * A reduction with the elementwise work before it, and after it up to `root` (the reduce node itself, or an
 * elementwise node over its result). One lane walks one output; few outputs are cut into slabs that a second kernel sums.
 */
export function reduceKernels(
  node: Node,
  root: Node,
  scope: ExprScope,
  cx: Pick<LowerContext, "device" | "temp">,
): Kernel[] {
  const source = node.src[0];
  const dims = node.attrs.dims as number[];
  const outerDims = source.shape.map((_, d) => d).filter((d) => !dims.includes(d));
  const builder = new ExprBuilder(scope);
  const index = source.shape.map((size, d) =>
    variable(dims.includes(d) ? outerDims.length + dims.indexOf(d) : outerDims.indexOf(d), size),
  );
  const input = builder.build(source, index);
  const outIndex: Index[] = source.shape.map((_, d) => (dims.includes(d) ? constant(0) : index[d]));
  const all = [...outerDims.map((d) => source.shape[d]), ...dims.map((d) => source.shape[d])];
  // Give either side a dim to stand on; size-1 variables never appear in an index.
  const register = { kind: "register", name: "total", width: 1 as 1 | 4, dtype: node.dtype } satisfies Expr;
  const end =
    root === node
      ? []
      : [
          new ExprBuilder({
            ...scope,
            isBuffer: (n) => scope.isBuffer(n),
            register: (n) => (n === node ? register : undefined),
          }).build(root, reshapeIndex(outIndex, node.shape, root.shape), true),
        ];
  const normal = normalize({ sizes: all, exprs: [input, ...end] }, [linearize(outIndex, node.shape)], outerDims.length);
  const outer = normal.space.sizes.slice(0, normal.barrier);
  const inner = normal.space.sizes.slice(normal.barrier);
  const [expr, ...after] = normal.space.exprs;
  const outputs = numel(outer);
  const arg = node.op.name === "argmax" || node.op.name === "argmin";

  const lastOuter = outer.length - 1;
  const lastInner = normal.space.sizes.length - 1;
  const contiguous = (id: number): number =>
    walk([expr]).filter(
      (e) =>
        e.kind === "load" && e.address.terms.some((t) => t.atom.kind === "var" && t.atom.id === id && t.coef === 1),
    ).length;
  const columns =
    !arg && outer.length > 0 && outer[lastOuter] % 4 === 0 && contiguous(lastOuter) > contiguous(lastInner);
  const rows = !arg && !columns && inner.length > 0 && inner.at(-1)! % 4 === 0;
  const vector = columns ? lastOuter : rows ? lastInner : -1;
  const units = columns ? outputs / 4 : outputs;
  const count = rows ? numel(inner) / 4 : numel(inner);
  const target = cx.device.kind === "software" ? 256 : 8192;
  const split = units < target && count >= 32;
  // Where a second kernel costs more than one core's walk; in blocks, then, for the same accuracy.
  const short = cx.device.kind === "software" && Math.ceil(units / 8) * count <= SHORT;
  const slabs = arg || short || !split ? 1 : Math.min(Math.ceil(target / units), Math.floor(count / 8), 256);

  const { device } = cx;
  if (node.op.name === "sum" && root === node && !split && expr.kind === "load" && isRows(expr, outer, inner, device))
    return [rowSum(expr.node, root, inner[0], outputs)];
  const names = [...variables("i", outer), ...variables("r", inner)];
  const emitter = new Emitter({ variables: names, vector, prefix: "", device });
  // Without work behind it, one slab is written like many (but to the result): both share one pipeline.
  const whole = slabs === 1 && (arg || after.length > 0 || root.dtype === "f16" || root.dtype === "bool");
  emitter.declare(whole ? normal.space.exprs : [expr]);
  const body: string[] = [];
  const unit = whole ? "id" : columns ? `id % ${emitter.word(units)}` : `id / ${emitter.word(slabs)}`;
  const slab = whole ? "0u" : columns ? `id / ${emitter.word(units)}` : `id % ${emitter.word(slabs)}`;
  body.push(`let unit = ${unit};`, `let slab = ${slab};`);
  body.push(...decode(emitter, "unit", names, outer, columns ? lastOuter : -1));
  const width = columns ? 4 : 1;
  register.width = width; // known only now: expressions share the object
  const stepWidth = vector >= 0 ? 4 : 1;
  const dtype = arg ? source.dtype : node.dtype;
  const float = dtype === "f32" || dtype === "f16";
  const reducer = REDUCERS[arg ? node.op.name.slice(3) : node.op.name];
  if (!reducer) throw new Error(`internal: no reducer for ${node.op.name}`);
  const literal = (x: number): string =>
    float
      ? floatLiteral(x)
      : dtype === "u32"
        ? `${Math.max(0, x) >>> 0}u`
        : x === -2147483648
          ? "i32(-2147483647 - 1)"
          : `${x}`;
  const type = emitter.type(dtype, stepWidth);
  body.push(`var acc = ${type}(${literal(reducer.init(float))});`);
  if (arg) body.push("var at = 0u;");
  const blocks = short && split && float && node.op.name === "sum";
  if (blocks) {
    const block = emitter.word(blockOf(count));
    body.push(`for (var b = 0u; b < ${emitter.word(count)}; b += ${block}) {`, `var part = ${type}();`);
    body.push(`for (var t = b; t < min(b + ${block}, ${emitter.word(count)}); t++) {`);
  } else body.push(`for (var t = slab; t < ${emitter.word(count)}; t += ${emitter.word(slabs)}) {`);
  body.push(...decode(emitter, "t", names.slice(outer.length), inner, rows ? inner.length - 1 : -1));
  const value = emitter.emit(expr, stepWidth);
  body.push(emitter.take());
  if (arg) body.push(`if (${value} ${node.op.name === "argmax" ? ">" : "<"} acc) { acc = ${value}; at = t; }`);
  else if (blocks) body.push(`part += ${value};`, "}", "acc += part;");
  else body.push(`acc = ${reducer.step("acc", value)};`);
  body.push("}");
  if (rows) body.push(`let total = ${["y", "z", "w"].reduce((a, c) => reducer.step(a, `acc.${c}`), "acc.x")};`);
  else body.push(`let total = ${arg ? "i32(at)" : "acc"};`);
  const label = `${node.op.name}(${describe([expr])})`;

  if (whole) {
    body.push(...finish(emitter, after, normal.extra[0], root, width));
    return [assemble(label, emitter, [{ ref: root, node: root, vector: width === 4 }], [], units, body.join("\n"))];
  }
  const partial: BufferRef = slabs === 1 ? root : cx.temp(slabs * outputs * 4);
  body.push(`partial[slab * ${emitter.word(units)} + unit] = total;`);
  const scratch = { ref: partial, name: "partial", type: emitter.type(dtype, width), write: true };
  const first = assemble(label, emitter, [], [scratch], units * slabs, body.join("\n"));
  if (slabs === 1) return [first];

  // Scalar whatever the first kernel was: without an epilogue all finishing kernels are one.
  const second = new Emitter({ variables: variables("i", outer), vector: -1, prefix: "", device });
  register.width = 1;
  second.declare(after);
  const type1 = emitter.type(dtype, 1);
  const partialAt = (slab: string): string => `partial[${slab} * ${second.word(outputs)} + id]`;
  const block = second.word(blockOf(slabs));
  const lines = [
    `var total = ${type1}(${literal(reducer.init(float))});`,
    `for (var s = 0u; s < ${second.word(slabs)}; s += ${block}) {`,
    `var part = ${partialAt("s")};`,
    `for (var k = s + 1u; k < min(s + ${block}, ${second.word(slabs)}); k++) { part = ${reducer.step("part", partialAt("k"))}; }`,
    `total = ${reducer.step("total", "part")};`,
    "}",
    ...(after.length ? decode(second, "id", variables("i", outer), outer, -1) : []),
    ...finish(second, after, after.length ? normal.extra[0] : "id", root, 1),
  ];
  return [
    first,
    assemble(
      `${label} finish`,
      second,
      [{ ref: root, node: root, vector: false }],
      [{ ref: partial, name: "partial", type: emitter.type(dtype, 1), write: false }],
      outputs,
      lines.join("\n"),
    ),
  ];
}

/** Whether a load of f32 reads the rows of a whole buffer [inner, outer] one after the other. */
function isRows(
  { node, dtype, address: { terms, offset } }: Extract<Expr, { kind: "load" }>,
  outer: readonly number[],
  inner: readonly number[],
  device: DeviceInfo,
): boolean {
  const steps = [1, outer[0]];
  return (
    dtype === "f32" &&
    outer.length === 1 &&
    inner.length === 1 &&
    offset === 0 &&
    terms.length === 2 &&
    terms.every(({ coef, atom }) => atom.kind === "var" && coef === steps[atom.id]) &&
    bytesOf(node) <= device.maxBindingBytes
  );
}

/** Rows added up as partial sums are, so that both are one text. */
function rowSum(rows: Node, out: Node, count: number, N: number): Kernel {
  const { kernel, params, dims, grid } = sumParts(rows, out, count, 1, N);
  const bind = [{ words: dims }, { ref: rows, write: false }, { ref: out, write: true }];
  return { label: kernel, code: specialize(kernelSource(kernel), { params }), bind, grid };
}

/** Statements that store `total`, or what the epilogue makes of it. */
function finish(emitter: Emitter, after: readonly Expr[], address: Index | "id", root: Node, width: 1 | 4): string[] {
  const value = after.length ? emitter.emit(after[0], width) : "total";
  const at = address === "id" ? address : emitter.index(address);
  return [emitter.take(), emitter.store("out0", root.dtype, value, at, width)];
}
