import type { DeviceInfo } from "../../graph/device-info.ts";
import { type DType, floatBits, literal } from "../../graph/dtype.ts";
import { add, constant, type Index, limitOf } from "../../graph/index-map.ts";
import type { Node } from "../../graph/node.ts";
import type { Origin } from "../../graph/op.ts";
import { numel } from "../../graph/shape.ts";
import { type Expr, indicesOf, walk } from "../expression/expr.ts";
import { bytesOf, reach, windowBytes, windowOf } from "../expression/window.ts";

const SCALAR: Record<DType, string> = { f32: "f32", f16: "f32", i32: "i32", u32: "u32", bool: "bool" };
const VECTOR: Record<DType, string> = { f32: "vec4f", f16: "vec4f", i32: "vec4i", u32: "vec4u", bool: "vec4<bool>" };
/** Ops of at least this cost are transcendental: halves go through them (and through those of positions) in f32. */
const TRANSCENDENTAL = 8;
/** What a buffer of each dtype holds (booleans as u32, halves in pairs). */
const STORED: Record<DType, string> = { f32: "f32", f16: "u32", i32: "i32", u32: "u32", bool: "u32" };

const wgslType = (dtype: DType, width: number): string => (width === 4 ? VECTOR : SCALAR)[dtype];

const FLOAT_EXACT = 2 ** 23; // up to here a float quotient is off by one at most
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

interface Value {
  readonly text: string;
  readonly width: 1 | 4;
}

export interface EmitterOptions {
  /** WGSL name (a u32) of each iteration variable. */
  readonly variables: readonly string[];
  /** The variable that steps by four, so that what depends on it is a vec4; -1 = none. */
  readonly vector: number;
  /** Prefix of every name, so that a hook's names do not meet its template's. */
  readonly prefix: string;
  /** Says whether f16 values are computed in f16 (`enable f16`), and how much a binding may hold: more is bound in windows. */
  readonly device: DeviceInfo;
}

/**
 * Writes expressions as WGSL statements. Shapes and strides go into `numbers`, which become a uniform:
 * graphs that differ only in sizes share their text, and so their pipeline.
 */
export class Emitter {
  readonly numbers: number[] = [];
  readonly lines: string[] = [];
  readonly helpers = new Set<string>();
  /** Where the user's ops among the expressions were defined. */
  readonly origins = new Set<Origin>();
  readonly buffers = new Map<Node, EmittedBuffer>();
  private computesHalves = false;
  /** The buffer of each load, and its first element there. */
  private readonly loads = new Map<Expr, { buffer: EmittedBuffer; start: number }>();
  private values = new Map<Expr, Value>();
  private readonly varying = new Map<Expr, boolean>();
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

  /** Directives that the kernel's text must begin with. */
  get directives(): string {
    return this.computesHalves ? "enable f16;\n" : "";
  }

  /** Statements that store `text` (width components) at `address` of a buffer. */
  store(name: string, dtype: DType, text: string, address: string, width: number): string {
    if (dtype === "f16") {
      if (width !== 4) throw new Error("internal: f16 is stored four at a time");
      const pack = this.options.device.f16Arithmetic ? "bitcast<u32>" : "pack2x16float";
      return `{ let h = ${text}; ${name}[(${address}) >> 2u] = vec2u(${pack}(h.xy), ${pack}(h.zw)); }`;
    }
    const value = dtype === "bool" ? `select(${width === 4 ? "vec4u(0u), vec4u(1u)" : "0u, 1u"}, ${text})` : text;
    return width === 4 ? `${name}[(${address}) >> 2u] = ${value};` : `${name}[${address}] = ${value};`;
  }

  /** The statements so far; later ones are in another scope and share no values with them. */
  take(): string {
    const text = this.lines.join("\n");
    this.lines.length = 0;
    this.values = new Map();
    return text;
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

  /** Emits `e` and returns the WGSL text of its value with `width` components. */
  emit(e: Expr, width: 1 | 4): string {
    const v = this.value(e);
    return v.width === width ? v.text : `${this.type(e.dtype, width)}(${v.text})`;
  }

  /** A number of the uniform; 0 and 1 stay in the text, they change its structure. */
  number(n: number): string {
    return n === 0 || n === 1 ? `${n}u` : this.word(n >>> 0);
  }

  /** `x` / `by`; through a float reciprocal where `x` < `limit` allows, since integer division is slow everywhere. */
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

  /** A word of the uniform, whatever its value: sizes that do not change the structure. */
  word(bits: number): string {
    const slot = this.numbers.push(bits) - 1;
    return `${this.options.prefix}n[${slot >> 2}].${"xyzw"[slot & 3]}`;
  }

  /** The text of an index; `lane` is added to the last variable. */
  index(ix: Index, lane = 0): string {
    const parts = ix.terms.map(({ coef, atom }) => {
      let text: string;
      if (atom.kind === "var") {
        text = this.options.variables[atom.id];
        if (lane > 0 && atom.id === this.last) text = `(${text} + ${lane}u)`;
      } else if (atom.kind === "value") {
        const v = this.value(atom.expr as Expr);
        text = `u32(${v.width === 4 ? `${v.text}.${"xyzw"[lane]}` : v.text})`;
      } else {
        const of = this.index(atom.of, lane);
        text =
          atom.kind === "div"
            ? this.quotient(of, atom.by, limitOf(atom.of))
            : this.remainder(of, atom.by, limitOf(atom.of));
      }
      return coef === 1 ? text : `${text} * ${this.number(coef)}`;
    });
    if (ix.offset !== 0) parts.push(this.number(ix.offset));
    if (parts.length === 0) return "0u";
    return parts.length === 1 ? parts[0] : `(${parts.join(" + ")})`;
  }

  private value(e: Expr): Value {
    const known = this.values.get(e);
    if (known) return known;
    let value = this.make(e);
    if (e.kind !== "register") {
      const name = `${this.options.prefix}v${this.count++}`;
      this.lines.push(`let ${name} = ${value.text};`);
      value = { text: name, width: value.width };
    }
    this.values.set(e, value);
    return value;
  }

  private make(e: Expr): Value {
    switch (e.kind) {
      case "register":
        return { text: e.name, width: e.width };
      case "load":
        return this.load(e);
      case "guard": {
        const width = this.varies(e) ? 4 : 1;
        const value = this.emit(e.value, width);
        const lanes = e.ranges.some((r) => this.indexVaries(r.index)) ? 4 : 1;
        const test = (lane: number): string =>
          e.ranges.map((r) => `(${this.index(r.index, lane)} < ${this.word(r.size)})`).join(" && ");
        const cond = lanes === 4 ? `vec4<bool>(${[0, 1, 2, 3].map(test).join(", ")})` : test(0);
        return { text: `select(${literal(e.otherwise, this.type(e.dtype, width))}, ${value}, ${cond})`, width };
      }
      case "op": {
        const width = this.varies(e) ? 4 : 1;
        const own = this.type(e.dtype, width);
        const widen = own.includes("f16") && ((e.op.cost ?? 1) >= TRANSCENDENTAL || e.linear !== undefined);
        const type = widen ? wgslType("f32", width) : own;
        const args = e.args.map((a) => {
          const text = this.emit(a, width);
          return widen && a.dtype === "f16" ? `${type}(${text})` : text;
        });
        if (e.linear) args.push(width === 4 ? this.lanes(e.linear) : this.index(e.linear));
        if (e.op.origin) this.origins.add(e.op.origin);
        const helpers = e.op.helpers?.(type);
        if (helpers) this.helpers.add(helpers);
        const text = e.op.wgsl!(args, e.attrs, type);
        return { text: widen ? `${own}(${text})` : text, width };
      }
    }
  }

  private load(e: Extract<Expr, { kind: "load" }>): Value {
    const { buffer, start } = this.loads.get(e)!;
    const { name, vector } = buffer;
    const address = start === 0 ? e.address : add(e.address, constant(-start));
    if (e.dtype === "f16") this.type("f16", 1); // notes that halves are computed with
    const pair = this.options.device.f16Arithmetic ? "bitcast<vec2<f16>>" : "unpack2x16float";
    const one = (lane: number): string => {
      const at = this.index(address, lane);
      if (e.dtype === "f16") return `${pair}(${name}[(${at}) >> 1u])[(${at}) & 1u]`;
      const word = vector ? `${name}[(${at}) >> 2u][(${at}) & 3u]` : `${name}[${at}]`;
      return e.dtype === "bool" ? `(${word} != 0u)` : word;
    };
    if (!this.varies(e)) return { text: one(0), width: 1 };
    if (!this.isVectorLoad(e))
      return { text: `${this.type(e.dtype, 4)}(${[0, 1, 2, 3].map(one).join(", ")})`, width: 4 };
    const at = this.index(address);
    if (e.dtype === "f16") {
      const word = `(${at}) >> 1u`;
      const pairs = `${pair}(${name}[${word}]), ${pair}(${name}[(${word}) + 1u])`;
      return { text: `${this.type("f16", 4)}(${pairs})`, width: 4 };
    }
    const text = `${name}[(${at}) >> 2u]`;
    return { text: e.dtype === "bool" ? `(${text} != vec4u(0u))` : text, width: 4 };
  }

  private lanes(ix: Index): string {
    if (!this.indexVaries(ix)) return `vec4u(${this.index(ix)})`;
    return `vec4u(${[0, 1, 2, 3].map((lane) => this.index(ix, lane)).join(", ")})`;
  }

  /** Whether the four lanes differ. */
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

  /** Four consecutive elements on a 16-byte boundary. */
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

/** `var<storage>` declaration of a buffer. */
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

/** The uniform that holds a kernel's numbers. */
export function numbersDeclaration(binding: number, name: string, count: number): string {
  return `@group(0) @binding(${binding}) var<uniform> ${name}: array<vec4u, ${Math.max(1, Math.ceil(count / 4))}>;`;
}
