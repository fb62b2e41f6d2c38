import { packHandles } from "../runtime/pack.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { cat } from "./movement.ts";

/** Elements to which each part of a packed vector is aligned. */
const ALIGNMENT = 64;

/** Where vectors of the given sizes start when packed into one, and how long that is. */
export function packOffsets(sizes: readonly number[]): { offsets: number[]; total: number } {
  let total = 0;
  const offsets = sizes.map((size) => {
    const at = total;
    total += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    return at;
  });
  return { offsets, total };
}

/** N tensors -> one f32 vector [total] with source i's elements from offsets[i] on and zeros between. */
export const packOp = defineOp<{ offsets: number[]; total: number }>({
  name: "pack",
  kind: "kernel",
  arena: (layout) => layout,
  vjp: (g, _y, x, { offsets }) => x.map((t, i) => g.narrow(0, offsets[i], t.numel).reshape(t.shape).to(t.dtype)),
  fallback: (x, { offsets, total }) =>
    cat(
      x.map((t, i) =>
        t
          .flatten()
          .to("f32")
          .pad([[0, (offsets[i + 1] ?? total) - offsets[i] - t.numel]]),
      ),
    ),
});

/** Flattens tensors into one f32 vector laid out by `packOffsets`. */
export function pack(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 0) throw new Error("pack: no tensors given");
  const { offsets, total } = packOffsets(tensors.map((t) => t.numel));
  return apply(packOp, tensors, { offsets, total }, [total], "f32");
}

/** Moves tensors (parameters of an optimizer) into one buffer, so that one dispatch can update them all. */
export const packParameters = (tensors: readonly Tensor[]): Promise<void> =>
  packHandles(tensors, packOffsets(tensors.map((t) => t.numel)));
