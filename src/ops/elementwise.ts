import { checkValue, type DType, holds, isFloat, isFloatType, promote } from "../graph/dtype.ts";
import type { Attrs } from "../graph/node.ts";
import { type Op, registerOp } from "../graph/op.ts";
import { broadcastShapes, type Shape } from "../graph/shape.ts";
import { castFacts } from "../graph/structural.ts";
import { apply, Tensor } from "../tensor/tensor.ts";
import { full, suffix } from "./constant.ts";
import { defineOp } from "./define.ts";
import { expand } from "./movement.ts";

export type Operand = Tensor | number;

/** Dtype rule: what the operands are cast to (one dtype, or one per operand), and the dtype of the result. */
type Rule = (x: readonly Operand[]) => { args: DType | readonly DType[]; out: DType };

/**
 * Highest dtype of the operands. A number takes the dtype of the tensors if that can hold its kind: any number among floats,
 * a whole number among integers. Otherwise (booleans, or numbers alone) a whole number counts as i32, any other as f32.
 */
export function common(x: readonly Operand[]): DType {
  let dtype: DType = "bool";
  for (const v of x) if (typeof v !== "number") dtype = promote(dtype, v.dtype);
  if (isFloat(dtype)) return dtype;
  const numbers = x.filter((v) => typeof v === "number");
  if (numbers.some((v) => !Number.isInteger(v))) return "f32";
  if (dtype !== "bool" || numbers.length === 0) return dtype;
  return numbers.every((v) => holds("i32", v)) ? "i32" : "f32";
}

/** Booleans become i32. */
export function numeric(x: readonly Operand[]): ReturnType<Rule> {
  const dtype = common(x) === "bool" ? "i32" : common(x);
  return { args: dtype, out: dtype };
}
/** Integers become f32. */
export function float(x: readonly Operand[]): ReturnType<Rule> {
  const dtype = isFloat(common(x)) ? common(x) : "f32";
  return { args: dtype, out: dtype };
}
export function comparison(x: readonly Operand[]): ReturnType<Rule> {
  return { args: numeric(x).args, out: "bool" };
}
function logical(): ReturnType<Rule> {
  return { args: "bool", out: "bool" };
}
function selection([, a, b]: readonly Operand[]): ReturnType<Rule> {
  const dtype = common([a, b]);
  return { args: ["bool", dtype, dtype], out: dtype };
}

/** All facts of one elementwise op. */
interface Row<A> {
  name: string;
  rule: Rule;
  /** WGSL expression of the result for `type`: "f32", "vec4f", "i32", "bool", "vec4<bool>", … f16 only if computed in f16. */
  wgsl: (x: string[], attrs: A, type: string) => string;
  /** WGSL functions that the expression calls. */
  helpers?: (type: string) => string;
  /** The same function in f64, by its definition. */
  js: (a: number, b: number, c: number, attrs: A) => number;
  /** Gradient of each operand. Absent if the result is not differentiable (integers, booleans). */
  vjp?: (g: Tensor, y: Tensor, x: Tensor[], attrs: A) => (Tensor | null)[];
  commutative?: boolean;
  /** `type` is the type of the operands, not of the result. */
  operandTyped?: boolean;
  /** Rough cost in flops. Default 1. */
  cost?: number;
  keyOf?: (attrs: A) => string;
}

// Files that tensor.ts imports call `define` while this file is still loading: it must use no import that loads later.
function define<A extends Attrs>(r: Row<A>): Op<A, Tensor> {
  const reference: Op<A>["reference"] = ([a, b, c], attrs, node) => {
    const data = new Float64Array(a.data.length);
    const { js } = r;
    if (c) for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], b.data[i], c.data[i], attrs);
    else if (b) for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], b.data[i], 0, attrs);
    else for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], 0, 0, attrs);
    return { data, shape: node.shape, dtype: node.dtype };
  };
  const { rule: _rule, js: _js, ...facts } = r;
  return registerOp<Op<A, Tensor>>({ kind: "elementwise", ...facts, reference });
}

/** Casts and broadcasts the operands, then builds the node. */
export function broadcast(op: Op, rule: Rule, x: readonly Operand[], attrs: Attrs): Tensor {
  let shape: Shape | undefined;
  for (const [i, v] of x.entries()) {
    if (typeof v === "number") continue;
    if (!(v instanceof Tensor))
      throw new TypeError(`${op.name}: operand ${i} must be a tensor or a number, got ${typeof v}`);
    shape = shape ? broadcastShapes(op.name, shape, v.shape) : v.shape;
  }
  if (!shape) throw new TypeError(`${op.name}: no operand is a tensor: at least one is expected`);
  const { args, out } = rule(x);
  const sources = x.map((v, i) => {
    const dtype = typeof args === "string" ? args : args[i];
    if (typeof v !== "number") return expand(cast(v, dtype), shape);
    checkValue(op.name, v, dtype);
    return full(shape, v, dtype);
  });
  return apply(op, sources, attrs, shape, out);
}

/** Defines an elementwise op and returns the function that applies it. */
export function row(r: Row<Attrs>): (...x: Operand[]) => Tensor {
  const op = define(r);
  return (...x) => broadcast(op, r.rule, x, {});
}

/** As `row`, for an op with attributes: they are the first argument. */
export function rowWith<A extends Attrs>(r: Row<A>): (attrs: A, ...x: Operand[]) => Tensor {
  const op = define(r);
  return (attrs, ...x) => broadcast(op, r.rule, x, attrs);
}

// ---- arithmetic -------------------------------------------------------------------------------

export const add = row({
  name: "add",
  rule: numeric,
  commutative: true,
  wgsl: ([a, b]) => `(${a} + ${b})`,
  js: (a, b) => a + b,
  vjp: (g) => [g, g],
});
export const sub = row({
  name: "sub",
  rule: numeric,
  wgsl: ([a, b]) => `(${a} - ${b})`,
  js: (a, b) => a - b,
  vjp: (g) => [g, g.neg()],
});
export const mul = row({
  name: "mul",
  rule: numeric,
  commutative: true,
  wgsl: ([a, b]) => `(${a} * ${b})`,
  js: (a, b) => a * b,
  vjp: (g, _y, [a, b]) => [g.mul(b), g.mul(a)],
});
export const div = row({
  name: "div",
  rule: float,
  wgsl: ([a, b]) => `(${a} / ${b})`,
  js: (a, b) => a / b,
  vjp: (g, y, [, b]) => [g.div(b), g.mul(y).div(b).neg()],
  cost: 4,
});
/** Remainder with the sign of the divisor. */
export const mod = row({
  name: "mod",
  rule: numeric,
  wgsl: ([a, b], _, type) =>
    isFloatType(type) ? `(${a} - floor(${a} / ${b}) * ${b})` : `(((${a} % ${b}) + ${b}) % ${b})`,
  js: (a, b) => a - Math.floor(a / b) * b,
  vjp: (g, _y, [a, b]) => [g, g.mul(a.div(b).floor()).neg()],
  cost: 8,
});
/** As in torch: a negative base has a value only for whole exponents, and x^0 is 1. */
export const pow = row({
  name: "pow",
  rule: float,
  wgsl: ([a, b], _, type) => `power_${suffix(type)}(${a}, ${b})`,
  helpers: (type) => `fn power_${suffix(type)}(a: ${type}, b: ${type}) -> ${type} {
  let size = select(pow(abs(a), b), ${type}(1.0), b == ${type}(0.0));
  let odd = abs(b - 2.0 * floor(b * 0.5)) == ${type}(1.0);
  let whole = floor(b) == b;
  let negative = select(sqrt(a), select(size, -size, odd), whole);
  return select(size, negative, a < ${type}(0.0));
}`,
  js: (a, b) => a ** b,
  vjp: (g, y, [a, b]) => [
    where(b.eq(0), 0, g.mul(b).mul(a.pow(b.sub(1)))),
    b.requiresGrad ? g.mul(where(a.eq(0).logicalAnd(b.ge(0)), 0, y.mul(a.log()))) : null,
  ],
  cost: 24,
});
export const maximum = row({
  name: "maximum",
  rule: numeric,
  commutative: true,
  wgsl: ([a, b]) => `max(${a}, ${b})`,
  js: (a, b) => (a >= b ? a : b),
  vjp: (g, _y, [a, b]) => [g.mul(half(a, b)), g.mul(half(b, a))],
});
export const minimum = row({
  name: "minimum",
  rule: numeric,
  commutative: true,
  wgsl: ([a, b]) => `min(${a}, ${b})`,
  js: (a, b) => (a <= b ? a : b),
  vjp: (g, _y, [a, b]) => [g.mul(half(b, a)), g.mul(half(a, b))],
});
/** 1 where a > b, 0 where a < b. 1/2 in ties, which share the gradient. */
const half = (a: Tensor, b: Tensor): Tensor => a.gt(b).to(a.dtype).add(a.ge(b).to(a.dtype)).mul(0.5);

// ---- comparison, selection, conversion --------------------------------------------------------

const compare = (name: string, sign: string, js: (a: number, b: number) => boolean) =>
  row({ name, rule: comparison, wgsl: ([a, b]) => `(${a} ${sign} ${b})`, js: (a, b) => Number(js(a, b)) });
export const eq = compare("eq", "==", (a, b) => a === b);
export const ne = compare("ne", "!=", (a, b) => a !== b);
export const lt = compare("lt", "<", (a, b) => a < b);
export const le = compare("le", "<=", (a, b) => a <= b);
export const gt = compare("gt", ">", (a, b) => a > b);
export const ge = compare("ge", ">=", (a, b) => a >= b);
export const logicalNot = row({ name: "logical_not", rule: logical, wgsl: ([x]) => `(!${x})`, js: (x) => Number(!x) });
export const logicalAnd = row({
  name: "logical_and",
  rule: logical,
  commutative: true,
  wgsl: ([a, b]) => `(${a} & ${b})`,
  js: (a, b) => Number(a && b),
});
export const logicalOr = row({
  name: "logical_or",
  rule: logical,
  commutative: true,
  wgsl: ([a, b]) => `(${a} | ${b})`,
  js: (a, b) => Number(a || b),
});
export const where = row({
  name: "where",
  rule: selection,
  wgsl: ([c, a, b]) => `select(${b}, ${a}, ${c})`,
  js: (c, a, b) => (c ? a : b),
  vjp: (g, _y, [c]) => [null, where(c, g, 0), where(c, 0, g)],
});

/** `value` where `mask`, else x. The dtype of x stays if it can hold the value; 0 and 1 fit booleans. */
export const maskedFill = (x: Tensor, mask: Tensor, value: number): Tensor =>
  where(mask, x.dtype === "bool" && (value === 0 || value === 1) ? full([], value, "bool") : value, x);

const castOp = defineOp<{ to: DType }>({
  ...castFacts,
  vjp: (g, _y, [x]) => [isFloat(x.dtype) ? cast(g, x.dtype) : null],
});
/** x in dtype `to`; x itself if it has that dtype. */
export function cast(x: Tensor, to: DType): Tensor {
  return x.dtype === to ? x : apply(castOp, [x], { to }, x.shape, to);
}

/** The value of its first source, computed after the second. It keeps recomputed checkpoints from running early. */
export const afterOp = define({
  name: "after",
  rule: numeric,
  wgsl: ([x]) => x,
  js: (x) => x,
  vjp: (g) => [g, null],
});
