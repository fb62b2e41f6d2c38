/** The layout of a batch, computed on the host before a forward pass: ids, labels, image positions, segments. */
import { bucket } from "../src/generate/index.ts";
import { type HostArray, type Tensor, tensor } from "../src/index.ts";
import { IGNORE_INDEX } from "../src/text/index.ts";

/** The values of a matrix that decide the shape of the graph. @throws if they were computed, not given from the host. */
export function requireHost(op: string, name: string, ids: Tensor): HostArray {
  const data = ids.hostData;
  if (ids.ndim !== 2 || !data) {
    throw new Error(
      `${op}: ${name} must be a matrix [B,T] given from the host, as tensor(ids, { dtype: "i32" }); got [${ids.shape}]${data ? "" : ", computed"}`,
    );
  }
  return data;
}

export const ids2d = (rows: number, data: Int32Array): Tensor => tensor(data, { shape: [rows, data.length / rows] });

/**
 * Rows of the hidden states, flattened to [B*T, D], whose next token has a label, and those labels. Both are padded to a
 * `bucket` length, by row 0 with the ignored label.
 */
export function answerRows(labels: Tensor, vocabulary: number): { rows: Tensor; targets: Tensor } {
  const data = requireHost("loss", "labels", labels);
  const [b, t] = labels.shape;
  const rows: number[] = [];
  const learned = new Uint8Array(b);
  for (let i = 0; i < b * t; i++) {
    if (i % t === 0 || data[i] === IGNORE_INDEX) continue;
    learned[Math.floor(i / t)] = 1;
    if (data[i] < 0 || data[i] >= vocabulary) {
      throw new RangeError(
        `loss: label ${data[i]} of sample ${Math.floor(i / t)} at ${i % t} is outside the vocabulary of ${vocabulary}`,
      );
    }
    rows.push(i - 1);
  }
  const empty = learned.indexOf(0);
  if (empty >= 0)
    throw new Error(
      `loss: all labels of sample ${empty} of [${labels.shape}] are ${IGNORE_INDEX}: there is nothing to learn from it`,
    );
  const count = bucket(rows.length);
  const targets = new Int32Array(count).fill(IGNORE_INDEX);
  rows.forEach((row, i) => (targets[i] = data[row + 1]));
  return { rows: tensor(Int32Array.from({ length: count }, (_, i) => rows[i] ?? 0)), targets: tensor(targets) };
}

/** The position of each token: the number of earlier tokens that it sees. Segments are [B, T], row-major. */
export function positionsOf(segments: Int32Array, length: number): Int32Array {
  const positions = new Int32Array(segments.length);
  for (let start = 0; start < segments.length; start += length) {
    const seen = new Map<number, number>();
    for (let i = start; i < start + length; i++) {
      const own = segments[i];
      positions[i] = (seen.get(own) ?? 0) + (own > 0 ? (seen.get(0) ?? 0) : 0);
      seen.set(own, (seen.get(own) ?? 0) + 1);
    }
  }
  return positions;
}

/** Whether a causal mask is enough: one segment a sample, with padding only after the tokens. */
export function isPlainCausal(segments: Int32Array, length: number): boolean {
  return segments.every((s, i) => s === 0 || (s === -1 && (i % length === length - 1 || segments[i + 1] === -1)));
}

/** A batch with one position for each image embedding. All arrays are row-major [B, T']. */
export interface Layout {
  readonly batch: number;
  readonly length: number;
  /** Token ids; 0 at image positions. */
  readonly ids: Int32Array;
  /** Row of the flattened image embeddings; -1 for text. */
  readonly features: Int32Array;
  readonly segments: Int32Array;
  readonly labels?: Int32Array;
}

export interface LayoutOptions {
  /** Number of positions of each image. */
  counts: readonly number[];
  isImage: (id: number) => boolean;
  segments: Int32Array;
  labels?: ArrayLike<number>;
  /** Each sample without an image skips one of the images given, as in batches of the original LLaVA. */
  textTakesImage?: boolean;
  /** Length of the result, from that of the longest sample. Default: the longest; the input's if it has a token for each image position. */
  padTo?: (longest: number) => number;
  /** Move padding after the tokens. */
  padRight?: boolean;
}

/**
 * Gives every image its positions. A prompt has one image token for each image, or one for each of its positions: the counts
 * tell which. Padding stays on its side.
 */
export function layOut(inputIds: Tensor, options: LayoutOptions): Layout {
  const { counts, isImage, segments, labels, padRight = false } = options;
  const ids = requireHost("batch", "inputIds", inputIds);
  const [b, t] = inputIds.shape;
  const tokens = new Array<number>(b).fill(0);
  ids.forEach((id, i) => (tokens[Math.floor(i / t)] += segments[i] !== -1 && isImage(id) ? 1 : 0));
  const images = counts.length;
  const total = tokens.reduce((n, c) => n + c, 0);
  const positions = counts.reduce((n, c) => n + c, 0);
  const skip = options.textTakesImage && total !== images && total + tokens.filter((c) => c === 0).length === images;
  const expanded = positions > images && total === positions;
  if (total !== images && !expanded && !skip) {
    const first = tokens.findIndex((c) => c > 0);
    if (images === 0)
      throw new Error(
        `batch: sample ${first} has ${tokens[first]} image token(s), but no image is given (pixelValues or visionFeatures)`,
      );
    const each = positions > images ? ` (or ${positions}, one for each position)` : "";
    throw new Error(
      `batch: ${images} image(s) need ${images} image token(s)${each}, the batch has ${total}: ${tokens.map((c, s) => `sample ${s} has ${c}`).join(", ")}`,
    );
  }
  const keepPadding = expanded && !padRight;
  const samples: { id: number; feature: number; segment: number; label: number }[][] = [];
  let image = 0;
  let next = 0; // row of the flattened embeddings
  let end = 0; // of the rows of the images so far
  for (let s = 0; s < b; s++) {
    const sample: (typeof samples)[number] = [];
    for (let i = s * t; i < (s + 1) * t; i++) {
      const segment = segments[i];
      if (segment === -1 && !keepPadding) continue;
      if (segment === -1) sample.push({ id: 0, feature: -1, segment, label: IGNORE_INDEX });
      else if (!isImage(ids[i])) sample.push({ id: ids[i], feature: -1, segment, label: labels?.[i] ?? IGNORE_INDEX });
      else {
        if (next === end) end += counts[image++];
        const last = expanded ? next + 1 : end;
        while (next < last) sample.push({ id: 0, feature: next++, segment, label: IGNORE_INDEX });
      }
    }
    if (next < end) {
      throw new Error(
        `batch: sample ${s} ends within image ${image - 1}: ${counts[image - 1] - (end - next)} of its ${counts[image - 1]} positions have an image token`,
      );
    }
    if (tokens[s] === 0 && skip) next = end += counts[image++];
    samples.push(sample);
  }
  const longest = Math.max(...samples.map((sample) => sample.length));
  const length = options.padTo?.(longest) ?? longest;
  if (longest === 0) throw new Error("batch: the batch has no tokens, only padding");
  if (length < longest)
    throw new Error(`batch: a sample is ${longest} tokens long with its images, it does not fit ${length}`);
  const filled = (value: number) => new Int32Array(b * length).fill(value);
  const out = { ids: filled(0), features: filled(-1), segments: filled(-1), labels: filled(IGNORE_INDEX) };
  samples.forEach((sample, s) => {
    const atEnd = !padRight && !keepPadding && segments[s * t] === -1;
    const start = s * length + (atEnd ? length - sample.length : 0);
    sample.forEach((token, k) => {
      out.ids[start + k] = token.id;
      out.features[start + k] = token.feature;
      out.segments[start + k] = token.segment;
      out.labels[start + k] = token.label;
    });
  });
  return { batch: b, length, ...out, labels: labels && out.labels };
}
