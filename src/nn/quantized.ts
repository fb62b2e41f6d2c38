import type { QuantFormat, QuantGroup, QuantLayout } from "../graph/quantization.ts";
import { numel, show } from "../graph/shape.ts";
import { tensor, zeros } from "../ops/functional.ts";
import { decode, encode, packedShapes, quantizedProduct } from "../ops/quantized.ts";
import { flush } from "../tensor/engine.ts";
import { Tensor } from "../tensor/tensor.ts";
import { Linear } from "./layers.ts";
import type { LoRALayer } from "./lora.ts";
import { Module } from "./module.ts";
import { setParameter } from "./parameter.ts";

export type { QuantFormat } from "../graph/quantization.ts";

export interface QuantOptions {
  /** "int8", "int4", or "nf4" (arXiv 2305.14314). */
  format: QuantFormat;
  /** Adjacent values along the input dim that share a scale: 32, 64 or 128. Default 64. */
  group?: QuantGroup;
  /** int8 and int4: store a zero-point per group, for values that are not centred on 0. Default false. */
  zeroPoint?: boolean;
  /**
   * "int8" also rounds the input of each product, with one scale per row and group, and multiplies integers (W8A8). It needs int8
   * weights without zero-points, and is fast where WGSL has `packed_4x8_integer_dot_product`. The error per input is about 1/250
   * of the largest input of its group. Gradients ignore the rounding. Default "float".
   */
  activations?: "float" | "int8";
}

/**
 * A matrix [N, K] with 4 or 8 bits per value and an f16 scale per group (layout: `src/ops/quantized.ts`). Its tensors belong to
 * the state of a model, but never train.
 */
export class QuantizedWeight extends Module {
  packed: Tensor; // u32 [N, K / 8] (4 bits) or [N, K / 4] (int8), K padded to whole groups
  scales: Tensor; // f16 [N, groups]; with zero-points [N, groups, 2]
  readonly #layout: QuantLayout;

  constructor(
    shape: readonly [number, number],
    { format, group = 64, zeroPoint = false, activations = "float" }: QuantOptions,
  ) {
    super();
    if (!["int8", "int4", "nf4"].includes(format))
      throw new RangeError(`quantize: unknown format "${format}"; known are int8, int4, nf4`);
    if (![32, 64, 128].includes(group)) throw new RangeError(`quantize: group must be 32, 64 or 128, got ${group}`);
    if (zeroPoint && format === "nf4") throw new RangeError("quantize: nf4 has no zero-point; use int8 or int4");
    if (!["float", "int8"].includes(activations))
      throw new RangeError(`quantize: activations must be "float" or "int8", got "${activations}"`);
    if (activations === "int8" && (format !== "int8" || zeroPoint))
      throw new RangeError(`quantize: int8 activations need int8 weights without zero-points, got ${format}`);
    this.#layout = { format, group, zeroPoint, activations, shape: [shape[0], shape[1]] };
    const shapes = packedShapes(this.#layout);
    this.packed = zeros(shapes.packed, { dtype: "u32" });
    this.scales = zeros(shapes.scales, { dtype: "f16" });
  }

  override readonly frozen = true;

  /** How the values are packed. */
  get layout(): QuantLayout {
    return this.#layout;
  }
  /** [N, K] of the dense matrix. */
  get shape(): readonly [number, number] {
    return this.#layout.shape;
  }
}

/**
 * Rounds a matrix [N, K] to int8, int4 or nf4; N are the outputs, as in Linear. The next flush computes it, so do not overwrite
 * `weight` before.
 * @example const q = quantize(layer.weight, [256, 128], { format: "int4" })
 * Scales are f16: values on the GPU beyond 65504 times the largest code (int8 127, int4 7, nf4 1) are clamped to that.
 * @throws if the values do not fill the shape, options contradict each other, or values on the host are beyond that range.
 */
export function quantize(
  weight: Tensor | Float32Array,
  shape: readonly [number, number],
  options: QuantOptions,
): QuantizedWeight {
  const count = weight instanceof Tensor ? weight.numel : weight.length;
  if (shape.length !== 2 || count !== numel(shape))
    throw new Error(`quantize: ${count} values do not fill a matrix ${show(shape)}; expected [N, K] with N * K values`);
  const q = new QuantizedWeight(shape, options);
  const dense = weight instanceof Tensor ? weight.detach().reshape(shape) : tensor(weight, { shape });
  requantize(q, dense);
  return q;
}

/** Replaces the values of a quantised matrix with `dense` [N, K], rounded at the next flush. */
export function requantize(q: QuantizedWeight, dense: Tensor): void {
  const { packed, scales } = encode(dense, q.layout);
  setParameter(q.packed, packed);
  setParameter(q.scales, scales);
}

/** The matrix in f32, [N, K]. */
export const dequantize = (q: QuantizedWeight): Tensor => decode(q, q.layout);

/** x Wᵀ + bias: x [..., K], bias [N] to [..., N]. Only x and bias get gradients; that of x reads the packed weight. */
export const quantizedLinear = (x: Tensor, q: QuantizedWeight, bias?: Tensor | null): Tensor =>
  quantizedProduct(x, q, q.layout, bias);

/** As `Linear`, with a frozen weight of 4 or 8 bits. LoRA adapters train on it (QLoRA, arXiv 2305.14314). */
export class QuantizedLinear extends Module {
  weight: QuantizedWeight; // [out, in]
  bias?: Tensor; // [out]
  /** Low-rank updates of the output, added by `addLoRA`. */
  lora?: LoRALayer;

  /** A layer of zeros, for `loadStateDict`. `fromLinear` quantises an existing layer. */
  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    { bias = true, ...options }: QuantOptions & { bias?: boolean },
  ) {
    super();
    this.weight = new QuantizedWeight([outFeatures, inFeatures], options);
    if (bias) this.bias = zeros([outFeatures]);
  }

  /** Quantises the weight of `linear`, or `values` instead. Bias and LoRA adapters are shared with `linear`. */
  static fromLinear(
    linear: Linear,
    options: QuantOptions,
    values: Tensor | Float32Array = linear.weight,
  ): QuantizedLinear {
    const { inFeatures, outFeatures, bias, lora } = linear;
    const layer = new QuantizedLinear(inFeatures, outFeatures, { ...options, bias: false });
    layer.weight = quantize(values, [outFeatures, inFeatures], options);
    layer.bias = bias?.requiresGrad_(false);
    if (lora) layer.lora = lora;
    layer.training = linear.training;
    return layer;
  }

  forward(x: Tensor): Tensor {
    const y = quantizedLinear(x, this.weight, this.bias);
    return this.lora ? this.lora.update(x, y) : y;
  }
}

/**
 * Replaces Linear layers of `module` by quantised ones and returns their names: those whose dotted name matches `include` and not
 * `exclude`. Await it before you use the module. Layers are converted one by one, so that at most one weight exists twice.
 * @example await quantizeLinears(model, { format: "nf4", exclude: /lm_head/ })
 * @throws if no layer matches.
 */
export async function quantizeLinears(
  module: Module,
  { include = /(?:)/, exclude, ...options }: QuantOptions & { include?: RegExp; exclude?: RegExp },
): Promise<string[]> {
  const names: string[] = [];
  for (const [path, parent] of [...module.namedModules()]) {
    for (const [field, child] of parent.namedChildren()) {
      const name = path ? `${path}.${field}` : field;
      if (!(child instanceof Linear) || !include.test(name) || exclude?.test(name)) continue;
      parent.replaceChild(field, QuantizedLinear.fromLinear(child, options));
      await flush();
      names.push(name);
    }
  }
  if (names.length === 0)
    throw new Error(
      `quantizeLinears: no Linear in ${module.constructor.name} matches ${include}${exclude ? ` and not ${exclude}` : ""}`,
    );
  return names;
}
