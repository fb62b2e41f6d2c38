/** Ops from outside the package: each door, that the compiler treats them as its own, and each mistake. */
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  benchmark,
  defineElementwise,
  defineFunction,
  defineKernel,
  defineLowering,
  f32Bits,
} from "../../src/custom/index.ts";
import { explain, grad, init, noGrad, rand, type Tensor, tensor, trace, tune } from "../../src/index.ts";

const here = /custom\.test\.ts:\d+:\d+/;
let unique = 0;
const fresh = (name: string): string => `${name}_${++unique}`;

const values = Float32Array.from({ length: 60 }, (_, i) => Math.sin(i) * 2 + 0.05);
const input = (): Tensor => tensor(values, { shape: [5, 12], requiresGrad: true });
const kernelsOf = async (x: Tensor): Promise<string[]> =>
  (await explain(x))
    .split("\n")
    .slice(0, -1)
    .map((line) => line.trim().split(/\s+/)[1]);

async function expectClose(got: Tensor, want: (x: number, i: number) => number): Promise<void> {
  const data = await got.data();
  expect(data.length).toBe(values.length);
  data.forEach((v, i) => {
    expect(Math.abs(v - want(values[i], i)), `element ${i}`).toBeLessThanOrEqual(2e-5);
  });
}

const squash = defineElementwise<{ slope: number }>({
  name: "test_squash",
  wgsl: ([x], { slope }, type) => `${x} / (${type}(1.0) + ${type}(${slope.toFixed(3)}) * abs(${x}))`,
  js: ([x], { slope }) => x / (1 + slope * Math.abs(x)),
  gradient: (g, _y, [x], { slope }) => g.div(x.abs().mul(slope).add(1).square()),
});
const hypot = defineElementwise({
  name: "test_hypot",
  operands: 2,
  commutative: true,
  wgsl: ([a, b], _, type) => `root_${type.replace(/\W/g, "")}(${a} * ${a} + ${b} * ${b})`,
  helpers: (type) => `fn root_${type.replace(/\W/g, "")}(x: ${type}) -> ${type} { return sqrt(x); }`,
  js: ([a, b]) => Math.hypot(a, b),
  gradient: (g, y, [a, b]) => [g.mul(a).div(y), g.mul(b).div(y)],
});

const SCALED = `
const FACTOR: f32 = 1.0; // param
struct Dims { count: u32, shift: f32 }
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
fn read_x(at: u32) -> f32 { // hook
  return x[at];
}
fn epilogue(value: f32, i: vec3u) -> f32 { // hook
  return value;
}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.y * groups.x * 64u + id.x;
  if (at >= dims.count) { return; }
  let v = read_x(at);
  y[at] = epilogue(FACTOR * v * v + dims.shift, vec3u(0u, 0u, at));
}`;
const scaledSquare = defineKernel<{ factor: number; shift: number }>({
  name: "test_scaled_square",
  wgsl: SCALED,
  fallback: ([x], { factor, shift }) => x.square().mul(factor).add(shift),
  dispatch: ({ inputs: [x], attributes: { factor, shift } }) => {
    const count = x.shape.reduce((a, b) => a * b, 1);
    return {
      parameters: { FACTOR: factor },
      uniforms: [count, f32Bits(shift)],
      workgroups: Math.ceil(count / 64),
      prologues: [{ input: 0, hook: "read_x" }],
      epilogue: { type: "f32" },
    };
  },
});

const clipped = defineFunction<{ most: number }>({
  name: "test_clipped",
  forward: ([x], { most }) => x.mul(tensor([1])).clamp({ max: most }), // a value of the host is allowed here
  gradient: (g) => g,
});
const parts = defineFunction<Record<string, never>, Tensor[]>({
  name: "test_parts",
  inputs: 2,
  forward: ([a, b]) => [a.add(b), a.mul(b)],
  gradient: ([gs, gp], _y, [a, b]) => [gs.add(gp.mul(b)), gs.add(gp.mul(a))],
});

describe.each(["webgpu", "reference"] as const)("on %s", (backend) => {
  beforeAll(async () => {
    await init({ backend });
  });

  test("elementwise: value, gradient, second derivative, broadcasting, numbers, attributes", async () => {
    const x = input();
    await expectClose(squash(x, { slope: 0.5 }), (v) => v / (1 + 0.5 * Math.abs(v)));
    const [first] = grad(squash(x, { slope: 0.5 }).sum(), [x], { createGraph: true });
    await expectClose(first, (v) => 1 / (1 + 0.5 * Math.abs(v)) ** 2);
    await expectClose(grad(first.sum(), [x])[0], (v) => -Math.sign(v) / (1 + 0.5 * Math.abs(v)) ** 3);
    await expectClose(hypot(x, 3), (v) => Math.hypot(v, 3));
    await expectClose(hypot(tensor([[4]]), x), (v) => Math.hypot(4, v));
    await expectClose(grad(hypot(x, 3).sum(), [x])[0], (v) => v / Math.hypot(v, 3));
  });

  test("kernel: value, gradient and second derivative from the fallback", async () => {
    const x = input();
    const y = () => scaledSquare(x, { factor: 3, shift: 1 });
    await expectClose(y(), (v) => 3 * v * v + 1);
    const [first] = grad(y().sum(), [x], { createGraph: true });
    await expectClose(first, (v) => 6 * v);
    await expectClose(grad(first.sum(), [x])[0], () => 6);
  });

  test("function: its own gradient, several outputs, unused outputs", async () => {
    const x = input();
    await expectClose(clipped(x, { most: 0.5 }), (v) => Math.min(v, 0.5));
    await expectClose(grad(clipped(x, { most: 0.5 }).sum(), [x])[0], () => 1);
    const [sum, product] = parts(x, x.mul(2));
    await expectClose(product, (v) => 2 * v * v);
    await expectClose(grad(sum.sum().add(product.sum()), [x])[0], (v) => 3 + 4 * v);
    await expectClose(grad(parts(x, x.mul(2))[1].sum(), [x])[0], (v) => 4 * v);
  });
});

describe("the compiler treats them as its own", () => {
  beforeEach(async () => {
    await init({ backend: "webgpu", fuse: "always" });
  });

  test("elementwise ops fuse with neighbours, in chains and in a product's epilogue", async () => {
    expect(await kernelsOf(squash(input().mul(2), { slope: 1 }).add(1))).toHaveLength(1);
    const [only, ...others] = await kernelsOf(squash(rand(32, 32).matmul(rand(32, 32)), { slope: 1 })).then((list) =>
      list.filter((label) => /squash/.test(label)),
    );
    expect(only).toMatch(/mat\w+→test_squash$/);
    expect(others).toEqual([]);
  });

  test("a kernel takes prologue and epilogue, and its values stay", async () => {
    const y = scaledSquare(input().detach().add(1).exp(), { factor: 2, shift: 0 }).neg();
    expect(await kernelsOf(y)).toEqual(["add·exp→test_scaled_square→neg".replace("add", "full·add")]);
    await expectClose(y.mul(1e-3), (v) => -2e-3 * Math.exp(2 * (v + 1)));
  });

  test("traces name them, the second run compiles nothing", async () => {
    const x = rand(1000);
    const run = () => scaledSquare(x, { factor: 2, shift: 0 }).data();
    await run();
    await run();
    const { traceEvents } = await trace(run);
    expect(traceEvents.map((e) => e.name)).not.toContain("compile");
    if ((await init({ backend: "webgpu" }))!.timestamps)
      expect(traceEvents.map((e) => e.name).join()).toContain("test_scaled_square");
  });

  test("tuning measures the variants that dispatch offers", async () => {
    const name = fresh("tuned");
    const widths: number[] = [];
    const op = defineKernel({
      name,
      wgsl: SCALED.replace("@workgroup_size(64)", "@workgroup_size(WG)")
        .replaceAll("64u", "WG")
        .replace("const FACTOR", "const WG: u32 = 64u; // param\nconst FACTOR"),
      fallback: ([x]) => x.square(),
      dispatch: ({ inputs: [x], choose }) => {
        const { WG } = choose({ count: x.shape[0] }, [{ WG: 64 }, { WG: 8 }, { WG: 32 }]);
        widths.push(WG);
        return { parameters: { WG }, uniforms: [x.shape[0], 0], workgroups: Math.ceil(x.shape[0] / WG) };
      },
    });
    const x = rand(5000);
    const results = await tune(() => op(x).data());
    expect(results.map((r) => r.key)).toEqual([expect.stringContaining(name)]);
    expect(results[0].candidates.filter((c) => c.ms !== undefined)).toHaveLength(3);
    expect(new Set(widths)).toEqual(new Set([64, 8, 32]));
    const [got, want] = [await op(x).data(), await x.square().data()];
    expect(got).toEqual(want);
  });

  test("a tensor larger than a binding is computed in parts or by the fallback", async () => {
    await init({ backend: "webgpu", limits: { maxStorageBufferBindingSize: 1 << 16 } });
    const x = rand(3 << 14);
    const got = await scaledSquare(x, { factor: 2, shift: 1 }).data();
    const want = await x.square().mul(2).add(1).data();
    got.forEach((v, i) => {
      expect(Math.abs(v - want[i])).toBeLessThan(1e-5);
    });
  });

  test("several files with scratch between them", async () => {
    const name = fresh("two_steps");
    const step = (body: string): string => `
struct Dims { count: u32 }
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;
@compute @workgroup_size(8) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < dims.count) { b[id.x] = ${body}; }
}`;
    const op = defineKernel({
      name,
      wgsl: { square: step("a[id.x] * a[id.x]"), shift: step("a[id.x] + 1.0") },
      fallback: ([x]) => x.square().add(1),
      dispatch: ({ inputs: [x], outputs: [y], scratch }) => {
        const between = scratch(4 * x.shape[0]);
        const common = { uniforms: [x.shape[0]], workgroups: Math.ceil(x.shape[0] / 8) };
        return [
          { kernel: "square", buffers: [x, between], ...common },
          { kernel: "shift", buffers: [between, y], ...common },
        ];
      },
    });
    expect([...(await op(tensor([1, 2, 3])).data())]).toEqual([2, 5, 10]);
  });

  test("a lowering of an existing op serves until it is removed", async () => {
    const x = rand(4, 6);
    const plain = await x.cumsum(-1).data();
    const remove = defineLowering({
      op: "cumsum",
      wgsl: SCALED, // not a running sum: it shows that the kernel ran
      dispatch: ({ inputs: [a] }) =>
        a.shape[0] === 4 ? { uniforms: [24, 0], workgroups: 1, parameters: { FACTOR: 1 } } : undefined,
    });
    const [own, other] = [await x.cumsum(-1).data(), await rand(3, 6).cumsum(-1).data()];
    const square = await x.square().data();
    remove();
    expect(own).toEqual(square);
    expect(other[1]).toBeGreaterThan(other[0]); // this shape ran as before
    expect(await x.cumsum(-1).data()).toEqual(plain);
  });

  test("benchmark gives medians, rates and errors, and refuses other values", async () => {
    const x = rand(64, 64);
    const rows = await benchmark({ a: () => x.matmul(x), b: () => x.matmul(x).mul(1) }, { rounds: 3, sampleMs: 1 });
    expect(rows.map((r) => r.name)).toEqual(["a", "b"]);
    for (const { ms, best, worst, gflops, gbs, error } of rows) {
      expect(best).toBeLessThanOrEqual(ms);
      expect(ms).toBeLessThanOrEqual(worst);
      expect(gflops).toBeGreaterThan(0);
      expect(gbs).toBeGreaterThan(0);
      expect(error).toBeLessThan(1e-5);
    }
    expect(String(rows)).toMatch(/GFLOP\/s +GB\/s +% of roofline[\s\S]*\na /);
    await expect(benchmark({ a: () => x.mul(1), wrong: () => x.add(1) }, { rounds: 1 })).rejects.toThrow(
      /wrong differs from a/,
    );
    await expect(benchmark({})).rejects.toThrow(/at least one entry/);
  });
});

describe("mistakes name the user's line, and the engine goes on", () => {
  const elementwise = { wgsl: ([x]: string[]) => x, js: ([x]: number[]) => x };
  const kernel = { wgsl: SCALED, fallback: ([x]: Tensor[]) => x.square() };
  const dispatch = () => ({ uniforms: [1, 0], workgroups: 1 });
  const both = (...texts: RegExp[]) => new RegExp(texts.map((t) => `(?=[\\s\\S]*${t.source})`).join(""));

  test.each<[string, () => unknown, RegExp]>([
    [
      "a name of the library",
      () => defineElementwise({ name: "exp", ...elementwise }),
      /exp: there is an op of this name/,
    ],
    [
      "a name taken before",
      () => defineElementwise({ name: "test_squash", ...elementwise }),
      /this name already, defined/,
    ],
    ["a name with spaces", () => defineElementwise({ name: "my op", ...elementwise }), /letters, digits/],
    [
      "an unknown option",
      () => defineElementwise({ name: "o1", ...elementwise, vjp: 1 } as never),
      /unknown option vjp/,
    ],
    [
      "a missing definition",
      () => defineElementwise({ name: "o2", wgsl: elementwise.wgsl } as never),
      /js must be function/,
    ],
    ["no operands", () => defineElementwise({ name: "o3", ...elementwise, operands: 0 }), /positive integer/],
    ["a dtype", () => defineElementwise({ name: "o4", ...elementwise, dtype: "f64" as never }), /"float" or "number"/],
    [
      "no gradient",
      () => defineFunction({ name: "o5", forward: (x: Tensor[]) => x[0] } as never),
      /gradient must be function/,
    ],
    [
      "no entry point",
      () => defineKernel({ name: "o6", ...kernel, dispatch, wgsl: "struct A { a: u32 }" }),
      /no entry point/,
    ],
    [
      "no uniform",
      () =>
        defineKernel({ name: "o7", ...kernel, dispatch, wgsl: SCALED.replace("var<uniform>", "var<storage, read>") }),
      /var<uniform>/,
    ],
    [
      "a gap in the bindings",
      () => defineKernel({ name: "o8", ...kernel, dispatch, wgsl: SCALED.replace("@binding(2)", "@binding(3)") }),
      /binding 2 is missing/,
    ],
    [
      "a hook with another signature",
      () =>
        defineKernel({ name: "o9", ...kernel, dispatch, wgsl: SCALED.replace("read_x(at: u32)", "read_x(i: u32)") }),
      /line 7 of the WGSL is no hook in a known form/,
    ],
    [
      "a lowering of no op",
      () => defineLowering({ op: "matmull", wgsl: SCALED, dispatch }),
      /there is no such op, or its entry point is not imported; ops with kernels: .*matmul/,
    ],
    [
      "a lowering of a generated op",
      () => defineLowering({ op: "add", wgsl: SCALED, dispatch }),
      /generated, not lowered/,
    ],
  ])("%s", (_, define, message) => {
    expect(define).toThrow(both(message, here));
  });

  test("a wrong number of inputs, or what is no tensor", () => {
    expect(() => squash({ slope: 1 })).toThrow(both(/1 input expected, got 0/, here));
    expect(() => scaledSquare(3 as never, { factor: 1, shift: 0 })).toThrow(
      both(/input 0 must be a tensor, got number/, here),
    );
    expect(() => hypot("a" as never, 1)).toThrow(both(/input 0 must be a tensor or a number/, here));
  });

  test("an op without a gradient that needs one", async () => {
    const op = defineElementwise({ name: fresh("no_gradient"), ...elementwise });
    expect(() => op(input())).toThrow(both(/input 0 requires a gradient/, here));
    await expectClose(
      noGrad(() => op(input())),
      (v) => v,
    );
    await expectClose(op(input().detach()), (v) => v);
  });

  test("gradients in wrong number or shape", () => {
    const one = defineElementwise({ name: fresh("few"), ...elementwise, operands: 2, gradient: (g) => g });
    expect(() => one(input(), 1).sum().backward()).toThrow(both(/must return 2 gradients/, here));
    const shape = defineElementwise({ name: fresh("shape"), ...elementwise, gradient: (g) => g.sum() });
    expect(() => shape(input()).sum().backward()).toThrow(both(/must have its shape \[5,12\], got \[\]/, here));
  });

  test("an expression that does not compile", async () => {
    await init({ backend: "webgpu" });
    const op = defineElementwise({ name: fresh("broken"), wgsl: ([x]) => `sqroot(${x})`, js: ([x]) => x });
    await expect(op(tensor([1, 2])).data()).rejects.toThrow(both(/does not compile/, here, /sqroot/));
    expect([...(await tensor([1, 2]).add(1).data())]).toEqual([2, 3]);
  });

  test("a WGSL file that does not compile", async () => {
    await init({ backend: "webgpu" });
    const wgsl = SCALED.replace("FACTOR * v * v", "FACTOR * w * v");
    const op = defineKernel({ name: fresh("broken_file"), ...kernel, wgsl, dispatch });
    await expect(op(tensor([1, 2])).data()).rejects.toThrow(
      both(/does not compile/, /line 18 of the WGSL/, here, /FACTOR \* w/),
    );
    expect([...(await tensor([1, 2]).add(1).data())]).toEqual([2, 3]);
  });

  test("bindings, hooks, parameters and workgroups that do not match", async () => {
    await init({ backend: "webgpu" });
    const failing = async (change: object, wgsl = SCALED): Promise<void> => {
      const op = defineKernel({ name: fresh("bad"), ...kernel, wgsl, dispatch: () => ({ ...dispatch(), ...change }) });
      await op(tensor([1, 2])).data();
    };
    const three = SCALED.replace("fn read_x", "@group(0) @binding(3) var<storage, read> z: array<f32>;\nfn read_x");
    await expect(failing({}, three)).rejects.toThrow(both(/binds 3 storage buffers \(x, y, z\), the call 2/, here));
    await expect(failing({}, SCALED.replace("read_write", "read"))).rejects.toThrow(both(/y holds output 0/, here));
    await expect(failing({ prologues: [{ input: 0, hook: "read_z" }] })).rejects.toThrow(
      both(/no read hook read_z/, here),
    );
    await expect(failing({ parameters: { FACTORS: 1 } })).rejects.toThrow(both(/no parameter FACTORS/, here));
    await expect(failing({ workgroups: [70000, 1, 1] })).rejects.toThrow(both(/from 1 to 65535/, here));
    await expect(failing({ kernel: "other" })).rejects.toThrow(both(/kernel other is not in wgsl/, here));
    expect([...(await tensor([1, 2]).add(1).data())]).toEqual([2, 3]);
  });
});
