import { Node } from "../graph/node.ts";
import { leafOp } from "../graph/structural.ts";
import { decode, type HostTensor, loadedType, round16 } from "../io/stored.ts";
import type { TensorFiles } from "../io/tensors.ts";
import { tensor } from "../ops/functional.ts";
import { upload } from "../runtime/upload.ts";
import { assign } from "../tensor/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";

/**
 * A trainable tensor with the values of `x`, as torch's Parameter: a leaf that collects gradients.
 * @throws if x is not float.
 * @example scale = parameter(ones(8));
 */
export const parameter = (x: Tensor): Tensor => x.detach().requiresGrad_();

/** Replaces the values of a parameter. Shape, dtype and requiresGrad stay. */
export function setParameter(target: Tensor, value: HostTensor | Tensor): void {
  if ("node" in value) return assign(target, value.to(target.dtype));
  const source = tensor(value.data, { shape: value.shape, dtype: value.dtype }).to(target.dtype);
  const inPlace = target.node.storage || target.node.op.kind === "assign"; // it has a buffer, or will get one at the next flush
  if (inPlace || source.node.op.kind !== "leaf") return assign(target, source);
  source.node.requiresGrad = target.requiresGrad;
  target.node = source.node;
}

/**
 * Loads one tensor of a file into a parameter. If the parameter has no device buffer yet, the bytes of the file are uploaded
 * without a copy on the host.
 * @param half store the parameter as f16; floats only
 * @param change applied to the values before they are stored
 */
export async function loadParameter(
  target: Tensor,
  file: TensorFiles,
  name: string,
  { half = false, change }: { half?: boolean; change?: (values: HostTensor) => HostTensor } = {},
): Promise<void> {
  const { dtype: stored, shape } = file.entry(name);
  const resident = target.node.storage || target.node.op.kind === "assign";
  if (resident || loadedType(stored) !== "f32") {
    const values = await file.read(name);
    return setParameter(target, change ? change(values) : values);
  }
  const bytes = await file.bytes(name);
  const dtype = half ? "f16" : "f32";
  if (!change && stored === (half ? "F16" : "F32")) return uploadParameter(target, bytes, dtype);
  const values: HostTensor = { data: decode(bytes, stored, shape, name), shape, dtype: "f32" };
  const { data } = change ? change(values) : values;
  const words = half ? round16(data, "F16") : data;
  await uploadParameter(target, new Uint8Array(words.buffer, words.byteOffset, words.byteLength), dtype);
}

/** Uploads the first values of a parameter and sets its dtype. `bytes` has the layout of a buffer. */
async function uploadParameter(target: Tensor, bytes: Uint8Array, dtype: "f32" | "f16"): Promise<void> {
  const { requiresGrad, shape } = target;
  const padded =
    bytes.byteLength % 4 || bytes.byteOffset % 4 ? new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4) : bytes;
  if (padded !== bytes) padded.set(bytes);
  const leaf = new Node(leafOp, [], {}, shape, dtype);
  if (!(await upload(leaf, new Uint32Array(padded.buffer, padded.byteOffset, padded.byteLength / 4))))
    leaf.host = decode(bytes, dtype === "f16" ? "F16" : "F32", shape, "");
  leaf.requiresGrad = requiresGrad;
  target.node = leaf;
}
