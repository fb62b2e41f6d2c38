/** Projectors of every type against plain arithmetic, under the names of both of LLaVA's layouts. */
import { beforeAll, expect, test } from "vitest";
import { loadProjector, saveProjector } from "../../models/checkpoints/projector.ts";
import { Projector } from "../../models/llava.ts";
import { init, manualSeed, randn } from "../../src/index.ts";
import { memoryFiles } from "../../src/io/source.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import { setParameter } from "../../src/nn/index.ts";
import { linear, type Matrix, type Weights } from "../support/plain.ts";
import { tinyLlava } from "../support/tiny-llava.ts";

beforeAll(async () => void (await init({ backend: "reference" })));

/** x Φ(x), the integral of the normal density by Simpson's rule. */
function gelu(x: number): number {
  const n = 400;
  const density = (t: number) => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  const sum = Array.from({ length: n + 1 }, (_, i) => (i % n ? (i % 2 ? 4 : 2) : 1) * density((x * i) / n));
  return x * (0.5 + ((x / n) * sum.reduce((a, b) => a + b, 0)) / 3);
}

test.each([
  ["identity", 0],
  ["linear", 1],
  ["mlp1x_gelu", 1],
  ["mlp2x_gelu", 2],
  ["mlp3x_gelu", 3],
  ["mlp4x_gelu", 4],
] as const)("%s: %i linear layers with exact gelu between them", async (type, layers) => {
  manualSeed(6);
  const projector = new Projector(7, 7, { type });
  const weights: Weights = {};
  for (const [name, t] of Object.entries(projector.stateDict())) {
    setParameter(t, randn([...t.shape]).mul(0.7));
    weights[name] = { shape: t.shape, data: await t.data() };
  }
  expect(Object.keys(weights).length).toBe(2 * layers);
  const features = randn([2, 3, 7]).keep();
  const flat = await features.data();
  let want: Matrix = Array.from({ length: 6 }, (_, i) => [...flat.slice(7 * i, 7 * i + 7)]);
  for (let i = 1; i <= layers; i++) {
    const x = i > 1 ? want.map((row) => row.map(gelu)) : want;
    want = linear(weights, `linear_${i}`, x);
  }
  const got = await projector.forward(features).data();
  want.flat().forEach((v, i) => expect(got[i]).toBeCloseTo(v, 5));
});

test("types that there are not, and an identity between unequal widths", () => {
  expect(() => new Projector(4, 4, { type: "mlp_gelu" })).toThrow(
    'projector type "mlp_gelu" is not supported; known are identity, linear, mlp<n>x_gelu',
  );
  expect(() => new Projector(4, 6, { type: "identity" })).toThrow("features are 4 wide, the language model 6");
});

test("an MLP of three layers goes through LLaVA's projector file", async () => {
  const make = (seed: number) => tinyLlava({ image_token_index: -200, mm_projector_type: "mlp3x_gelu" }, seed);
  const [model, other] = [make(1), make(2)];
  const files = memoryFiles();
  await saveProjector(model, files, { format: "bin" });
  const { names } = await TensorFiles.open(files, "mm_projector.bin");
  expect(names).toEqual([0, 2, 4].flatMap((i) => [`model.mm_projector.${i}.weight`, `model.mm_projector.${i}.bias`]));
  await loadProjector(other, files);
  const [want, got] = [model, other].map((m) => Object.values(m.multi_modal_projector.stateDict()));
  for (const [i, t] of want.entries()) expect(await got[i].data()).toEqual(await t.data());
});
