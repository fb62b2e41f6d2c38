import { kernelSource } from "../../../kernels/index.ts";
import { constant, type Index, linearize, reshapeIndex, variable } from "../../graph/index-map.ts";
import type { BufferRef, LowerContext } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { sumParts } from "../../lowering/grid.ts";
import type { DeviceInfo } from "../../runtime/device.ts";
import { type Expr, ExprBuilder, type ExprScope, walk } from "../expression/expr.ts";
import { normalize } from "../expression/space.ts";
import { bytesOf } from "../expression/window.ts";
import { assemble, decode, describe, type Kernel, variables } from "./elementwise.ts";
import { Emitter, floatLiteral } from "./emit.ts";
import { specialize } from "./template.ts";

const SHORT = 512; // turns of a subgroup that take as long as another kernel

/** Terms that are summed apart, of n: what a sum loses to rounding grows with 2√n terms then, not with n. */
const blockOf = (n: number): number => Math.ceil(Math.sqrt(n));

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
  // Where a second kernel costs more than one core's walk.
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
  const exact = short && split && node.op.name === "sum" && emitter.type(dtype, 1) === "f32";
  if (exact) body.push(`var low = ${type}();`);
  body.push(`for (var t = slab; t < ${emitter.word(count)}; t += ${emitter.word(slabs)}) {`);
  body.push(...decode(emitter, "t", names.slice(outer.length), inner, rows ? inner.length - 1 : -1));
  const value = emitter.emit(expr, stepWidth);
  body.push(emitter.take());
  if (arg) body.push(`if (${value} ${node.op.name === "argmax" ? ">" : "<"} acc) { acc = ${value}; at = t; }`);
  else if (exact) body.push(...addInParts(value, type));
  else body.push(`acc = ${reducer.step("acc", value)};`);
  body.push("}");
  const across = (v: string): string => ["y", "z", "w"].reduce((a, c) => reducer.step(a, `${v}.${c}`), `${v}.x`);
  const total = (v: string): string => (rows ? across(v) : v);
  body.push(`let total = ${arg ? "i32(at)" : exact ? `(${total("acc")}) + (${total("low")})` : total("acc")};`);
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

/**
 * Adds the leading 12 bits of `value` to `acc`, the rest to `low`. Of up to some thousand numbers of one size both sums are
 * exact, so the total, such as a loss, rounds once.
 */
function addInParts(value: string, type: string): string[] {
  const words = type === "f32" ? "u32" : "vec4u";
  return [
    `let v = ${value};`,
    `let head = bitcast<${type}>(bitcast<${words}>(v) & ${words}(0xfffff000u));`,
    "acc += head;",
    `low += select(v - head, ${type}(), v == head);`, // infinity less itself is no number
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
