import { checkDType, checkValue, type DType, holds, isFloat, promote, wrap } from "../graph/dtype.ts";
import type { Attrs } from "../graph/node.ts";
import { type Op, registerOp } from "../graph/op.ts";
import { broadcastShapes, type Shape } from "../graph/shape.ts";
import { castFacts } from "../graph/structural.ts";
import { apply, Tensor } from "../tensor/tensor.ts";
import { full, suffix } from "./constant.ts";
import { defineOp } from "./define.ts";
import * as math from "./math.ts";
import { expand } from "./movement.ts";

export type Operand = Tensor | number;

/**
 * Dtype rule: what the operands are cast to (one dtype, or one per operand), and the dtype of the result. `wraps`: a negative
 * number among u32 operands counts as in arithmetic modulo 2^32.
 */
type Rule = (x: readonly Operand[]) => { args: DType | readonly DType[]; out: DType; wraps?: boolean };

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
const modular = (x: readonly Operand[]): ReturnType<Rule> => ({ ...numeric(x), wraps: true });
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
  helpers?: (type: string) => string | readonly string[];
  /** The same function in f64, by its definition. `dtype` is the first operand's. Integer results wrap around. */
  js: (a: number, b: number, c: number, attrs: A, dtype: DType) => number;
  /** Gradient of each operand. Absent if the result is not differentiable (integers, booleans). */
  vjp?: (g: Tensor, y: Tensor, x: Tensor[], attrs: A) => (Tensor | null)[];
  commutative?: boolean;
  /** See `Op.algebra`. */
  algebra?: boolean;
  /** See `Op.opaque`. */
  opaque?: (attrs: A) => boolean;
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
    const { dtype } = a;
    if (c) for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], b.data[i], c.data[i], attrs, dtype);
    else if (b) for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], b.data[i], 0, attrs, dtype);
    else for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], 0, 0, attrs, dtype);
    if (node.dtype === "i32" || node.dtype === "u32")
      for (let i = 0; i < data.length; i++) data[i] = wrap(data[i], node.dtype);
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
  const { args, out, wraps } = rule(x);
  const dtypeOf = (i: number): DType => (typeof args === "string" ? args : args[i]);
  // A number beyond the normal halves: compute in f32, as torch does.
  const wide = x.some((v, i) => typeof v === "number" && dtypeOf(i) === "f16" && isBeyondHalves(v));
  const sources = x.map((v, i) => {
    const dtype = wide && dtypeOf(i) === "f16" ? "f32" : dtypeOf(i);
    if (typeof v !== "number") return expand(cast(v, dtype), shape);
    if (wraps && dtype === "u32" && v < 0 && holds("i32", v)) return full(shape, v >>> 0, dtype);
    checkValue(op.name, v, dtype);
    return full(shape, v, dtype);
  });
  return wide && out === "f16"
    ? cast(apply(op, sources, attrs, shape, "f32"), out)
    : apply(op, sources, attrs, shape, out);
}

const isBeyondHalves = (v: number): boolean =>
  Number.isFinite(v) && v !== 0 && (Math.abs(v) > 65504 || Math.abs(v) < 2 ** -14);

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

const sumRow = row({
  name: "add",
  rule: modular,
  commutative: true,
  algebra: true,
  wgsl: ([a, b]) => `(${a} + ${b})`,
  js: (a, b) => a + b,
  vjp: (g) => [g, g],
});
/** a + b; of two booleans whether either is true, as in torch. */
export const add = (a: Operand, b: Operand): Tensor => (areBool(a, b) ? logicalOr(a, b) : sumRow(a, b));
export const sub = row({
  name: "sub",
  rule: modular,
  algebra: true,
  wgsl: ([a, b]) => `(${a} - ${b})`,
  js: (a, b) => a - b,
  vjp: (g) => [g, g.neg()],
});
const productRow = row({
  name: "mul",
  rule: modular,
  commutative: true,
  algebra: true,
  wgsl: ([a, b]) => `(${a} * ${b})`,
  js: (a, b, _c, _attrs, dtype) => (isFloat(dtype) ? a * b : Math.imul(a, b)),
  vjp: (g, _y, [a, b]) => [g.mul(b), g.mul(a)],
});
/** a * b; of two booleans whether both are true, as in torch. */
export const mul = (a: Operand, b: Operand): Tensor => (areBool(a, b) ? logicalAnd(a, b) : productRow(a, b));
const areBool = (...x: Operand[]): boolean => x.every((v) => v instanceof Tensor && v.dtype === "bool");
export const div = row({
  name: "div",
  rule: float,
  algebra: true,
  opaque: () => true,
  wgsl: ([a, b]) => `(${a} / ${b})`,
  js: (a, b) => a / b,
  vjp: (g, y, [, b]) => [g.div(b), g.mul(y).div(b).neg()],
  cost: 4,
});
/** Remainder with the sign of the divisor, exact. Of floats by 0 it is NaN, of integers 0 (WGSL has no exception). */
export const mod = row({
  name: "mod",
  rule: modular,
  wgsl: ([a, b], _, type) => `remainder_${suffix(type)}(${a}, ${b})`,
  helpers: math.remainderWgsl,
  js: (a, b, _c, _attrs, dtype) => {
    if (!isFloat(dtype) && b === 0) return 0;
    const rest = a % b; // exact, with the sign of a
    return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
  },
  vjp: (g, y, [a, b]) => [g, b.requiresGrad ? g.mul(y.sub(a).div(b).round()) : null],
  cost: 24,
});
/** As in torch: a negative base has a value only for whole exponents, x^0 and 1^x are 1, even of NaN. */
const floatPow = row({
  name: "pow",
  rule: float,
  wgsl: ([a, b], _, type) => `power_${suffix(type)}(${a}, ${b})`,
  helpers: math.powerWgsl,
  js: math.power,
  vjp: (g, y, [a, b]) => [
    where(b.eq(0), 0, g.mul(b).mul(a.pow(b.sub(1)))),
    b.requiresGrad ? g.mul(where(a.eq(0).logicalAnd(b.ge(0)), 0, y.mul(a.log()))) : null,
  ],
  cost: 64,
});
/** Powers of integers, modulo 2^32. A negative exponent gives 1 / a^-b, truncated. */
const integerPow = row({
  name: "integer_pow",
  rule: numeric,
  wgsl: ([a, b], _, type) => `power_${suffix(type)}(${a}, ${b})`,
  helpers: math.integerPowerWgsl,
  js: math.integerPower,
  cost: 64,
});
export const pow = (a: Operand, b: Operand): Tensor => (isFloat(common([a, b])) ? floatPow(a, b) : integerPow(a, b));

const extreme = (name: string, wgsl: "max" | "min", vjp: Row<Attrs>["vjp"]) =>
  row({
    name,
    rule: numeric,
    commutative: true,
    wgsl: ([a, b], _, type) => math.extremeWgsl(wgsl, a, b, type),
    helpers: (type) => math.extremeHelper(wgsl, type),
    js: (a, b) => Math[wgsl](a, b), // NaN if either is
    vjp,
  });
/** The larger of two values. NaN if either is. */
export const maximum = extreme("maximum", "max", (g, _y, [a, b]) => [g.mul(half(a, b)), g.mul(half(b, a))]);
/** The smaller of two values. NaN if either is. */
export const minimum = extreme("minimum", "min", (g, _y, [a, b]) => [g.mul(half(b, a)), g.mul(half(a, b))]);
/** 1 where a > b, 0 where a < b. 1/2 in ties, which share the gradient. 1 for NaN, as in torch. */
const half = (a: Tensor, b: Tensor): Tensor => a.lt(b).to(a.dtype).add(a.le(b).to(a.dtype)).mul(-0.5).add(1);

// ---- comparison, selection, conversion --------------------------------------------------------

function compare(name: string, sign: string, js: (a: number, b: number) => boolean) {
  const op = row({
    name,
    rule: comparison,
    algebra: true,
    // Tint's != is ordered in SPIR-V: NaN != 1 would be false.
    wgsl: ([a, b]) => (sign === "!=" ? `!(${a} == ${b})` : `(${a} ${sign} ${b})`),
    js: (a, b) => Number(js(a, b)),
  });
  const compared = (...x: [Operand, Operand]): Tensor => {
    const i = x.findIndex((v, i) => dtypeOf(v) === "i32" && dtypeOf(x[1 - i]) === "u32");
    if (i >= 0) {
      // Signed with unsigned: negative numbers are smaller than all unsigned ones.
      const s = x[i] as Tensor;
      const both: [Operand, Operand] = i === 0 ? [cast(s, "u32"), x[1]] : [x[0], cast(s, "u32")];
      return where(s.lt(0), i === 0 ? areOrdered(0, 1) : areOrdered(1, 0), op(...both));
    }
    const beyond = x.findIndex((v, i) => typeof v === "number" && isBeyond(v, x[1 - i]));
    if (beyond < 0) return op(...x);
    // Every integer compares with it as 0 does.
    const [a, b] = x.map((v, i) => (i === beyond ? (v as number) : 0));
    return full((x[1 - beyond] as Tensor).shape, Number(js(a, b)), "bool");
  };
  const areOrdered = (a: number, b: number): Tensor => full([], Number(js(a, b)), "bool");
  return compared;
}
const dtypeOf = (v: Operand): DType | undefined => (v instanceof Tensor ? v.dtype : undefined);
/** Whether an integer tensor cannot hold a whole number. */
const isBeyond = (v: number, x: Operand): boolean =>
  x instanceof Tensor && (x.dtype === "i32" || x.dtype === "u32") && Number.isInteger(v) && !holds(x.dtype, v);

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

const castOp = defineOp<{ from: DType; to: DType }>({
  ...castFacts,
  vjp: (g, _y, [x]) => [isFloat(x.dtype) ? cast(g, x.dtype) : null],
});
/** x in dtype `to`; x itself if it has that dtype. */
export function cast(x: Tensor, to: DType): Tensor {
  if (x.dtype !== to) checkDType("to", to);
  return x.dtype === to ? x : apply(castOp, [x], { from: x.dtype, to }, x.shape, to);
}

/** The value of its first source, computed after the second. It keeps recomputed checkpoints from running early. */
export const afterOp = define({
  name: "after",
  rule: numeric,
  algebra: true,
  wgsl: ([x]) => x,
  js: (x) => x,
  vjp: (g) => [g, null],
});
