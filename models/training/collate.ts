import { bucket } from "../../src/generate/index.ts";
import { type Tensor, tensor } from "../../src/index.ts";
import { IGNORE_INDEX } from "../../src/text/index.ts";
import type { VisionLanguageInput } from "../vlm.ts";
import type { EncodedSample } from "./data.ts";

export type TrainingInput = VisionLanguageInput & { labels: Tensor };

/**
 * Rows of samples as one batch, without images. Samples in one row are segments 1, 2, …: they do not see each other, and each
 * starts at position 0.
 */
export function collate(rows: readonly (readonly EncodedSample[])[], maxLength: number): TrainingInput {
  const width = Math.max(...rows.map((row) => row.reduce((n, { ids }) => n + ids.length, 0)));
  const longest = Math.max(...rows.map((row) => row.reduce((n, { length }) => n + length, 0)));
  const filled = (value: number): Int32Array => new Int32Array(rows.length * width).fill(value);
  const [ids, labels, segments] = [filled(0), filled(IGNORE_INDEX), filled(-1)];
  rows.forEach((row, r) => {
    let at = r * width;
    row.forEach((sample, k) => {
      ids.set(sample.ids, at);
      labels.set(sample.labels, at);
      segments.fill(row.length > 1 ? k + 1 : 0, at, at + sample.ids.length);
      at += sample.ids.length;
    });
  });
  const shaped = (data: Int32Array): Tensor => tensor(data, { shape: [rows.length, width], dtype: "i32" });
  return {
    inputIds: shaped(ids),
    labels: shaped(labels),
    segments: shaped(segments),
    padTo: Math.min(bucket(longest), Math.max(longest, maxLength)), // few lengths: few plans
  };
}
