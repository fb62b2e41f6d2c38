import type { BufferRef, Temp } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import type { Bound, Kernel } from "./kernel.ts";

/** Kernels over which a copy is shared at most: its memory must not stay in use from a forward pass to a backward pass. */
const REACH = 8;

/** A kernel with the node that its group writes and the reduce or kernel node in the group. */
type GroupKernel = Kernel & { readonly root: Node; readonly core?: Node };

/** A scratch value that was computed lately, and the kernel that did. */
interface Copy {
  readonly temp: Temp;
  readonly at: number;
}

/**
 * Computes equal scratch values once: q, k and v of one input all want that input transposed. Two kernels compute the same
 * value if their shader, their numbers and the buffers that they read are the same and each writes scratch alone. Nothing is
 * shared across a kernel that overwrites a buffer in place.
 */
export function shareCopies<K extends GroupKernel>(kernels: readonly K[]): K[] {
  const shared = new Map<Temp, Temp>();
  const copies = new Map<string, Copy>();
  const numbers = new Map<BufferRef, number>();
  const out: K[] = [];
  for (const kernel of kernels) {
    const own: K = { ...kernel, bind: kernel.bind.map((b) => renamed(b, shared)) };
    if ([kernel.root, kernel.core].some((n) => n?.op.inPlace?.some((source) => source >= 0))) copies.clear();
    const temp = onlyWrites(own);
    if (!temp) {
      out.push(own);
      continue;
    }
    const key = keyOf(own, numbers);
    const known = copies.get(key);
    if (known && out.length - known.at <= REACH && known.temp.bytes === temp.bytes) {
      shared.set(temp, known.temp);
      continue;
    }
    copies.set(key, { temp, at: out.length });
    out.push(own);
  }
  return out;
}

function renamed(bound: Bound, shared: ReadonlyMap<Temp, Temp>): Bound {
  if (!("ref" in bound) || !("temp" in bound.ref)) return bound;
  const other = shared.get(bound.ref);
  return other ? { ...bound, ref: other } : bound;
}

/** The scratch buffer that a kernel writes, if that is all it writes. */
function onlyWrites({ bind }: Kernel): Temp | undefined {
  const written = bind.flatMap((b) => ("ref" in b && b.write ? [b.ref] : []));
  return written.length === 1 && "temp" in written[0] ? written[0] : undefined;
}

/** Equal for kernels that compute the same value: shader, numbers and buffers that are read. */
function keyOf({ code, bind, grid }: Kernel, numbers: Map<BufferRef, number>): string {
  const number = (ref: BufferRef): number => {
    if (!numbers.has(ref)) numbers.set(ref, numbers.size);
    return numbers.get(ref)!;
  };
  const bound = bind.map((b) => ("words" in b ? b.words.join() : b.write ? "out" : `#${number(b.ref)}`));
  return [code, grid.join(), ...bound].join("\n");
}
