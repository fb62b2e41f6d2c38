import { floatLiteral } from "./dtype.ts";
import type { Attrs } from "./node.ts";

/**
 * Weight-only quantisation of a matrix W [N, K]. Groups of 32, 64 or 128 values along K share a scale; zeros fill the last
 * group of a row. Element k of a row is code number k of the row's u32 words, lowest bits first. The value of a code c is
 * - int8, int4: (c - zero) * scale, where zero is 128 or 8 (symmetric) or stored after the scale (zero-point);
 * - nf4: NF4[c] * scale (QLoRA, https://arxiv.org/abs/2305.14314).
 */
export type QuantFormat = "int8" | "int4" | "nf4";
export type QuantGroup = 32 | 64 | 128;

/** Format of a packed matrix. */
export interface QuantLayout extends Attrs {
  readonly format: QuantFormat;
  readonly group: QuantGroup;
  readonly zeroPoint: boolean;
  /** "int8": products round the activations, with one scale per row and group, and multiply integers. */
  readonly activations: "float" | "int8";
  /** [N, K] of the dense matrix. */
  readonly shape: readonly [number, number];
}

export const bitsOf = (format: QuantFormat): 8 | 4 => (format === "int8" ? 8 : 4);
/** The code of 0 without a zero-point. */
export const middleOf = (format: QuantFormat): number => 2 ** (bitsOf(format) - 1);
export const groupsOf = ({ shape, group }: QuantLayout): number => Math.ceil(shape[1] / group);

/** Quantiles of the normal distribution, scaled to [-1, 1], with an exact zero (QLoRA, appendix E). */
export const NF4: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];

/** WGSL fn nf4: the values of four codes. A tree of selects by bits, because adapters keep dynamically indexed arrays in memory. */
export const NF4_WGSL = ((): string => {
  const node = (first: number, bit: number): string => {
    const [low, high] = bit < 0 ? [] : [node(first, bit - 1), node(first + 2 ** bit, bit - 1)];
    return bit < 0 ? `vec4f(${floatLiteral(NF4[first])})` : `select(${low}, ${high}, b${bit})`;
  };
  const bits = [0, 1, 2, 3].map((b) => `let b${b} = (codes & vec4u(${2 ** b}u)) != vec4u();`);
  return `fn nf4(codes: vec4u) -> vec4f {\n${bits.join("\n")}\nreturn ${node(0, 3)};\n}`;
})();
