import type { BufferRef, KernelCall, Prologue } from "../graph/kernel-call.ts";
import type { Node } from "../graph/node.ts";
import { NF4_WGSL, type QuantFormat } from "../graph/quantization.ts";
import { numel } from "../graph/shape.ts";

/** How a matmul kernel decodes one operand. */
export interface Reader {
  /** WGSL element type of the buffer when the kernel reads one value at a time. */
  readonly scalar: string;
  /** The same when it reads four. */
  readonly vector: string;
  readonly reads?: KernelCall["reads"];
  /** Further buffers that the hooks read. */
  readonly bind?: readonly BufferRef[];
}

/** How often a kernel reads an operand. */
export interface Reading {
  /** By vec4f, else by scalars. */
  readonly vec: boolean;
  /** Values read in all, by all invocations. */
  readonly loaded: number;
  /** `Prologue.copies`. */
  readonly copies: number;
}

/** `vectors`: reads of four values that the unrolled shader contains. */
export const reading = (vec: boolean, loaded: number, vectors: number): Reading => ({
  vec,
  loaded,
  copies: vec ? vectors : 4 * vectors,
});

/** A prologue on `operand` at position `source` of `bind`, computed in the hook `name`_1 or `name`_4. */
export const inputPrologue = (
  operand: Node,
  name: string,
  source: number,
  { vec, loaded, copies }: Reading,
): Prologue => ({
  source,
  shape: [numel(operand.shape)],
  type: vec ? "vec4f" : "f32",
  hook: vec ? `${name}_4` : `${name}_1`,
  readings: loaded / numel(operand.shape),
  copies,
});

export const F32: Reader = { scalar: "f32", vector: "vec4f" };

// Bodies of hooks that are never called. They must still compile with the buffer's element type.
export const [UNUSED_1, UNUSED_4] = ["return 0.0;", "return vec4f();"];

/** Reads f16, two values per word. `name` is the buffer's: "a", "b" or "x". */
export function halfReader(name: string, vec: boolean): Reader {
  const one = `return unpack2x16float(${name}[at / 2u])[at % 2u];`;
  const four = `let v = ${name}[at / 4u]; return vec4f(unpack2x16float(v.x), unpack2x16float(v.y));`;
  return {
    scalar: "u32",
    vector: "vec2u",
    reads: { hooks: { [`${name}_1`]: vec ? UNUSED_1 : one, [`${name}_4`]: vec ? four : UNUSED_4 } },
  };
}

/**
 * Reads the codes of four values from element `at` of the packed matrix `b` (layout: src/ops/quantized.ts). The conversion to
 * float goes through i32, because CPUs have no instruction that converts u32.
 */
const CODES: Record<QuantFormat, string> = {
  int8: "let codes = vec4f(vec4i((vec4u(b[at / 4u]) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u)));",
  int4: "let codes = vec4f(vec4i((vec4u(b[at / 8u] >> (at % 8u * 4u)) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u)));",
  nf4: "let codes = nf4(vec4u(b[at / 8u] >> (at % 8u * 4u)) >> vec4u(0u, 4u, 8u, 12u));",
};

/**
 * Reads B from a packed matrix. With `hoisted`, the hook b_4 returns plain codes: matmul.wgsl, which then reads along k, asks
 * b_scale once per group.
 */
export function packedReader(
  format: QuantFormat,
  group: number,
  zeroPoint: boolean,
  scales: BufferRef,
  hoisted: boolean,
): Reader {
  const zero = { int8: "128.0", int4: "8.0", nf4: "0.0" }[format];
  const scale = zeroPoint
    ? `let scale = unpack2x16float(b_scales[at / ${group}u]);`
    : `let scale = vec2f(unpack2x16float(b_scales[at / ${2 * group}u])[at / ${group}u % 2u], ${zero});`;
  const hooks: Record<string, string> = hoisted
    ? { b_4: `${CODES[format]}\n  return codes;`, b_scale: `${scale}\n  return scale;` }
    : { b_4: `${scale}\n  ${CODES[format]}\n  return (codes - scale.y) * scale.x;` };
  return {
    scalar: "u32",
    vector: "u32",
    reads: {
      hooks: { b_1: UNUSED_1, ...hooks },
      extraBindings: ["var<storage, read> b_scales: array<u32>"],
      helpers: format === "nf4" ? NF4_WGSL : undefined,
    },
    bind: [scales],
  };
}

/** The hooks, bindings and helpers of two readers. */
export function mergeReads({ reads: a = {} }: Reader, { reads: b = {} }: Reader): KernelCall["reads"] {
  return {
    hooks: { ...a.hooks, ...b.hooks },
    extraBindings: [...(a.extraBindings ?? []), ...(b.extraBindings ?? [])],
    helpers: [a.helpers, b.helpers].filter(Boolean).join("\n"),
  };
}
