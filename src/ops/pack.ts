import { packHandles } from "../runtime/pack.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { cat } from "./movement.ts";

/** Each part of a packed vector starts at a multiple of this many elements: 256 bytes, WebGPU's binding alignment. */
const ALIGNMENT = 64;

/** Layout of one packed vector: the offset of each of the given sizes, and the total length, both in elements. */
export function packOffsets(sizes: readonly number[]): { offsets: number[]; total: number } {
  let total = 0;
  const offsets = sizes.map((size) => {
    const at = total;
    total += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    return at;
  });
  return { offsets, total };
}

/** Sources: N tensors. Output: one f32 vector [total] with source i at offsets[i] and zeros between the sources. */
const packOp = defineOp<{ offsets: number[]; total: number }>({
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

/**
 * Flattens tensors into one f32 vector, laid out by `packOffsets`. Tensors that already lie so in one buffer are not copied.
 * @throws if there are no tensors.
 */
export function pack(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 0) throw new Error("pack: no tensors given: at least one expected");
  const { offsets, total } = packOffsets(tensors.map((t) => t.numel));
  return apply(packOp, tensors, { offsets, total }, [total], "f32");
}

/** Moves tensors (an optimizer's parameters) into one buffer, so that one dispatch updates them all. */
export const packParameters = (tensors: readonly Tensor[]): Promise<void> =>
  packHandles(tensors, packOffsets(tensors.map((t) => t.numel)));
