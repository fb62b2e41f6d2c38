import { byteSize } from "../graph/dtype.ts";
import type { Handle } from "../graph/pending.ts";
import { numel } from "../graph/shape.ts";
import { flushNodes } from "./engine.ts";
import { currentDevice } from "./session.ts";

/**
 * Moves tensors (parameters of an optimizer) into one buffer, so that one dispatch can update them all. `offsets` and
 * `total` count f32 elements. Does nothing without a GPU, or if the tensors already lie so.
 */
export async function packHandles(
  tensors: readonly Handle[],
  { offsets, total }: { readonly offsets: readonly number[]; readonly total: number },
): Promise<void> {
  const nodes = tensors.map((t) => t.node); // before the flush: an assignment during it replaces t.node
  await flushNodes(nodes.filter((n) => !n.storage));
  const device = currentDevice();
  const first = nodes[0].storage?.buffer; // packed for an earlier optimizer of the same parameters?
  const packed = nodes.every(
    ({ storage }, i) => storage?.shared && storage.buffer === first && storage.offset === offsets[i] * 4,
  );
  if (!device || packed) return;
  const { gpu, pool } = device;
  const old = nodes.map((n) => n.storage!);
  try {
    await device.guard(() => {
      const buffer = pool.permanent(total * 4);
      const encoder = gpu.createCommandEncoder();
      nodes.forEach((n, i) => {
        const bytes = byteSize("f32", numel(n.shape));
        encoder.copyBufferToBuffer(old[i].buffer, old[i].offset, buffer, offsets[i] * 4, bytes);
        n.storage = { buffer, offset: offsets[i] * 4, bytes, shared: true };
      });
      gpu.queue.submit([encoder.finish()]);
    });
  } catch (error) {
    nodes.forEach((n, i) => (n.storage = old[i]));
    throw error;
  }
  nodes.forEach((n, i) => {
    n.host = undefined;
    if (!old[i].shared) pool.disown(old[i]);
  });
}
