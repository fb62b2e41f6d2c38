import type { Storage } from "../runtime/pool.ts";
import { debugLevel } from "../runtime/profile.ts";
import type { DType, HostArray } from "./dtype.ts";
import type { Op } from "./op.ts";
import type { Shape } from "./shape.ts";

/** Plain data that specialises an op: part of the graph's key, so nothing that changes from step to step. */
export type Attrs = Record<string, unknown>;

export interface OutputSpec {
  readonly shape: Shape;
  readonly dtype: DType;
}

let count = 0;

/** The first stack line outside of the library's own folder. */
function callSite(): string | undefined {
  const lines = new Error().stack?.split("\n").slice(2) ?? [];
  return lines.find((line) => !/[\\/]src[\\/]/.test(line))?.trim();
}

const listed = (numbers: readonly number[]): string => {
  let text = "";
  for (const n of numbers) text += `,${n}`;
  return text;
};

/** As JSON, in half the time for the numbers and lists of numbers that most attributes are. */
function textOf(attrs: Attrs): string {
  let text = "";
  for (const name in attrs) {
    const value = attrs[name];
    const plain = typeof value === "number" || typeof value === "boolean";
    text += `;${name}:${plain ? value : JSON.stringify(value)}`;
  }
  return text;
}

/**
 * One value of the lazy graph: an op applied to sources. Building a node runs nothing.
 * A node is *pending* until a flush gives it a `storage` (GPU) or `host` (CPU) value.
 */
export class Node implements OutputSpec {
  readonly id = count++;
  /** Everything but the sources: equal keys and equal sources mean equal values. */
  readonly key: string;
  /** Set by a flush; a realised node is a leaf of later graphs. */
  storage?: Storage;
  /** Row-major values on the host: given by the user, or read back. */
  host?: HostArray | Float64Array;
  /** Settles when a value on its way from the GPU is in `host`. */
  reading?: Promise<void>;
  /** The sources are gone: without its value the node cannot be computed again. */
  forgetful = false;
  /** Why this value can no longer be read (it was overwritten in place). */
  stale?: string;
  requiresGrad = false;
  /** Scratch of `collect`: the last walk that met the node, and its place there. */
  walk = 0;
  place = 0;
  /** The user's line that made the node, kept when SHADEGRAD_DEBUG is on. */
  site?: string;

  constructor(
    readonly op: Op,
    public src: readonly Node[],
    readonly attrs: Attrs,
    readonly shape: Shape,
    readonly dtype: DType,
    /** Specs of all outputs of an op with several; `pick` nodes select them. */
    readonly outputs?: readonly OutputSpec[],
  ) {
    if (debugLevel > 0) this.site = callSite();
    this.key = `${op.name}${op.keyOf ? op.keyOf(attrs) : textOf(attrs)}${dtype}[${listed(shape)}]`;
  }

  get realized(): boolean {
    return this.storage !== undefined || this.host !== undefined;
  }

  /** Called once the value is there: only a gradient could still ask what it was made of. */
  forgetSources(): void {
    if (this.requiresGrad || this.src.length === 0) return;
    this.src = [];
    this.forgetful = true;
  }
}
