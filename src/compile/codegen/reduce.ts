import { kernelSource } from "../../../kernels/index.ts";
import type { DeviceInfo } from "../../graph/device-info.ts";
import { type DType, isFloat, isFloatType, literal } from "../../graph/dtype.ts";
import { constant, type Index, linearize, reshapeIndex, variable } from "../../graph/index-map.ts";
import type { BufferRef, LowerContext } from "../../graph/kernel-call.ts";
import { isNanWgsl, signed } from "../../graph/nan.ts";
import type { Node } from "../../graph/node.ts";
import type { Reducer } from "../../graph/op.ts";
import { numel } from "../../graph/shape.ts";
import { sumParts } from "../../lowering/grid.ts";
import { type Expr, ExprBuilder, type ExprScope, walk } from "../expression/expr.ts";
import { normalize } from "../expression/space.ts";
import { bytesOf } from "../expression/window.ts";
import { Emitter } from "./emit.ts";
import { assemble, decode, describe, type Kernel, variables } from "./kernel.ts";
import { specialize } from "./template.ts";

const SHORT = 512; // this many iterations of a subgroup take as long as another kernel
/**
 * Terms of a plain f32 sum. Longer sums add blocks of this many terms with compensation (Kahan 1965), so that their relative
 * error stays below 16 · 2^-24 = 10^-6 at any length. A chain of 10^7 additions loses 10^-4.
 */
const BLOCK = 24;

/**
 * A reduction with its prologue, and its epilogue up to `root` (the reduce node itself, or an elementwise node of its result).
 * One invocation computes one output. If there are few outputs, several invocations each reduce a slab of an output, and a
 * second kernel combines the slabs.
 */
export function reduceKernels(
  node: Node,
  root: Node,
  scope: ExprScope,
  cx: Pick<LowerContext, "device" | "temp">,
): Kernel[] {
  const loop = loopOf(node, root, scope);
  const walkPlan = planWalk(loop, node, root, cx.device);
  const rows = wholeRows(loop, node, root, walkPlan, cx.device);
  if (rows) return [rowSum(rows, root, loop.inner[0], loop.outputs)];
  const { slabs, whole } = walkPlan;
  if (whole) return [accumulate(loop, walkPlan, node, root, cx.device)];
  const partial: BufferRef = slabs === 1 ? root : cx.temp(slabs * loop.outputs * 4);
  const first = accumulate(loop, walkPlan, node, root, cx.device, partial);
  return slabs === 1 ? [first] : [first, combine(loop, walkPlan, node, root, cx.device, partial)];
}

/** The loops of a reduction: outputs outside, reduced elements inside, after merging and splitting dims. */
interface Loop {
  readonly outer: readonly number[];
  readonly inner: readonly number[];
  /** Number of outputs. */
  readonly outputs: number;
  /** A reduced element. */
  readonly value: Expr;
  /** The value of `root`, computed from `result`. Absent if root is the reduction. */
  readonly after?: Expr;
  /** The reduced result, which `after` reads. Expressions share this object; its width is set once it is known. */
  readonly result: { width: 1 | 4 };
  /** Address of an output. */
  readonly address: Index;
}

function loopOf(node: Node, root: Node, scope: ExprScope): Loop {
  const source = node.src[0];
  const dims = node.attrs.dims as number[];
  const kept = source.shape.map((_, d) => d).filter((d) => !dims.includes(d));
  const index = source.shape.map((size, d) =>
    variable(dims.includes(d) ? kept.length + dims.indexOf(d) : kept.indexOf(d), size),
  );
  const value = new ExprBuilder(scope).build(source, index);
  const outIndex: Index[] = source.shape.map((_, d) => (dims.includes(d) ? constant(0) : index[d]));
  const result = { kind: "register", name: "total", width: 1 as 1 | 4, dtype: node.dtype } satisfies Expr;
  const register = (n: Node): Expr | undefined => (n === node ? result : undefined);
  const after =
    root === node
      ? []
      : [
          new ExprBuilder({ isBuffer: (n) => scope.isBuffer(n), register }).build(
            root,
            reshapeIndex(outIndex, node.shape, root.shape),
            true,
          ),
        ];
  const sizes = [...kept, ...dims].map((d) => source.shape[d]);
  const normal = normalize({ sizes, exprs: [value, ...after] }, [linearize(outIndex, node.shape)], kept.length);
  const outer = normal.space.sizes.slice(0, normal.barrier);
  return {
    outer,
    inner: normal.space.sizes.slice(normal.barrier),
    outputs: numel(outer),
    value: normal.space.exprs[0],
    after: normal.space.exprs[1],
    result,
    address: normal.extra[0],
  };
}

/** How invocations divide a loop. */
interface Walk {
  /** columns: four outputs at a time. rows: four elements of an output at a time. scalars: neither. */
  readonly by: "columns" | "rows" | "scalars";
  /** The iteration variable that advances by four. -1: none. */
  readonly vector: number;
  /** Number of outputs, and of elements per output. Both count vec4 where `by` says so. */
  readonly units: number;
  readonly count: number;
  /** Number of parts into which the elements of an output are cut. */
  readonly slabs: number;
  /** The first kernel applies the epilogue and stores the result. Otherwise it stores slabs, with one shader for any number. */
  readonly whole: boolean;
  /** Sums leading and trailing bits separately, so that a short sum rounds once. */
  readonly exact: boolean;
  /** Adds blocks of terms with compensation. */
  readonly long: boolean;
  /** There are too few outputs to keep the adapter busy. */
  readonly few: boolean;
}

function planWalk({ outer, inner, outputs, value, after }: Loop, node: Node, root: Node, device: DeviceInfo): Walk {
  const { position, additive } = node.op.reducer!;
  const lastOuter = outer.length - 1;
  const lastInner = outer.length + inner.length - 1;
  const contiguous = (id: number): number =>
    walk([value]).filter(
      (e) =>
        e.kind === "load" && e.address.terms.some((t) => t.atom.kind === "var" && t.atom.id === id && t.coef === 1),
    ).length;
  const columns =
    !position && outer.length > 0 && outer[lastOuter] % 4 === 0 && contiguous(lastOuter) > contiguous(lastInner);
  const rows = !position && !columns && inner.length > 0 && inner.at(-1)! % 4 === 0;
  const units = columns ? outputs / 4 : outputs;
  const count = rows ? numel(inner) / 4 : numel(inner);
  const wanted = device.kind === "software" ? 256 : 8192;
  const few = units < wanted && count >= 32;
  // A second kernel takes longer than one core needs for a short loop.
  const short = device.kind === "software" && Math.ceil(units / 8) * count <= SHORT;
  const slabs = position || short || !few ? 1 : Math.min(Math.ceil(wanted / units), Math.floor(count / 8), 256);
  const packed = root.dtype === "f16" || root.dtype === "bool";
  const exact = short && few && additive === true && node.dtype === "f32";
  return {
    by: columns ? "columns" : rows ? "rows" : "scalars",
    vector: columns ? lastOuter : rows ? lastInner : -1,
    units,
    count,
    slabs,
    whole: slabs === 1 && (position !== undefined || after !== undefined || packed || !!node.op.reducer!.finish),
    exact,
    long: additive === true && isFloat(node.dtype) && !exact && count > BLOCK * slabs,
    few,
  };
}

/** The kernel that reduces the elements. It stores the result if the walk is `whole`, else one partial result per slab. */
function accumulate(
  { outer, inner, value, after, result, address, outputs }: Loop,
  { by, vector, units, count, slabs, whole, exact, long }: Walk,
  node: Node,
  root: Node,
  device: DeviceInfo,
  partial?: BufferRef,
): Kernel {
  const reducer = node.op.reducer!;
  const names = [...variables("i", outer), ...variables("r", inner)];
  const emitter = new Emitter({ variables: names, vector, prefix: "", device });
  emitter.declare(whole && after ? [value, after] : [value]);
  const columns = by === "columns";
  const dtype = reducer.position ? node.src[0].dtype : wide(node.dtype);
  const width = columns ? 4 : 1;
  result.width = width;
  const stepWidth = vector >= 0 ? 4 : 1;
  const type = emitter.type(dtype, stepWidth);
  const unit = whole ? "id" : columns ? `id % ${emitter.word(units)}` : `id / ${emitter.word(slabs)}`;
  const slab = whole ? "0u" : columns ? `id / ${emitter.word(units)}` : `id % ${emitter.word(slabs)}`;
  const body = [`let unit = ${unit};`, `let slab = ${slab};`];
  body.push(...decode(emitter, "unit", names, outer, columns ? outer.length - 1 : -1));
  body.push(`var acc = ${type}(${identity(emitter, reducer, dtype)});`);
  const watched = reducer.quick !== undefined && isFloat(dtype);
  if (watched) body.push(`var bits = ${signed(type)}();`);
  if (reducer.position) body.push("var at = 0u;");
  if (reducer.helpers) for (const t of [type, emitter.type(dtype, 1)]) emitter.helpers.add(reducer.helpers(t));
  if (exact || long) body.push(`var low = ${type}();`);
  const end = emitter.word(count);
  if (long) {
    body.push(`for (var first = slab; first < ${end}; first += ${emitter.word(BLOCK * slabs)}) {`);
    body.push(`var part = ${type}();`);
    body.push(`let last = min(first + ${emitter.word(BLOCK * slabs)}, ${end});`);
    body.push(`for (var t = first; t < last; t += ${emitter.word(slabs)}) {`);
  } else body.push(`for (var t = slab; t < ${end}; t += ${emitter.word(slabs)}) {`);
  body.push(...decode(emitter, "t", names.slice(outer.length), inner, by === "rows" ? inner.length - 1 : -1));
  const own = emitter.emit(value, stepWidth);
  const element = value.dtype === dtype ? own : `${type}(${own})`;
  body.push(emitter.take());
  if (reducer.position) body.push(`if (${better(reducer.position, element, type)}) { acc = ${element}; at = t; }`);
  else if (exact) body.push(...addInParts(element, type));
  else if (long) body.push(`part += ${element};`, "}", ...addCompensated(emitter, "part", type));
  else if (watched)
    body.push(`acc = ${reducer.quick!("acc", element)};`, `bits = max(bits, ${magnitude(element, type)});`);
  else body.push(`acc = ${reducer.step("acc", element, type)};`);
  body.push("}");
  if (watched) body.push(`acc = select(acc, bitcast<${type}>(bits), bits > ${signed(type)}(0x7f800000));`);
  const scalar = emitter.type(dtype, 1);
  const across = (v: string): string =>
    ["y", "z", "w"].reduce((a, c) => reducer.step(a, `${v}.${c}`, scalar), `${v}.x`);
  const total = (v: string): string => (by === "rows" ? across(v) : v);
  const sums = long ? "(acc - low)" : "acc";
  const combined = exact ? `(${total("acc")}) + (${total("low")})` : total(sums);
  body.push(
    `let total = ${reducer.position ? "i32(at)" : whole ? finished(emitter, node, combined, width) : combined};`,
  );
  const label = labelOf(node, value);
  if (whole) {
    body.push(...store(emitter, after, address, root, width));
    return assemble(label, emitter, [{ ref: root, node: root, vector: width === 4 }], [], units, body.join("\n"));
  }
  body.push(`partial[slab * ${emitter.word(units)} + unit] = total;`);
  const scratch = { ref: partial!, name: "partial", type: emitter.type(dtype, width), write: true };
  return assemble(label, emitter, [], [scratch], (columns ? outputs / 4 : outputs) * slabs, body.join("\n"));
}

/** The kernel that combines slabs. It is always scalar, so that all such kernels without an epilogue share one shader. */
function combine(
  { outer, value, after, result, address, outputs }: Loop,
  { slabs }: Walk,
  node: Node,
  root: Node,
  device: DeviceInfo,
  partial: BufferRef,
): Kernel {
  const reducer = node.op.reducer!;
  const names = variables("i", outer);
  const emitter = new Emitter({ variables: names, vector: -1, prefix: "", device });
  result.width = 1;
  emitter.declare(after ? [after] : []);
  const dtype = wide(node.dtype);
  const type = emitter.type(dtype, 1);
  if (reducer.helpers) emitter.helpers.add(reducer.helpers(type));
  const long = reducer.additive && isFloat(dtype);
  const part = `partial[s * ${emitter.word(outputs)} + id]`;
  const lines = [
    `var acc = ${type}(${identity(emitter, reducer, dtype)});`,
    ...(long ? [`var low = ${type}();`] : []),
    `for (var s = 0u; s < ${emitter.word(slabs)}; s++) {`,
    ...(long ? addCompensated(emitter, part, type) : [`acc = ${reducer.step("acc", part, type)};`]),
    "}",
    `let total = ${finished(emitter, node, long ? "acc - low" : "acc", 1)};`,
    ...(after ? decode(emitter, "id", names, outer, -1) : []),
    ...store(emitter, after, after ? address : "id", root, 1),
  ];
  return assemble(
    `${labelOf(node, value)} finish`,
    emitter,
    [{ ref: root, node: root, vector: false }],
    [{ ref: partial, name: "partial", type, write: false }],
    outputs,
    lines.join("\n"),
  );
}

const labelOf = (node: Node, value: Expr): string => `${node.op.name}(${describe([value])})`;

/** Halves are reduced in f32: a sum beyond 65504 may have a mean below it. */
const wide = (dtype: DType): DType => (dtype === "f16" ? "f32" : dtype);

/** The result in the node's dtype. */
function finished(emitter: Emitter, { op, dtype }: Node, total: string, width: 1 | 4): string {
  const value = op.reducer!.finish?.(total) ?? total;
  return dtype === wide(dtype) ? value : `${emitter.type(dtype, width)}(${value})`;
}

/** WGSL of the start value. */
function identity(emitter: Emitter, { init }: Reducer, dtype: DType): string {
  const x = init(dtype);
  return isFloat(dtype) && !Number.isFinite(x) ? emitter.constant(x, "f32") : literal(x, SCALAR[dtype]);
}
const SCALAR: Record<DType, string> = { f32: "f32", f16: "f32", i32: "i32", u32: "u32", bool: "bool" };

/** Whether `element` takes the place of `acc` in a search for a position. The first NaN is the best. */
function better(sign: ">" | "<", element: string, type: string): string {
  const wins = `${element} ${sign} acc`;
  return isFloatType(type) ? `(${wins}) || (${isNanWgsl(element, type)} && !${isNanWgsl("acc", type)})` : wins;
}

const magnitude = (x: string, type: string): string => `(bitcast<${signed(type)}>(${x}) & ${signed(type)}(0x7fffffff))`;

/**
 * Adds the leading 12 bits of `value` to `acc` and the rest to `low`. Both sums are exact for a few thousand numbers of
 * similar size. So their total, a loss for example, rounds once.
 */
function addInParts(value: string, type: string): string[] {
  const words = type === "f32" ? "u32" : "vec4u";
  return [
    `let v = ${value};`,
    `let head = bitcast<${type}>(bitcast<${words}>(v) & ${words}(0xfffff000u));`,
    "acc += head;",
    `low += select(v - head, ${type}(), v == head);`, // infinity - infinity is NaN
  ];
}

/**
 * Adds `value` to `acc` by Kahan's method; `low` is what `acc` has too much. Drivers may reorder float arithmetic, so `opaque`
 * hides from them that its argument is a difference. After an infinity there is nothing to compensate.
 */
function addCompensated(emitter: Emitter, value: string, type: string): string[] {
  const words = type === "f32" ? "u32" : "vec4u";
  emitter.helpers.add(`fn opaque(x: ${type}, zero: u32) -> ${type} { return bitcast<${type}>(bitcast<${words}>(x) ^ ${words}(zero)); }
fn finite(x: ${type}) -> ${type} { return select(${type}(), x, (bitcast<${words}>(x) & ${words}(0x7f800000u)) != ${words}(0x7f800000u)); }`);
  const zero = emitter.word(0);
  return [
    `let term = ${value} - low;`,
    `let sum = opaque(acc + term, ${zero});`,
    `low = finite(opaque(sum - acc, ${zero}) - term);`,
    "acc = sum;",
  ];
}

/** The f32 buffer [inner, outer], if the reduction is exactly the sum of its rows. */
function wholeRows(
  { outer, inner, value }: Loop,
  node: Node,
  root: Node,
  { few }: Walk,
  device: DeviceInfo,
): Node | undefined {
  if (!node.op.reducer!.additive || node.op.reducer!.finish || root !== node || few || value.kind !== "load")
    return undefined;
  const { offset, terms } = value.address;
  const steps = [1, outer[0]];
  const rows =
    value.dtype === "f32" &&
    outer.length === 1 &&
    inner.length === 1 &&
    offset === 0 &&
    terms.length === 2 &&
    terms.every(({ coef, atom }) => atom.kind === "var" && coef === steps[atom.id]) &&
    bytesOf(value.node) <= device.maxBindingBytes;
  return rows ? value.node : undefined;
}

/** Sums rows with the kernel that other lowerings use for partial sums, so that they share one shader. */
function rowSum(rows: Node, out: Node, count: number, N: number): Kernel {
  const { kernel, params, dims, grid } = sumParts(rows, out, count, 1, N);
  const bind = [{ words: dims }, { ref: rows, write: false }, { ref: out, write: true }];
  return { label: kernel, code: specialize(kernelSource(kernel), { params }), bind, grid };
}

/** Statements that store `total`, or the epilogue's value. */
function store(emitter: Emitter, after: Expr | undefined, address: Index | "id", root: Node, width: 1 | 4): string[] {
  const value = after ? emitter.emit(after, width) : "total";
  const at = address === "id" ? address : emitter.index(address);
  return [emitter.take(), emitter.store("out0", root.dtype, value, at, width)];
}
