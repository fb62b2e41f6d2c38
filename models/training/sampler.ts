/** The samples of each step. The order of an epoch depends on its number and the seed alone. */
import { randomOf, shuffled } from "../../src/data/index.ts";

export interface SamplerOptions {
  /** Samples per step, and rows per micro-batch. */
  batch: number;
  micro: number;
  seed: number;
  /** Steps of one modality, and rows of similar lengths together (LLaVA's group_by_modality_length). */
  grouped?: boolean;
  /** Pack the samples of a step into rows of at most this length. */
  packTo?: number;
}

/** A row has samples, a micro-batch rows, and a step micro-batches. */
export type Row = readonly number[];
export type MicroBatch = readonly Row[];
export type Step = readonly MicroBatch[];

/** The properties of a sample that the sampler needs. */
export interface SampleSize {
  readonly length: number;
  readonly hasImage: boolean;
}

/** The steps of one epoch. Every sample is in exactly one; the last step may be smaller. */
export function epochSteps(sizes: readonly SampleSize[], epoch: number, options: SamplerOptions): Step[] {
  const { batch, seed, grouped = false } = options;
  const random = randomOf(seed, epoch, 1);
  const all = sizes.map((_, i) => i);
  if (!grouped) return cut(shuffled(all, random), batch).map((ids) => rowsOf(ids, sizes, options));
  const whole: number[][] = [];
  const rest: number[] = [];
  for (const hasImage of [true, false]) {
    const own = shuffled(
      all.filter((i) => sizes[i].hasImage === hasImage),
      random,
    );
    const batches = cut(own, batch);
    if (batches.length && batches[batches.length - 1].length < batch) rest.push(...batches.pop()!);
    whole.push(...batches);
  }
  // The rests of both modalities come last, together. They are cut again, as both may be large.
  return [...shuffled(whole, random), ...cut(rest, batch)].map((ids) => rowsOf(ids, sizes, options));
}

/** Micro-batches of a step, from rows of similar lengths. */
function rowsOf(
  ids: readonly number[],
  sizes: readonly SampleSize[],
  { micro, grouped, packTo }: SamplerOptions,
): Step {
  if (packTo !== undefined) return cut(pack(ids, sizes, packTo), micro);
  const order = grouped ? [...ids].sort((a, b) => sizes[b].length - sizes[a].length || a - b) : ids;
  return cut(
    order.map((id) => [id]),
    micro,
  );
}

/** Bin packing by first fit, longest first: few rows, each at most `room` long. */
export function pack(ids: readonly number[], sizes: readonly SampleSize[], room: number): Row[] {
  const rows: { ids: number[]; left: number }[] = [];
  for (const id of [...ids].sort((a, b) => sizes[b].length - sizes[a].length || a - b)) {
    const { length } = sizes[id];
    if (length > room) throw new RangeError(`pack: sample ${id} is ${length} long, a row ${room}`);
    const row = rows.find(({ left }) => left >= length);
    if (row) {
      row.ids.push(id);
      row.left -= length;
    } else rows.push({ ids: [id], left: room - length });
  }
  return rows.map((row) => row.ids);
}

function cut<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));
}
