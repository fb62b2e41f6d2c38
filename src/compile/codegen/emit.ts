import type { DeviceInfo } from "../../graph/device-info.ts";
import { type DType, floatBits, isFloat, isFloatType, literal, PACK_HALVES } from "../../graph/dtype.ts";
import { type Atom, add, constant, type Index, limitOf } from "../../graph/index-map.ts";
import type { Node } from "../../graph/node.ts";
import type { Origin } from "../../graph/op.ts";
import { numel } from "../../graph/shape.ts";
import { type Expr, indicesOf, walk } from "../expression/expr.ts";
import { bytesOf, reach, windowBytes, windowOf } from "../expression/window.ts";
import { Terms } from "./terms.ts";

const SCALAR: Record<DType, string> = { f32: "f32", f16: "f32", i32: "i32", u32: "u32", bool: "bool" };
const VECTOR: Record<DType, string> = { f32: "vec4f", f16: "vec4f", i32: "vec4i", u32: "vec4u", bool: "vec4<bool>" };
/** Ops of at least this cost are transcendental: f16 operands are widened to f32 for them, and for ops of positions. */
const TRANSCENDENTAL = 8;
/** Type of a buffer's elements per dtype: booleans are u32, f16 are pairs in a u32. */
const STORED: Record<DType, string> = { f32: "f32", f16: "u32", i32: "i32", u32: "u32", bool: "u32" };

const wgslType = (dtype: DType, width: number): string => (width === 4 ? VECTOR : SCALAR)[dtype];

const FLOAT_EXACT = 2 ** 23; // below this, a quotient through floats is off by at most one
const QUOTIENT = `fn quotient(x: u32, by: u32, inverse: f32) -> u32 {
let q = u32(f32(x) * inverse);
let r = x - q * by;
return select(select(q, q + 1u, r >= by), q - 1u, r >= 0x80000000u);
}
fn remainder(x: u32, by: u32, inverse: f32) -> u32 { return x - quotient(x, by, inverse) * by; }`;

/** A buffer that an emitted kernel reads or writes. */
export interface EmittedBuffer {
  readonly node: Node;
  readonly name: string;
  readonly vector: boolean;
}

/** A WGSL expression and its number of components. */
interface Value {
  readonly code: string;
  readonly width: 1 | 4;
}

export interface EmitterOptions {
  /** WGSL name (a u32) of each iteration variable. */
  readonly variables: readonly string[];
  /** The variable that advances by four: values that depend on it are vec4. -1: none. */
  readonly vector: number;
  /** Prefix of every name, so that names in a hook differ from names in its template. */
  readonly prefix: string;
  /** Decides whether f16 is computed in f16 (`enable f16`), and which buffers are so large that windows of them are bound. */
  readonly device: DeviceInfo;
}

/**
 * Writes expressions as WGSL statements. Shapes and strides go into `numbers`, which become a uniform: graphs that differ
 * only in sizes share one shader, and so one pipeline.
 */
export class Emitter {
  readonly numbers: number[] = [];
  readonly lines: string[] = [];
  readonly helpers = new Set<string>();
  /** Where the user's ops among the expressions were defined. */
  readonly origins = new Set<Origin>();
  readonly buffers = new Map<Node, EmittedBuffer>();
  private computesHalves = false;
  /** The buffer of each load, and the first element that is bound. */
  private readonly loads = new Map<Expr, { buffer: EmittedBuffer; start: number }>();
  private values = new Map<Expr, Value>();
  private readonly varying = new Map<Expr, boolean>();
  private readonly terms = new Terms();
  private zero?: string;
  private readonly last: number;
  private count = 0;

  constructor(private readonly options: EmitterOptions) {
    this.last = options.vector;
  }

  /** WGSL type of a value with `width` components. */
  type(dtype: DType, width: number): string {
    if (dtype !== "f16" || !this.options.device.f16Arithmetic) return wgslType(dtype, width);
    this.computesHalves = true;
    return width === 4 ? "vec4<f16>" : "f16";
  }

  /** Directives at the start of the shader. */
  get directives(): string {
    return this.computesHalves ? "enable f16;\n" : "";
  }

  /** Statements that store the expression `code` (width components) at `address` of a buffer. */
  store(name: string, dtype: DType, code: string, address: string, width: number): string {
    if (dtype === "f16") {
      if (width !== 4) throw new Error("internal: f16 is stored four at a time");
      const native = this.options.device.f16Arithmetic;
      if (!native) this.helpers.add(PACK_HALVES);
      const pack = native ? "bitcast<u32>" : "pack_halves";
      return `{ let h = ${code}; ${name}[(${address}) >> 2u] = vec2u(${pack}(h.xy), ${pack}(h.zw)); }`;
    }
    const value = dtype === "bool" ? `select(${width === 4 ? "vec4u(0u), vec4u(1u)" : "0u, 1u"}, ${code})` : code;
    return width === 4 ? `${name}[(${address}) >> 2u] = ${value};` : `${name}[${address}] = ${value};`;
  }

  /** Takes the statements emitted so far. Later statements are in another scope: they reuse none of these values. */
  take(): string {
    const statements = this.lines.join("\n");
    this.lines.length = 0;
    this.values = new Map();
    return statements;
  }

  /** Declares the buffers that `exprs` load. Call once, before `emit`, with all expressions of the kernel. */
  declare(exprs: readonly Expr[]): void {
    const { prefix } = this.options;
    const limit = this.options.device.maxBindingBytes;
    const windows: { node: Node; lo: number; hi: number; vector: boolean; loads: Expr[] }[] = [];
    for (const e of walk(exprs)) {
      if (e.kind !== "load") continue;
      const { node } = e;
      const [lo, hi] = bytesOf(node) > limit ? reach(e.address, numel(node.shape)) : [0, 0];
      const known = windows.find(
        (w) => w.node === node && windowBytes(node.dtype, Math.min(lo, w.lo), Math.max(hi, w.hi)) <= limit,
      );
      const window = known ?? { node, lo, hi, vector: false, loads: [] };
      if (!known) windows.push(window);
      window.lo = Math.min(lo, window.lo);
      window.hi = Math.max(hi, window.hi);
      window.vector ||= this.isVectorLoad(e);
      window.loads.push(e);
    }
    for (const { node, lo, hi, vector, loads } of windows) {
      const bound = bytesOf(node) > limit ? windowOf(node, node.dtype, lo, hi) : { node, start: 0 };
      const buffer = { node: bound.node, name: `${prefix}in${this.buffers.size}`, vector };
      this.buffers.set(bound.node, buffer);
      for (const e of loads) this.loads.set(e, { buffer, start: bound.start });
    }
  }

  /** Emits `e` and returns a WGSL expression of its value with `width` components. */
  emit(e: Expr, width: 1 | 4): string {
    const v = this.value(e);
    return v.width === width ? v.code : `${this.type(e.dtype, width)}(${v.code})`;
  }

  /** A number, read from the uniform. 0 and 1 stay literals, because the driver simplifies with them. */
  number(n: number): string {
    return n === 0 || n === 1 ? `${n}u` : this.word(n >>> 0);
  }

  /** `x` / `by`, for `x` < `limit`. Small limits use a float reciprocal, because GPUs divide integers slowly. */
  quotient(x: string, by: number, limit: number): string {
    if (limit > FLOAT_EXACT) return `(${x} / ${this.word(by)})`;
    this.helpers.add(QUOTIENT);
    return `quotient(${x}, ${this.word(by)}, bitcast<f32>(${this.word(floatBits(1 / by))}))`;
  }

  private remainder(x: string, by: number, limit: number): string {
    if (limit > FLOAT_EXACT) return `(${x} % ${this.word(by)})`;
    this.helpers.add(QUOTIENT);
    return `remainder(${x}, ${this.word(by)}, bitcast<f32>(${this.word(floatBits(1 / by))}))`;
  }

  /** A word of the uniform, whatever its value. */
  word(bits: number): string {
    const slot = this.numbers.push(bits) - 1;
    return `${this.options.prefix}n[${slot >> 2}].${"xyzw"[slot & 3]}`;
  }

  /** WGSL of an index in component `lane` of a vec4: `lane` is added to the vector variable. */
  index(ix: Index, lane = 0): string {
    const parts = ix.terms.map(({ coef, atom }) => {
      const code = this.atom(atom, lane);
      return coef === 1 ? code : `${code} * ${this.number(coef)}`;
    });
    if (ix.offset !== 0) parts.push(this.number(ix.offset));
    if (parts.length === 0) return "0u";
    return parts.length === 1 ? parts[0] : `(${parts.join(" + ")})`;
  }

  private atom(atom: Atom, lane: number): string {
    if (atom.kind === "var") {
      const name = this.options.variables[atom.id];
      return lane > 0 && atom.id === this.last ? `(${name} + ${lane}u)` : name;
    }
    if (atom.kind === "value") {
      const { code, width } = this.value(atom.expr as Expr);
      return `u32(${width === 4 ? `${code}.${"xyzw"[lane]}` : code})`;
    }
    const of = this.index(atom.of, lane);
    const limit = limitOf(atom.of);
    return atom.kind === "div" ? this.quotient(of, atom.by, limit) : this.remainder(of, atom.by, limit);
  }

  /** The variable that holds `e`. Emits its statement at the first use. */
  private value(e: Expr): Value {
    const known = this.values.get(e);
    if (known) return known;
    let value = this.compute(e);
    if (e.kind !== "register") {
      const name = `${this.options.prefix}v${this.count++}`;
      this.lines.push(`let ${name} = ${value.code};`);
      value = { code: name, width: value.width };
    }
    this.values.set(e, value);
    return value;
  }

  private compute(e: Expr): Value {
    switch (e.kind) {
      case "register":
        return { code: e.name, width: e.width };
      case "load":
        return this.load(e);
      case "guard": {
        const width = this.varies(e) ? 4 : 1;
        const value = this.emit(e.value, width);
        const lanes = e.ranges.some((r) => this.indexVaries(r.index)) ? 4 : 1;
        const test = (lane: number): string =>
          e.ranges.map((r) => `(${this.index(r.index, lane)} < ${this.word(r.size)})`).join(" && ");
        const cond = lanes === 4 ? `vec4<bool>(${[0, 1, 2, 3].map(test).join(", ")})` : test(0);
        const type = this.type(e.dtype, width);
        const fill = e.otherwise === 0 ? `${type}()` : `${type}(${this.constant(e.otherwise, e.dtype)})`;
        return { code: `select(${fill}, ${value}, ${cond})`, width };
      }
      case "op": {
        if (e.op.constant) return { code: this.constant(e.op.constant(e.attrs), e.dtype), width: 1 };
        const width = this.varies(e) ? 4 : 1;
        const own = this.type(e.op.operandTyped ? e.args[0].dtype : e.dtype, width);
        const widen = own.includes("f16") && ((e.op.cost ?? 1) >= TRANSCENDENTAL || e.linear !== undefined);
        const type = widen ? wgslType("f32", width) : own;
        const args = e.args.map((a) => {
          const arg = this.emit(a, width);
          return widen && a.dtype === "f16" ? `${type}(${arg})` : arg;
        });
        if (e.op.algebra && isFloat(e.args[0].dtype) && this.terms.areShared(e.args)) {
          const last = args.length - 1;
          args[last] = this.hidden(args[last], widen ? type : this.type(e.args[last].dtype, width));
        }
        if (e.linear) args.push(width === 4 ? this.lanes(e.linear) : this.index(e.linear));
        if (e.op.origin) this.origins.add(e.op.origin);
        for (const helper of [e.op.helpers?.(type) ?? []].flat()) this.helpers.add(helper);
        const raw = e.op.wgsl!(args, e.attrs, type);
        const code = e.op.opaque?.(e.attrs) && isFloatType(type) ? this.hidden(raw, type) : raw;
        return { code: widen && !e.op.operandTyped ? `${own}(${code})` : code, width };
      }
    }
  }

  /**
   * WGSL of a scalar constant. Floats are words of the uniform: WGSL cannot write infinities and NaN, and drivers fold
   * constants they know as if numbers were real: x * 0 to 0, and (x * 1e30) * 1e30 to x * ∞.
   */
  constant(value: number, dtype: DType): string {
    const type = this.type(dtype, 1);
    if (!isFloat(dtype)) return literal(value, type);
    const code = `bitcast<f32>(${this.word(floatBits(value))})`;
    return type === "f16" ? `f16(${code})` : code;
  }

  /** `x` as a value that the driver knows nothing of: its bits ^ 0, where the 0 is read from the uniform. */
  private hidden(x: string, type: string): string {
    this.zero ??= this.word(0);
    if (type === "f16") return `f16(bitcast<f32>(bitcast<u32>(f32(${x})) ^ ${this.zero}))`;
    const words = { f32: "u32", vec4f: "vec4u", "vec4<f16>": "vec2u" }[type]!;
    return `bitcast<${type}>(bitcast<${words}>(${x}) ^ ${words}(${this.zero}))`;
  }

  private load(e: Extract<Expr, { kind: "load" }>): Value {
    const { buffer, start } = this.loads.get(e)!;
    const { name, vector } = buffer;
    const address = start === 0 ? e.address : add(e.address, constant(-start));
    if (e.dtype === "f16") this.type("f16", 1); // records that the shader needs `enable f16`
    const pair = this.options.device.f16Arithmetic ? "bitcast<vec2<f16>>" : "unpack2x16float";
    const one = (lane: number): string => {
      const at = this.index(address, lane);
      if (e.dtype === "f16") return `${pair}(${name}[(${at}) >> 1u])[(${at}) & 1u]`;
      const word = vector ? `${name}[(${at}) >> 2u][(${at}) & 3u]` : `${name}[${at}]`;
      return e.dtype === "bool" ? `(${word} != 0u)` : word;
    };
    if (!this.varies(e)) return { code: one(0), width: 1 };
    if (!this.isVectorLoad(e))
      return { code: `${this.type(e.dtype, 4)}(${[0, 1, 2, 3].map(one).join(", ")})`, width: 4 };
    const at = this.index(address);
    if (e.dtype === "f16") {
      const word = `(${at}) >> 1u`;
      const pairs = `${pair}(${name}[${word}]), ${pair}(${name}[(${word}) + 1u])`;
      return { code: `${this.type("f16", 4)}(${pairs})`, width: 4 };
    }
    const word = `${name}[(${at}) >> 2u]`;
    return { code: e.dtype === "bool" ? `(${word} != vec4u(0u))` : word, width: 4 };
  }

  /** An index as a vec4u, one component per lane. */
  private lanes(ix: Index): string {
    if (!this.indexVaries(ix)) return `vec4u(${this.index(ix)})`;
    return `vec4u(${[0, 1, 2, 3].map((lane) => this.index(ix, lane)).join(", ")})`;
  }

  /** Whether the four components of a value differ. */
  private varies(e: Expr): boolean {
    if (e.kind === "register") return e.width === 4;
    if (this.last < 0) return false;
    let varies = this.varying.get(e);
    if (varies === undefined) {
      varies =
        (e.kind === "op" && e.args.some((a) => this.varies(a))) ||
        (e.kind === "guard" && this.varies(e.value)) ||
        indicesOf(e).some((ix) => this.indexVaries(ix));
      this.varying.set(e, varies);
    }
    return varies;
  }

  private indexVaries(ix: Index): boolean {
    if (this.last < 0) return false;
    return ix.terms.some(({ atom }) =>
      atom.kind === "var"
        ? atom.id === this.last
        : atom.kind === "value"
          ? this.varies(atom.expr as Expr)
          : this.indexVaries(atom.of),
    );
  }

  /** Whether a load reads four consecutive elements on a 16-byte boundary. */
  private isVectorLoad(e: Extract<Expr, { kind: "load" }>): boolean {
    if (this.last < 0 || e.address.offset % 4 !== 0) return false;
    let found = false;
    for (const { coef, atom } of e.address.terms) {
      if (atom.kind === "var" && atom.id === this.last) {
        if (coef !== 1) return false;
        found = true;
      } else if (
        coef % 4 !== 0 ||
        (atom.kind === "value" ? this.varies(atom.expr as Expr) : atom.kind !== "var" && this.indexVaries(atom.of))
      )
        return false;
    }
    return found;
  }
}

/** The `var<storage>` declaration of a buffer. */
export function bufferDeclaration(
  binding: number,
  name: string,
  dtype: DType,
  vector: boolean,
  access: "read" | "read_write",
): string {
  const stored = STORED[dtype];
  let type = stored;
  if (dtype === "f16") type = access === "read" ? "u32" : "vec2u";
  else if (vector) type = `vec4<${stored}>`;
  return `@group(0) @binding(${binding}) var<storage, ${access}> ${name}: array<${type}>;`;
}

/** The declaration of the uniform with a kernel's numbers. */
export function numbersDeclaration(binding: number, name: string, count: number): string {
  return `@group(0) @binding(${binding}) var<uniform> ${name}: array<vec4u, ${Math.max(1, Math.ceil(count / 4))}>;`;
}
