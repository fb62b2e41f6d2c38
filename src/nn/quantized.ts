import type { QuantFormat, QuantGroup, QuantLayout } from "../graph/quantization.ts";
import { numel, show } from "../graph/shape.ts";
import { tensor, zeros } from "../ops/functional.ts";
import { decode, encode, packedShapes, quantizedProduct } from "../ops/quantized.ts";
import { flush } from "../tensor/engine.ts";
import { Tensor } from "../tensor/tensor.ts";
import { setParameter } from "./init.ts";
import { Linear } from "./layers.ts";
import type { LoRALayer } from "./lora.ts";
import { Module } from "./module.ts";

export type { QuantFormat } from "../graph/quantization.ts";

export interface QuantOptions {
  format: QuantFormat;
  /** Neighbours along the input dim that share a scale. Default 64. */
  group?: QuantGroup;
  /** int8 and int4: a zero-point for each group, for values that are not spread around 0. Default false. */
  zeroPoint?: boolean;
  /**
   * int8 without zero-points: "int8" rounds the input of each product too, with a scale for each row and group, and
   * multiplies integers (W8A8; DP4A where WGSL has `packed_4x8_integer_dot_product`). It changes results by about one part
   * in 250 of the largest input of a group; gradients of the input are those of unrounded inputs. Default "float".
   */
  activations?: "float" | "int8";
}

/**
 * A matrix [N, K] in 4 or 8 bits a value and one f16 scale a group (`src/ops/quantized.ts` has the layout). Its tensors are
 * part of a model's state, but never trained.
 */
export class QuantizedWeight extends Module {
  packed: Tensor; // u32 [N, K / 8] or [N, K / 4], K a multiple of the group
  scales: Tensor; // f16 [N, groups], with zero-points [N, groups, 2]
  readonly #layout: QuantLayout;

  constructor(
    shape: readonly [number, number],
    { format, group = 64, zeroPoint = false, activations = "float" }: QuantOptions,
  ) {
    super();
    if (!["int8", "int4", "nf4"].includes(format))
      throw new RangeError(`quantize: unknown format "${format}"; known are int8, int4, nf4`);
    if (![32, 64, 128].includes(group)) throw new RangeError(`quantize: group must be 32, 64 or 128, got ${group}`);
    if (zeroPoint && format === "nf4") throw new RangeError("quantize: nf4 has no zero-point");
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

  get layout(): QuantLayout {
    return this.#layout;
  }
  /** [N, K] of the dense matrix. */
  get shape(): readonly [number, number] {
    return this.#layout.shape;
  }
}

/**
 * Rounds a matrix [N, K] (rows are outputs, as in nn.Linear) to int8, int4 or nf4. Computed at the next flush, so `weight`
 * must keep its values until then.
 */
export function quantize(
  weight: Tensor | Float32Array,
  shape: readonly [number, number],
  options: QuantOptions,
): QuantizedWeight {
  const count = weight instanceof Tensor ? weight.numel : weight.length;
  if (shape.length !== 2 || count !== numel(shape))
    throw new Error(`quantize: ${count} values do not fill a matrix ${show(shape)}`);
  const q = new QuantizedWeight(shape, options);
  const dense = weight instanceof Tensor ? weight.detach().reshape(shape) : tensor(weight, { shape });
  requantize(q, dense);
  return q;
}

/** Gives a quantised matrix other values [N, K], rounded to its format at the next flush. */
export function requantize(q: QuantizedWeight, dense: Tensor): void {
  const { packed, scales } = encode(dense, q.layout);
  setParameter(q.packed, packed);
  setParameter(q.scales, scales);
}

/** The dense matrix [N, K], f32. */
export const dequantize = (q: QuantizedWeight): Tensor => decode(q, q.layout);

/** x [..., K] · Wᵀ + bias [N] -> [..., N]. The gradient is that of x alone, read from the packed weight. */
export const quantizedLinear = (x: Tensor, q: QuantizedWeight, bias?: Tensor | null): Tensor =>
  quantizedProduct(x, q, q.layout, bias);

/** As `Linear`, with a frozen weight of 4 or 8 bits. A LoRA beside it trains as usual (QLoRA, arXiv 2305.14314). */
export class QuantizedLinear extends Module {
  weight: QuantizedWeight; // [out, in]
  bias?: Tensor; // [out]
  /** A low-rank update beside the weight, put there by `addLoRA`. */
  lora?: LoRALayer;

  /** Zeros, to be filled by `loadStateDict`; `fromLinear` takes a layer's values. */
  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    { bias = true, ...options }: QuantOptions & { bias?: boolean },
  ) {
    super();
    this.weight = new QuantizedWeight([outFeatures, inFeatures], options);
    if (bias) this.bias = zeros([outFeatures]);
  }

  /** The layer with its weight (or other `values` for it) rounded; bias and LoRA are shared with `linear`. */
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
 * Replaces the Linear layers of `module` whose dotted name matches `include` and not `exclude`, one after another, so that
 * no more than one dense weight is copied at a time; wait for it before using the module. Returns their names.
 */
export async function quantizeLinears(
  module: Module,
  { include = /(?:)/, exclude, ...options }: QuantOptions & { include?: RegExp; exclude?: RegExp },
): Promise<string[]> {
  const names: string[] = [];
  for (const [path, parent] of [...module.namedModules()]) {
    for (const [field, child] of parent.children()) {
      const name = path ? `${path}.${field}` : field;
      if (!(child instanceof Linear) || !include.test(name) || exclude?.test(name)) continue;
      parent.replaceChild(field, QuantizedLinear.fromLinear(child, options));
      await flush();
      names.push(name);
    }
  }
  if (names.length === 0)
    throw new Error(`quantizeLinears: no Linear in ${module.constructor.name} matches ${include}`);
  return names;
}
