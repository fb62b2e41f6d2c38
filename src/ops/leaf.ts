import type { DType, HostArray } from "../graph/dtype.ts";
import { checkDType, fromHalf, highest, holds, lowest, toHalf } from "../graph/dtype.ts";
import { Node } from "../graph/node.ts";
import { checkOptions } from "../graph/options.ts";
import type { Shape } from "../graph/shape.ts";
import { numel, show } from "../graph/shape.ts";
import { leafOp } from "../graph/structural.ts";
import { Tensor } from "../tensor/tensor.ts";

export type NestedArray = number | boolean | readonly NestedArray[];
export type TensorData = NestedArray | Float32Array | Float64Array | Int32Array | Uint32Array | Uint8Array;

export interface TensorOptions {
  /** Default: the typed array's type, `bool` for booleans, else f32. */
  dtype?: DType;
  /** Default: the nesting of the data, [length] for a typed array. */
  shape?: Shape;
  /** Makes the tensor a leaf whose `.grad` collects gradients. */
  requiresGrad?: boolean;
}

/**
 * A tensor of values from the host: nested arrays, or a typed array with a shape. A typed array of the right type is kept,
 * not copied: do not change it afterwards.
 * @throws if nested arrays are ragged, values do not fill the shape, or the dtype cannot hold them.
 * @example tensor([[1, 2], [3, 4]]), tensor(new Float32Array(6), { shape: [2, 3], requiresGrad: true })
 */
export function tensor(data: TensorData, options: TensorOptions = {}): Tensor {
  checkOptions("tensor", options, ["dtype", "shape", "requiresGrad"]);
  if (options.dtype !== undefined) checkDType("tensor", options.dtype);
  const typed = ArrayBuffer.isView(data);
  const flat = typed ? data : flatten(data);
  const shape = options.shape ?? (typed ? [flat.length] : shapeOf(data));
  checkShape("tensor", shape);
  if (numel(shape) !== flat.length) {
    throw new Error(
      `tensor: ${flat.length} values do not fill shape ${show(shape)} (${numel(shape)}): pass as many values as the shape has elements`,
    );
  }
  const dtype = options.dtype ?? dtypeOf(flat);
  const node = new Node(leafOp, [], {}, [...shape], dtype);
  node.host = toHost(flat, dtype);
  const result = new Tensor(node);
  return options.requiresGrad ? result.requiresGrad_() : result;
}

/** Throws unless every size is a whole number. */
export function checkShape(op: string, shape: Shape): void {
  if (!Array.isArray(shape) || !shape.every((d) => Number.isInteger(d) && d >= 0)) {
    throw new RangeError(`${op}: sizes must be whole numbers, got ${Array.isArray(shape) ? show(shape) : shape}`);
  }
}

function dtypeOf(flat: ArrayLike<number | boolean>): DType {
  if (flat instanceof Int32Array) return "i32";
  if (flat instanceof Uint32Array || flat instanceof Uint8Array) return "u32";
  return typeof flat[0] === "boolean" ? "bool" : "f32";
}

function toHost(flat: ArrayLike<number | boolean>, dtype: DType): HostArray {
  const values = flat as ArrayLike<number>;
  if (dtype === "f32") return flat instanceof Float32Array ? flat : Float32Array.from(values, Number);
  if (dtype === "f16") return Float32Array.from(values, (x) => fromHalf(toHalf(x)));
  if (dtype === "bool") return Uint32Array.from(values, (x) => (Number(x) === 0 ? 0 : 1)); // NaN is true
  if (flat instanceof (dtype === "i32" ? Int32Array : Uint32Array)) return flat;
  const bad = Array.prototype.find.call(values, (x) => !holds(dtype, Number(x)));
  if (bad !== undefined)
    throw new TypeError(
      `tensor: ${bad} is not a value of dtype ${dtype}: integers from ${lowest(dtype)} to ${highest(dtype)} expected`,
    );
  return dtype === "i32" ? Int32Array.from(values, Number) : Uint32Array.from(values, Number);
}

function shapeOf(data: NestedArray): number[] {
  const shape: number[] = [];
  for (let level: NestedArray = data; Array.isArray(level); level = level[0]) shape.push(level.length);
  return shape;
}

function flatten(data: NestedArray): (number | boolean)[] {
  const shape = shapeOf(data);
  const out: (number | boolean)[] = [];
  const visit = (value: NestedArray, depth: number): void => {
    if (Array.isArray(value) !== depth < shape.length || (Array.isArray(value) && value.length !== shape[depth])) {
      throw new Error(`tensor: nested arrays are ragged: expected ${show(shape)} throughout`);
    }
    if (Array.isArray(value)) value.forEach((v) => visit(v, depth + 1));
    else if (typeof value === "number" || typeof value === "boolean") out.push(value);
    else
      throw new TypeError(
        `tensor: ${value === null ? "null" : typeof value} among the values: expected numbers or booleans`,
      );
  };
  visit(data, 0);
  return out;
}
