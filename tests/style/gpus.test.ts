import { expect, test } from "vitest";
import { figuresOf } from "../../bench/gpus.ts";
import { kernelNames, kernelSource } from "../../kernels/index.ts";

test("figures of a kernel are read from its WGSL", () => {
  const code = `
alias V = vec4f;
const WG: u32 = 64u;
const ROWS: u32 = min(WG / 16u, 8u);
const BIG: bool = true;
const TILE: u32 = select(1u, ROWS * 2u, BIG);
var<workgroup> tile: array<V, TILE * ROWS>;
var<workgroup> sums: array<f32, WG>;
@compute @workgroup_size(WG / 8u, 2)
fn main() {
  var a = array<vec4f, ROWS>();
  var b = array<f32, TILE>();
}`;
  expect(figuresOf(code)).toEqual({ registers: 4 * 4 + 8, shared: 4 * (4 * 32 + 64), invocations: 16 });
});

test.each(kernelNames())("%s stays within the default limits", (name) => {
  const { shared, invocations } = figuresOf(kernelSource(name));
  expect(shared).toBeLessThanOrEqual(16384);
  expect(invocations).toBeGreaterThan(0);
  expect(invocations).toBeLessThanOrEqual(256);
});
