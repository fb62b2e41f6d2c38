import { byteSize } from "../graph/dtype.ts";
import type { Node } from "../graph/node.ts";
import type { Handle } from "../graph/pending.ts";
import { numel } from "../graph/shape.ts";
import type { Device } from "./device.ts";
import { flushAndThen } from "./engine.ts";

/** Where tensors start in one buffer, and its length, in f32 elements. */
interface Layout {
  readonly offsets: readonly number[];
  readonly total: number;
}

/**
 * Moves tensors (parameters of an optimizer) into one buffer, so that one dispatch can update them all. Does nothing without a
 * GPU, or if the tensors already lie so. Flushes that are asked for later find the tensors moved.
 */
export function packHandles(tensors: readonly Handle[], layout: Layout): Promise<void> {
  const nodes = tensors.map((t) => t.node); // before the flush: an assignment during it replaces t.node
  const absent = nodes.filter((n) => !n.storage);
  return flushAndThen(absent, async ({ device }) => {
    if (device && !isPacked(nodes, layout)) await move(device, nodes, layout);
  });
}

/** Whether the nodes lie so already, for an earlier optimizer of the same parameters. */
function isPacked(nodes: readonly Node[], { offsets }: Layout): boolean {
  const first = nodes[0].storage?.buffer;
  return nodes.every(
    ({ storage }, i) => storage?.shared && storage.buffer === first && storage.offset === offsets[i] * 4,
  );
}

async function move(device: Device, nodes: readonly Node[], { offsets, total }: Layout): Promise<void> {
  const { gpu, pool } = device;
  const old = nodes.map((n) => n.storage!);
  try {
    await device.guard(() => {
      const parts = pool.ownParts(
        total * 4,
        nodes.map((n, i) => ({ offset: offsets[i] * 4, bytes: byteSize("f32", numel(n.shape)) })),
      );
      const encoder = gpu.createCommandEncoder();
      nodes.forEach((n, i) => {
        const { buffer, offset, bytes } = parts[i];
        encoder.copyBufferToBuffer(old[i].buffer, old[i].offset, buffer, offset, bytes);
        n.storage = parts[i];
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
