import type { BufferRef, KernelCall, Prologue } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { NF4_WGSL, type QuantFormat } from "../graph/quantization.ts";
import { numel } from "../graph/shape.ts";

/** How the matmul kernels read one of their operands. */
export interface Reader {
  /** What the buffer's elements are, read one value at a time or four. */
  readonly one: string;
  readonly four: string;
  readonly reads?: KernelCall["reads"];
  /** What the hooks read beside the operand. */
  readonly bind?: readonly BufferRef[];
}

/** How an operand is read: by vec4f, how many values in all, and `Prologue.copies`. */
export interface Reading {
  readonly vec: boolean;
  readonly loaded: number;
  readonly copies: number;
}

/** `fours`: groups of four values that stand in the unrolled text. */
export const reading = (vec: boolean, loaded: number, fours: number): Reading => ({
  vec,
  loaded,
  copies: vec ? fours : 4 * fours,
});

/** What makes an operand may be computed in the hooks `name`_1 or `name`_4. */
export const made = (operand: Node, name: string, source: number, { vec, loaded, copies }: Reading): Prologue => ({
  source,
  shape: [numel(operand.shape)],
  type: vec ? "vec4f" : "f32",
  again: vec ? `${name}_4` : `${name}_1`,
  readings: loaded / numel(operand.shape),
  copies,
});

export const F32: Reader = { one: "f32", four: "vec4f" };

// Bodies of hooks that are not called, but must fit the buffer's type.
export const [NEVER, NEVER_4] = ["return 0.0;", "return vec4f();"];

/** Halves, two in a word. `name` is "a" or "b". */
export function halves(name: string, vec: boolean): Reader {
  const one = `return unpack2x16float(${name}[at / 2u])[at % 2u];`;
  const four = `let v = ${name}[at / 4u]; return vec4f(unpack2x16float(v.x), unpack2x16float(v.y));`;
  return {
    one: "u32",
    four: "vec2u",
    reads: { hooks: { [`${name}_1`]: vec ? NEVER : one, [`${name}_4`]: vec ? four : NEVER_4 } },
  };
}

/**
 * Four values from the codes of a packed matrix as `b` (layout: src/ops/quantized.ts), of which `at` counts elements. Signed
 * on the way to floats: CPUs have no instruction for the unsigned conversion.
 */
const QUADS: Record<QuantFormat, string> = {
  int8: "let codes = vec4f(vec4i((vec4u(b[at / 4u]) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u)));",
  int4: "let codes = vec4f(vec4i((vec4u(b[at / 8u] >> (at % 8u * 4u)) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u)));",
  nf4: "let codes = nf4(vec4u(b[at / 8u] >> (at % 8u * 4u)) >> vec4u(0u, 4u, 8u, 12u));",
};

/** A packed matrix as B; `hoisted`: matmul.wgsl reads along k and asks for the scale of a group but once. */
export function packed(
  format: QuantFormat,
  group: number,
  zeroPoint: boolean,
  scales: BufferRef,
  hoisted: boolean,
): Reader {
  const middle = { int8: "128.0", int4: "8.0", nf4: "0.0" }[format];
  const scale = zeroPoint
    ? `let scale = unpack2x16float(b_scales[at / ${group}u]);`
    : `let scale = vec2f(unpack2x16float(b_scales[at / ${2 * group}u])[at / ${group}u % 2u], ${middle});`;
  const hooks: Record<string, string> = hoisted
    ? { b_4: `${QUADS[format]}\n  return codes;`, b_scale: `${scale}\n  return scale;` }
    : { b_4: `${scale}\n  ${QUADS[format]}\n  return (codes - scale.y) * scale.x;` };
  return {
    one: "u32",
    four: "u32",
    reads: {
      hooks: { b_1: NEVER, ...hooks },
      extraBindings: ["var<storage, read> b_scales: array<u32>"],
      helpers: format === "nf4" ? NF4_WGSL : undefined,
    },
    bind: [scales],
  };
}

/** What two readers need together. */
export function both({ reads: a = {} }: Reader, { reads: b = {} }: Reader): KernelCall["reads"] {
  return {
    hooks: { ...a.hooks, ...b.hooks },
    extraBindings: [...(a.extraBindings ?? []), ...(b.extraBindings ?? [])],
    helpers: [a.helpers, b.helpers].filter(Boolean).join("\n"),
  };
}
