import { describe, expect, test } from "vitest";
import type { DeviceInfo } from "../../src/graph/device-info.ts";
import type { Candidate } from "../../src/graph/kernel-call.ts";
import type { Attrs } from "../../src/graph/node.ts";
import { lowerLayerNorm, lowerRmsNormBackward, lowerSoftmax } from "../../src/lowering/rows.ts";
import { MAX_CANDIDATES } from "../../src/runtime/tuner/tuner.ts";
import { worstError } from "../support/compare.ts";
import { normals } from "../support/random.ts";
import { lowerOp, submit } from "./harness.ts";

const [rows, cols] = [37, 64];
const matrix = { shape: [rows, cols], dtype: "f32" as const };
const vector = { shape: [cols], dtype: "f32" as const };
const x = { data: normals(rows * cols), shape: [rows, cols] };
const w = { data: normals(cols, 2), shape: [cols] };
const g = { data: normals(rows * cols, 3), shape: [rows, cols] };

const ops = {
  softmax: { lower: lowerSoftmax, sources: [x], outputs: [matrix] },
  norm: { lower: lowerLayerNorm, sources: [x, w, w], outputs: [matrix] },
  norm_backward: { lower: lowerRmsNormBackward, sources: [g, x, w], outputs: [matrix, vector] },
};

describe.each<[string, Partial<DeviceInfo>]>([
  ["software", {}],
  ["discrete", { kind: "discrete" }],
])("%s adapter", (kind, info) => {
  test.each(Object.entries(ops))("every candidate of %s computes the same", async (_, { lower, sources, outputs }) => {
    const attrs: Attrs = { eps: 1e-5 };
    let offered: readonly Candidate[] = [];
    const run = async (pick: number): Promise<ArrayLike<number>[]> => {
      const op = await lowerOp(
        (node, cx) =>
          lower(node, {
            ...cx,
            choose: (_template, _signature, candidates) => {
              offered = candidates;
              return candidates[pick];
            },
          }),
        sources,
        attrs,
        outputs.length > 1 ? outputs : outputs[0],
        { info },
      );
      await submit(op.dispatches);
      return Promise.all(outputs.map((_, i) => op.read(i)));
    };
    const want = await run(0);
    expect(offered.length).toBeGreaterThan(1);
    expect(offered.length).toBeLessThanOrEqual(MAX_CANDIDATES);
    expect(new Set(offered.map((c) => JSON.stringify(c))).size).toBe(offered.length);
    // A GPU's other variants compile for seconds on a software adapter: the last ones stand for them.
    const picks = kind === "software" ? offered.map((_, i) => i) : [offered.length - 1];
    for (const pick of picks) {
      const got = await run(pick);
      got.forEach((values, i) => expect(worstError(values, want[i]), JSON.stringify(offered[pick])).toBeLessThan(2e-5));
    }
  });
});
