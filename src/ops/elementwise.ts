import { floatLiteral } from "../compile/emit.ts";
import { type DType, fromHalf, isFloat, promote, toHalf } from "../dtype.ts";
import type { Attrs } from "../node.ts";
import { type Shape, broadcastShapes } from "../shape.ts";
import { Tensor, apply } from "../tensor.ts";
import { type Op, defineOp } from "./define.ts";
import * as math from "./math.ts";
import { expand } from "./movement.ts";

export type Operand = Tensor | number;

/** The dtype that the operands are cast to (one, or one each) and that of the result. */
type Rule = (x: readonly Operand[]) => { args: DType | readonly DType[]; out: DType };

/** Highest dtype of the operands. A number follows the tensors, but makes integers float when it is not whole. */
function common(x: readonly Operand[]): DType {
  let dtype: DType = "bool";
  for (const v of x) if (typeof v !== "number") dtype = promote(dtype, v.dtype);
  return !isFloat(dtype) && x.some((v) => typeof v === "number" && !Number.isInteger(v)) ? "f32" : dtype;
}
const numeric: Rule = (x) => {
  const dtype = common(x) === "bool" ? "i32" : common(x);
  return { args: dtype, out: dtype };
};
const float: Rule = (x) => {
  const dtype = isFloat(common(x)) ? common(x) : "f32";
  return { args: dtype, out: dtype };
};
const comparison: Rule = (x) => ({ args: numeric(x).args, out: "bool" });
const logical: Rule = () => ({ args: "bool", out: "bool" });
const selection: Rule = ([, a, b]) => {
  const dtype = common([a, b]);
  return { args: ["bool", dtype, dtype], out: dtype };
};

/** One elementwise op: everything there is to say about it. */
interface Row<A> {
  name: string;
  rule: Rule;
  /** WGSL of the result for `type` ("f32", "vec4f", "i32", "bool", "vec4<bool>", …). f16 is computed in f32. */
  wgsl: (x: string[], attrs: A, type: string) => string;
  /** WGSL functions that the expression calls. */
  helpers?: (type: string) => string;
  /** The same value in f64. */
  js: (a: number, b: number, c: number, attrs: A) => number;
  /** Gradient of each operand; absent = not differentiable (integers, booleans). */
  vjp?: (g: Tensor, y: Tensor, x: Tensor[], attrs: A) => (Tensor | null)[];
  /** Rough flops, when far from 1. */
  cost?: number;
  keyOf?: (attrs: A) => string;
}

function define<A extends Attrs>(r: Row<A>): Op<A> {
  const reference: Op<A>["reference"] = ([a, b, c], attrs, node) => {
    const data = new Float64Array(a.data.length);
    const { js } = r;
    if (c) for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], b.data[i], c.data[i], attrs);
    else if (b) for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], b.data[i], 0, attrs);
    else for (let i = 0; i < data.length; i++) data[i] = js(a.data[i], 0, 0, attrs);
    return { data, shape: node.shape, dtype: node.dtype };
  };
  const { name, wgsl, helpers, vjp, cost, keyOf } = r;
  return defineOp<A>({ name, kind: "elementwise", wgsl, helpers, vjp, cost, keyOf, reference });
}

/** Broadcasts and casts the operands, then applies the op. */
function broadcast(op: Op, rule: Rule, x: readonly Operand[], attrs: Attrs): Tensor {
  let shape: Shape | undefined;
  for (const v of x) if (typeof v !== "number") shape = shape ? broadcastShapes(op.name, shape, v.shape) : v.shape;
  if (!shape) throw new TypeError(`${op.name}: no operand is a tensor`);
  const { args, out } = rule(x);
  const sources = x.map((v, i) => {
    if (typeof v !== "number" && !(v instanceof Tensor)) throw new TypeError(`${op.name}: operand ${i} must be a tensor or a number, got ${typeof v}`);
    const dtype = typeof args === "string" ? args : args[i];
    return typeof v === "number" ? full(shape, v, dtype) : expand(cast(v, dtype), shape);
  });
  return apply(op, sources, attrs, shape, out);
}

function row(r: Row<Attrs>): (...x: Operand[]) => Tensor {
  const op = define(r);
  return (...x) => broadcast(op, r.rule, x, {});
}

function rowWith<A extends Attrs>(r: Row<A>): (attrs: A, ...x: Operand[]) => Tensor {
  const op = define(r);
  return (attrs, ...x) => broadcast(op, r.rule, x, attrs);
}

const isFloatType = (type: string): boolean => type === "f32" || type === "vec4f";
/** Suffix that keeps the helper functions of each type apart. */
const suffix = (type: string): string => type.replace(/\W/g, "");

// ---- constants and counters -------------------------------------------------------------------

/** Text of a finite constant. */
function literal(value: number, type: string): string {
  if (type.includes("bool")) return `${type}(${value !== 0})`;
  return `${type}(${isFloatType(type) ? floatLiteral(value) : value})`;
}

const keyOfNumber = ({ value }: { value: number }): string => (Object.is(value, -0) ? "-0" : `${value}`);
const fillReference: Op["reference"] = (_x, { value }, { shape, dtype }) => ({
  data: new Float64Array(shape.reduce((n, d) => n * d, 1)).fill(dtype === "bool" ? Number(value !== 0) : value),
  shape,
  dtype,
});
export const fullOp = defineOp<{ value: number }>({
  name: "full",
  kind: "elementwise",
  wgsl: (_x, { value }, type) => literal(value, type),
  keyOf: keyOfNumber,
  reference: fillReference,
});
/** Infinities and NaN, which WGSL refuses as constant expressions. */
const specialOp = defineOp<{ value: number }>({
  name: "special",
  kind: "elementwise",
  wgsl: (_x, { value }, type) => `special_${suffix(type)}(${Number.isNaN(value) ? 0x7fc00000 : value > 0 ? 0x7f800000 : 0xff800000}u)`,
  helpers: (type) => `fn special_${suffix(type)}(bits: u32) -> ${type} { return ${type}(bitcast<f32>(bits)); }`,
  keyOf: keyOfNumber,
  reference: fillReference,
});

/** A constant of the graph: its value is part of the plan's key. */
export function full(shape: Shape, value: number, dtype: DType = "f32"): Tensor {
  const special = isFloat(dtype) && !Number.isFinite(value);
  if (!isFloat(dtype) && dtype !== "bool" && !Number.isInteger(value)) {
    throw new TypeError(`full: ${value} is not a value of dtype ${dtype}`);
  }
  return apply(special ? specialOp : fullOp, [], { value }, shape, dtype);
}

export const iotaOp = defineOp<{ start: number; step: number }>({
  name: "iota",
  kind: "elementwise",
  indexed: true,
  wgsl: ([i], { start, step }, type) => `(${literal(start, type)} + ${literal(step, type)} * ${type}(${i}))`,
  reference: (_x, { start, step }, { shape, dtype }) => ({
    data: new Float64Array(shape[0]).map((_, i) => start + step * i),
    shape,
    dtype,
  }),
});

/** Uniform numbers in [0, 1) with 24 random bits: a hash of (seed, offset, linear index). Source: u32 seed, expanded. */
export const randOp = defineOp<{ offset: number }>({
  name: "rand",
  kind: "elementwise",
  indexed: true,
  cost: 12,
  vjp: () => [null],
  wgsl: ([seed, i], { offset }, type) => `uniform_${suffix(type)}(${seed}, ${i}, ${offset}u)`,
  helpers: (type) => {
    const word = type === "f32" ? "u32" : "vec4u";
    // Two rounds of a 32-bit mixer: the seed's hash is spread over the index's.
    return `fn mix_${word}(x: ${word}) -> ${word} {
  let a = (x ^ (x >> ${word}(16u))) * ${word}(0x7feb352du);
  let b = (a ^ (a >> ${word}(15u))) * ${word}(0x846ca68bu);
  return b ^ (b >> ${word}(16u));
}
fn uniform_${suffix(type)}(seed: ${word}, i: ${word}, offset: u32) -> ${type} {
  let h = mix_${word}(mix_${word}(i + ${word}(offset * 0x9e3779b9u)) ^ mix_${word}(seed + ${word}(offset)));
  return ${type}(h >> ${word}(8u)) * ${type}(5.9604644775390625e-8);
}`;
  },
  reference: ([seed], { offset }, { shape, dtype }) => {
    const start = Math.imul(offset, 0x9e3779b9);
    const data = seed.data.map((s, i) => (math.mix((math.mix((i + start) >>> 0) ^ math.mix((s + offset) >>> 0)) >>> 0) >>> 8) * 2 ** -24);
    return { data, shape, dtype };
  },
});

// ---- arithmetic -------------------------------------------------------------------------------

export const add = row({ name: "add", rule: numeric, wgsl: ([a, b]) => `(${a} + ${b})`, js: (a, b) => a + b, vjp: (g) => [g, g] });
export const sub = row({ name: "sub", rule: numeric, wgsl: ([a, b]) => `(${a} - ${b})`, js: (a, b) => a - b, vjp: (g) => [g, g.neg()] });
export const mul = row({
  name: "mul",
  rule: numeric,
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
/** Remainder with the divisor's sign. */
export const mod = row({
  name: "mod",
  rule: numeric,
  wgsl: ([a, b], _, type) => (isFloatType(type) ? `(${a} - floor(${a} / ${b}) * ${b})` : `(((${a} % ${b}) + ${b}) % ${b})`),
  js: (a, b) => a - Math.floor(a / b) * b,
  vjp: (g, _y, [a, b]) => [g, g.mul(a.div(b).floor()).neg()],
  cost: 6,
});
/** As torch: a negative base has a value for whole exponents, and x^0 is 1. */
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
  js: (a, b) => Math.pow(a, b),
  vjp: (g, y, [a, b]) => [
    where(b.eq(0), 0, g.mul(b).mul(a.pow(b.sub(1)))),
    b.requiresGrad ? g.mul(where(a.eq(0).logicalAnd(b.ge(0)), 0, y.mul(a.log()))) : null,
  ],
  cost: 24,
});
/** pow with the common exponents as cheaper ops. */
export function power(x: Tensor, b: Operand): Tensor {
  if (b === 1) return x;
  if (b === 2) return square(x);
  if (b === 3) return mul(square(x), x);
  if (b === 0.5) return sqrt(x);
  if (b === -0.5) return rsqrt(x);
  return b === -1 ? reciprocal(x) : pow(x, b);
}
export const maximum = row({
  name: "maximum",
  rule: numeric,
  wgsl: ([a, b]) => `max(${a}, ${b})`,
  js: (a, b) => (a >= b ? a : b),
  vjp: (g, _y, [a, b]) => [g.mul(half(a, b)), g.mul(half(b, a))],
});
export const minimum = row({
  name: "minimum",
  rule: numeric,
  wgsl: ([a, b]) => `min(${a}, ${b})`,
  js: (a, b) => (a <= b ? a : b),
  vjp: (g, _y, [a, b]) => [g.mul(half(b, a)), g.mul(half(a, b))],
});
/** 1 where a > b, 0 where a < b, 1/2 in ties, which share the gradient. */
const half = (a: Tensor, b: Tensor): Tensor => a.gt(b).to(a.dtype).add(a.ge(b).to(a.dtype)).mul(0.5);

export const neg = row({ name: "neg", rule: numeric, wgsl: ([x]) => `(-${x})`, js: (x) => -x, vjp: (g) => [g.neg()] });
export const abs = row({ name: "abs", rule: numeric, wgsl: ([x]) => `abs(${x})`, js: Math.abs, vjp: (g, _y, [x]) => [g.mul(x.sign())] });
export const square = row({ name: "square", rule: numeric, wgsl: ([x]) => `(${x} * ${x})`, js: (x) => x * x, vjp: (g, _y, [x]) => [g.mul(x).mul(2)] });
export const sign = row({ name: "sign", rule: numeric, wgsl: ([x]) => `sign(${x})`, js: Math.sign, vjp: () => [null] });
export const floor = row({ name: "floor", rule: float, wgsl: ([x]) => `floor(${x})`, js: Math.floor, vjp: () => [null] });
export const ceil = row({ name: "ceil", rule: float, wgsl: ([x]) => `ceil(${x})`, js: Math.ceil, vjp: () => [null] });
/** Half to even. */
export const round = row({ name: "round", rule: float, wgsl: ([x]) => `round(${x})`, js: math.round, vjp: () => [null] });
export const reciprocal = row({
  name: "reciprocal",
  rule: float,
  wgsl: ([x], _, type) => `(${type}(1.0) / ${x})`,
  js: (x) => 1 / x,
  vjp: (g, y) => [g.mul(y.square()).neg()],
  cost: 4,
});
export const sqrt = row({ name: "sqrt", rule: float, wgsl: ([x]) => `sqrt(${x})`, js: Math.sqrt, vjp: (g, y) => [g.div(y).mul(0.5)], cost: 4 });
export const rsqrt = row({
  name: "rsqrt",
  rule: float,
  wgsl: ([x]) => `inverseSqrt(${x})`,
  js: (x) => 1 / Math.sqrt(x),
  vjp: (g, y) => [g.mul(y.square().mul(y)).mul(-0.5)],
  cost: 4,
});
export const clamp = rowWith<{ min?: number; max?: number }>({
  name: "clamp",
  rule: numeric,
  wgsl: ([x], { min, max }, type) => {
    const low = min === undefined ? x : `max(${x}, ${literal(min, type)})`;
    return max === undefined ? low : `min(${low}, ${literal(max, type)})`;
  },
  js: (x, _b, _c, { min = -Infinity, max = Infinity }) => Math.min(Math.max(x, min), max),
  vjp: (g, _y, [x], { min = -Infinity, max = Infinity }) => [where(x.ge(min).logicalAnd(x.le(max)), g, 0)],
  keyOf: ({ min, max }) => `${min},${max}`,
});

// ---- transcendental functions and activations -------------------------------------------------

export const exp = row({ name: "exp", rule: float, wgsl: ([x]) => `exp(${x})`, js: Math.exp, vjp: (g, y) => [g.mul(y)], cost: 8 });
export const log = row({ name: "log", rule: float, wgsl: ([x]) => `log(${x})`, js: Math.log, vjp: (g, _y, [x]) => [g.div(x)], cost: 8 });
export const sin = row({ name: "sin", rule: float, wgsl: ([x]) => `sin(${x})`, js: Math.sin, vjp: (g, _y, [x]) => [g.mul(x.cos())], cost: 12 });
export const cos = row({ name: "cos", rule: float, wgsl: ([x]) => `cos(${x})`, js: Math.cos, vjp: (g, _y, [x]) => [g.mul(x.sin()).neg()], cost: 12 });
export const tanh = row({
  name: "tanh",
  rule: float,
  wgsl: ([x], _, type) => `tanh(clamp(${x}, ${type}(-10.0), ${type}(10.0)))`, // some drivers overflow in exp
  js: Math.tanh,
  vjp: (g, y) => [g.mul(y.square().neg().add(1))],
  cost: 12,
});
export const sigmoid = row({
  name: "sigmoid",
  rule: float,
  wgsl: ([x], _, type) => `(${type}(1.0) / (${type}(1.0) + exp(-${x})))`,
  js: math.sigmoid,
  vjp: (g, y) => [g.mul(y.mul(y.neg().add(1)))],
  cost: 12,
});
export const erf = row({
  name: "erf",
  rule: float,
  wgsl: ([x], _, type) => `erf_${suffix(type)}(${x})`,
  helpers: math.erfWgsl,
  js: math.erf,
  vjp: (g, _y, [x]) => [g.mul(x.square().neg().exp()).mul(2 / Math.sqrt(Math.PI))],
  cost: 16,
});
export const relu = row({ name: "relu", rule: numeric, wgsl: ([x], _, type) => `max(${x}, ${type}(0))`, js: (x) => (x > 0 ? x : 0), vjp: (g, y) => [where(y.gt(0), g, 0)] });
export const silu = row({
  name: "silu",
  rule: float,
  wgsl: ([x], _, type) => `(${x} / (${type}(1.0) + exp(-${x})))`,
  js: (x) => x * math.sigmoid(x),
  vjp: (g, _y, [x]) => [g.mul(swishSlope(x, 1))],
  cost: 12,
});
/** x * sigmoid(1.702 x), the activation of CLIP. */
export const quickGelu = row({
  name: "quick_gelu",
  rule: float,
  wgsl: ([x], _, type) => `(${x} / (${type}(1.0) + exp(-1.702 * ${x})))`,
  js: (x) => x * math.sigmoid(1.702 * x),
  vjp: (g, _y, [x]) => [g.mul(swishSlope(x, 1.702))],
  cost: 12,
});
/** Derivative of x * sigmoid(b x). */
function swishSlope(x: Tensor, b: number): Tensor {
  const s = x.mul(b).sigmoid();
  return s.mul(x.mul(b).mul(s.neg().add(1)).add(1));
}
export const softplus = row({
  name: "softplus",
  rule: float,
  wgsl: ([x], _, type) => `(max(${x}, ${type}(0.0)) + log(${type}(1.0) + exp(-abs(${x}))))`,
  js: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
  vjp: (g, _y, [x]) => [g.mul(x.sigmoid())],
  cost: 20,
});
/** Exact GELU, x * Φ(x) (https://arxiv.org/abs/1606.08415). */
export const gelu = row({
  name: "gelu",
  rule: float,
  wgsl: ([x], _, type) => `(0.5 * ${x} * (1.0 + erf_${suffix(type)}(${x} * 0.70710678)))`,
  helpers: math.erfWgsl,
  js: (x) => x * math.normalCdf(x),
  vjp: (g, _y, [x]) => [g.mul(geluSlope(x))],
  cost: 20,
});
const geluSlope = row({
  name: "gelu_slope",
  rule: float,
  wgsl: ([x], _, type) => `(0.5 + 0.5 * erf_${suffix(type)}(${x} * 0.70710678) + ${x} * 0.39894228 * exp(-0.5 * ${x} * ${x}))`,
  helpers: math.erfWgsl,
  js: (x) => math.normalCdf(x) + x * math.normalPdf(x),
  vjp: (g, _y, [x]) => [g.mul(x.square().mul(-0.5).exp().mul(1 / Math.sqrt(2 * Math.PI)).mul(x.square().neg().add(2)))],
  cost: 28,
});
/** GELU by the tanh approximation of the same paper. */
export const geluTanh = row({
  name: "gelu_tanh",
  rule: float,
  // 0.5 (1 + tanh u) = sigmoid(2u)
  wgsl: ([x], _, type) => `(${x} / (${type}(1.0) + exp(${x} * (-1.5957691 - 0.071354814 * ${x} * ${x}))))`,
  js: (x) => x * math.sigmoid(2 * math.GELU_K * (x + 0.044715 * x ** 3)),
  vjp: (g, _y, [x]) => {
    const s = x.mul(x.square().mul(2 * math.GELU_K * 0.044715).add(2 * math.GELU_K)).sigmoid();
    const slope = x.square().mul(6 * math.GELU_K * 0.044715).add(2 * math.GELU_K);
    return [g.mul(s.mul(x.mul(slope).mul(s.neg().add(1)).add(1)))];
  },
  cost: 16,
});

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
export const logicalAnd = row({ name: "logical_and", rule: logical, wgsl: ([a, b]) => `(${a} & ${b})`, js: (a, b) => Number(a && b) });
export const logicalOr = row({ name: "logical_or", rule: logical, wgsl: ([a, b]) => `(${a} | ${b})`, js: (a, b) => Number(a || b) });
export const where = row({
  name: "where",
  rule: selection,
  wgsl: ([c, a, b]) => `select(${b}, ${a}, ${c})`,
  js: (c, a, b) => (c ? a : b),
  vjp: (g, _y, [c]) => [null, where(c, g, 0), where(c, 0, g)],
});

const castOp = define<{ to: DType }>({
  name: "cast",
  rule: numeric,
  wgsl: ([x], { to }, type) => (to === "f16" ? `quantizeToF16(${type}(${x}))` : `${type}(${x})`),
  js: (x, _b, _c, { to }) => {
    if (to === "f16") return fromHalf(toHalf(x));
    if (to === "bool") return Number(x !== 0);
    if (to === "u32") return Math.min(Math.max(Math.trunc(x), 0), 0xffffffff);
    return to === "i32" ? Math.min(Math.max(Math.trunc(x), -0x80000000), 0x7fffffff) : x;
  },
  vjp: (g, _y, [x]) => [isFloat(x.dtype) ? cast(g, x.dtype) : null],
});
export function cast(x: Tensor, to: DType): Tensor {
  return x.dtype === to ? x : apply(castOp, [x], { to }, x.shape, to);
}

/** The value of its first source; the second only has to be computed before (it keeps recomputation late). */
export const afterOp = define({
  name: "after",
  rule: numeric,
  wgsl: ([x]) => x,
  js: (x) => x,
  vjp: (g) => [g, null],
});
