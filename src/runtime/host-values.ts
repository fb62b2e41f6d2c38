import { fromHalf, type HostArray, toHalf } from "../graph/dtype.ts";
import type { Node } from "../graph/node.ts";
import { numel } from "../graph/shape.ts";

/** The words of a node's host values as the GPU stores them. */
export function toWords(node: Node): Uint32Array<ArrayBuffer> {
  const host = node.host!;
  if (node.dtype === "f16") {
    const words = new Uint32Array(Math.ceil(host.length / 2));
    for (let i = 0; i < host.length; i++) words[i >> 1] |= toHalf(host[i]) << (16 * (i & 1));
    return words;
  }
  if (host instanceof Float64Array) return new Uint32Array(typedArray(node).from(host).buffer as ArrayBuffer);
  return new Uint32Array(host.buffer as ArrayBuffer, host.byteOffset, host.length);
}

/** The values of a node from mapped GPU memory, starting at byte `at`. f16 becomes f32. */
export function fromBytes(node: Node, mapped: ArrayBuffer, at: number): HostArray {
  const count = numel(node.shape);
  if (node.dtype === "f16") return Float32Array.from(new Uint16Array(mapped, at, count), fromHalf);
  return new (typedArray(node))(mapped, at, count).slice();
}

/** A copy of host values, in the array type of their dtype. */
export const copyOf = (node: Node, host: HostArray | Float64Array): HostArray => typedArray(node).from(host);

const typedArray = ({ dtype }: Node) =>
  dtype === "i32" ? Int32Array : dtype === "f32" || dtype === "f16" ? Float32Array : Uint32Array;
