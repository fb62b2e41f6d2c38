/** Ops from outside the package, used as a stranger would: unusual values, rules that fail, cells that run twice. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import {
  benchmark,
  type Dispatch,
  defineElementwise,
  defineFunction,
  defineKernel,
  defineLowering,
  type KernelContext,
  type KernelDefinition,
} from "../../src/custom/index.ts";
import { explain, init, rand, type Tensor, tensor } from "../../src/index.ts";
import { AdamW } from "../../src/nn/index.ts";

const here = /edges\.test\.ts:\d+:\d+/;
const both = (...texts: RegExp[]) => new RegExp(texts.map((t) => `(?=[\\s\\S]*${t.source})`).join(""));
let unique = 0;
const fresh = (name: string): string => `edge_${name}_${++unique}`;
const list = async (x: Tensor): Promise<number[]> => [...(await x.data())];
const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const wrong = (value: unknown) => value as never;

/** y = `body`, which may read x by read_x(at) and pass a result to epilogue(value, i). */
const wgsl = (body = "v * v", x = "f32", y = x): string => `
struct Dims { count: u32 }
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<${x}>;
@group(0) @binding(2) var<storage, read_write> y: array<${y}>;
fn read_x(at: u32) -> ${x} { // hook
  return x[at];
}
fn epilogue(value: ${y}, i: vec3u) -> ${y} { // hook
  return value;
}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let at = id.x;
  if (at >= dims.count) { return; }
  let v = read_x(at);
  y[at] = epilogue(${body}, vec3u(0u, 0u, at));
}`;
type Context = KernelContext<Record<string, unknown>>;
type Definition = KernelDefinition<Record<string, unknown>, Tensor>;
const plain = ({ inputs: [x] }: Context): Dispatch => ({
  uniforms: [count(x.shape)],
  workgroups: Math.ceil(count(x.shape) / 64),
});
const hooked = (cx: Context): Dispatch => ({ ...plain(cx), prologues: [{ input: 0, hook: "read_x" }], epilogue: {} });
const squares = (change: Partial<Definition> = {}) =>
  defineKernel({ name: fresh("square"), wgsl: wgsl(), fallback: ([x]) => x.square(), dispatch: plain, ...change });

beforeEach(async () => {
  await init({ backend: "webgpu", fuse: "always" });
});

describe("elementwise ops", () => {
  const factor = (k: unknown): number => {
    const first: unknown = (k as number[] | null)?.[0] ?? k;
    return first === Infinity || Object.is(first, -0) ? 2 : 3;
  };
  const multiple = () =>
    defineElementwise<{ k: unknown }>({
      name: fresh("multiple"),
      wgsl: ([x], { k }, type) => `${x} * ${type}(${factor(k)})`,
      js: ([x], { k }) => x * factor(k),
    });

  test.each([
    ["infinities in a list", [Infinity], [-Infinity]],
    ["infinity and NaN in a list", [Infinity], [NaN]],
    ["infinity and null", Infinity, null],
    ["both zeros", -0, 0],
    ["typed lists", new Float32Array([Infinity]), new Float32Array([1])],
  ])("attributes that differ are compiled apart: %s", async (_, first, second) => {
    const op = multiple();
    expect(await list(op(tensor([1, 2]), { k: first }))).toEqual([2, 4]);
    expect(await list(op(tensor([1, 2]), { k: second }))).toEqual([3, 6]);
  });

  test("attributes are those of the call, whatever happens to the object later", async () => {
    const op = defineElementwise<{ k: number[] }>({
      name: fresh("later"),
      wgsl: ([x], { k }, type) => `${x} * ${type}(${k[0]})`,
      js: ([x], { k }) => x * k[0],
    });
    const attributes = { k: [2] };
    const first = op(tensor([1]), attributes);
    attributes.k[0] = 3;
    expect(await list(first.add(op(tensor([1]), attributes)))).toEqual([5]);
  });

  const cycle: unknown[] = [];
  cycle.push(cycle);
  test.each<[string, unknown, RegExp]>([
    ["a function", () => 1, /attribute k must be plain data .*got function/],
    ["a tensor", tensor([1]), /got Tensor; a tensor is an input/],
    ["a bigint", 1n, /got bigint/],
    ["a map in a list", [new Map()], /attribute k\.0 must be plain data .*got Map/],
    ["a list in itself", cycle, /attribute k contains itself/],
  ])("attributes must be plain data: %s", (_, k, message) => {
    expect(() => multiple()(tensor([1]), { k })).toThrow(both(message, here));
  });

  test("a boolean result has constants of the operands' type, scalars and vectors", async () => {
    const above = defineElementwise({
      name: fresh("above"),
      result: "bool",
      dtype: "number",
      wgsl: ([x], _, type) => `least(${x}) > ${type}(1)`,
      helpers: (type) => `fn least(x: ${type}) -> ${type} { return max(x, ${type}(0)); }`,
      js: ([x]) => Number(Math.max(x, 0) > 1),
    });
    for (const dtype of ["f32", "f16", "i32", "u32"] as const)
      for (const n of [3, 4, 5]) {
        const x = tensor(
          Array.from({ length: n }, (_, i) => i),
          { dtype },
        );
        expect(await list(above(x)), `${dtype} ${n}`).toEqual(Array.from({ length: n }, (_, i) => Number(i > 1)));
      }
  });

  test("helpers of two ops, and of two types, may have one name", async () => {
    const helped = (body: string, js: (x: number) => number) =>
      defineElementwise({
        name: fresh("helped"),
        wgsl: ([x]) => `help(${x}) * SCALE`,
        helpers: (type) => `const SCALE = 2.0;\nfn help(x: ${type}) -> ${type} { return ${body}; } // help`,
        js: ([x]) => 2 * js(x),
      });
    const twice = helped("x + x", (x) => 2 * x);
    const square = helped("x * x", (x) => x * x);
    expect(await list(twice(square(tensor([1, 3]))))).toEqual([8, 72]);
    // One shader with vec4f and f32.
    const row = square(tensor([[1, 2, 3, 4]])).expand([2, 4]);
    expect(await list(square(tensor([[1], [2]])).add(row))).toEqual([4, 10, 20, 34, 10, 16, 26, 40]);
  });

  test("an expression may end with a comment, and is no statement", async () => {
    const define = (text: (x: string) => string) =>
      defineElementwise({ name: fresh("text"), wgsl: ([x]) => text(x), js: ([x]) => x });
    expect(await list(define((x) => `${x} // as it is`)(tensor([1, 2])))).toEqual([1, 2]);
    await expect(define((x) => `return ${x}`)(tensor([1])).data()).rejects.toThrow(both(/not a statement/, here));
    await expect(define((x) => `${x};`)(tensor([1])).data()).rejects.toThrow(both(/not a statement/, here));
  });

  test("gradients are tensors, and get the input's dtype", async () => {
    const define = (gradient: unknown) =>
      defineElementwise({
        name: fresh("gradient"),
        wgsl: ([x]) => x,
        js: ([x]) => x,
        gradient: wrong(gradient),
      });
    const backward = (gradient: unknown, x = tensor([1, 2], { requiresGrad: true })): Tensor => {
      define(gradient)(x).sum().backward();
      return x.grad!;
    };
    expect(() => backward(() => [3])).toThrow(both(/gradient of input 0 must be a tensor or null, got number/, here));
    expect(() => backward(() => undefined)).toThrow(both(/must return 1 gradient, .*got undefined/, here));
    expect(() => backward((g: Tensor) => g.gt(0))).toThrow(both(/must be a float tensor, got bool/, here));
    expect(() => backward(async (g: Tensor) => g)).toThrow(both(/gradient must not be async/, here));
    expect(() => backward((g: Tensor, _: Tensor, x: Tensor[]) => x[1].mul(g))).toThrow(
      both(/gradient threw: Cannot read/, here),
    );
    const half = backward((g: Tensor) => g.half());
    expect([half.dtype, ...(await list(half))]).toEqual(["f32", 1, 1]);
  });

  test.each<[string, () => unknown, RegExp]>([
    ["no options", () => defineElementwise(wrong(undefined)), /object of options expected, got undefined/],
    ["a list as an operand", () => multiple()(wrong([1, 2])), /input 0 must be a tensor or a number, got array/],
    ["numbers alone", () => multiple()(1, { k: 1 }), /all inputs are numbers/],
    [
      "commutative in one operand",
      () => defineElementwise({ name: fresh("c"), commutative: true, wgsl: ([x]) => x, js: ([x]) => x }),
      /cannot be commutative/,
    ],
    [
      "a cost that is no number",
      () => defineElementwise({ name: fresh("c"), cost: NaN, wgsl: ([x]) => x, js: ([x]) => x }),
      /cost must be a number from 0 on, got NaN/,
    ],
  ])("%s", (_, call, message) => {
    expect(call).toThrow(both(message, here));
  });
});

describe("a cell that runs twice", () => {
  test("`replace` defines anew, and calls of the earlier definition keep it", async () => {
    const define = (factor: number, replace?: boolean) =>
      defineKernel({
        name: "edge_replaced",
        replace,
        wgsl: wgsl(`${factor}.0 * v`),
        fallback: ([x]) => x.mul(factor),
        dispatch: plain,
      });
    const x = tensor([1, 2]);
    const two = define(2);
    expect(await list(two(x))).toEqual([2, 4]);
    expect(() => define(3)).toThrow(both(/there is an op of this name already/, here, /`replace: true`/));
    const pending = two(x);
    const three = define(3, true);
    const five = define(5, true);
    expect(await list(three(x))).toEqual([3, 6]);
    expect(await list(pending)).toEqual([2, 4]);
    expect(await list(two(x).add(three(x)).add(five(x)))).toEqual([10, 20]);
    expect(await explain(five(x))).toContain("edge_replaced@3");
  });

  test("all kinds can be replaced, also by another; ops of the library cannot", async () => {
    const name = "edge_kinds";
    const x = tensor([1, 2], { requiresGrad: true });
    const first = defineElementwise({ name, wgsl: ([v]) => v, js: ([v]) => v, gradient: (g) => g });
    const second = defineFunction({ name, replace: true, forward: ([v]) => v.mul(2), gradient: (g) => g.mul(2) });
    const third = squares({ name, replace: true });
    expect(await list(first(x).add(second(x)).add(third(x)))).toEqual([4, 10]);
    expect(() => squares({ name: "softmax", replace: true })).toThrow(
      both(/there is an op of this name in the library/, here),
    );
  });

  test("a definition with a fault can be repeated", async () => {
    const name = fresh("again");
    const kernels = (second: string) => ({ name, wgsl: { one: wgsl(), two: second } });
    expect(() => squares(kernels("fn other() {}"))).toThrow(both(/file two: .*no entry point/, here));
    const op = squares({ ...kernels(wgsl()), dispatch: (cx) => ({ ...plain(cx), kernel: "two" }) });
    expect(await list(op(tensor([3])))).toEqual([9]);
  });

  test("lowerings can be taken away in any order, and replaced", async () => {
    const lower = (value: number, replace?: boolean) =>
      defineLowering({ op: "cumsum", replace, wgsl: wgsl(`${value}.0`), dispatch: plain });
    const value = async (): Promise<number> => (await tensor([1, 1]).cumsum(0).data())[1];
    const first = lower(10);
    const second = lower(20);
    expect(await value()).toBe(20);
    first();
    expect(await value()).toBe(20);
    second();
    second();
    expect(await value()).toBe(2);
    lower(30);
    const last = lower(40, true);
    expect(await value()).toBe(40);
    last();
    expect(await value()).toBe(2);
  });

  test("a lowering of an op that updates its inputs in place binds the outputs alone", async () => {
    const p = rand(4).requiresGrad_();
    const optimizer = new AdamW([p]);
    const remove = defineLowering({
      op: "adamw",
      wgsl: wgsl("v"),
      dispatch: ({ inputs: [x], outputs: [y] }) => ({ uniforms: [4], workgroups: 1, buffers: [x, y] }),
    });
    p.square().sum().backward();
    const step = async (): Promise<void> => {
      await optimizer.step();
      await p.data();
    };
    await expect(step()).rejects.toThrow(both(/output 0 is the buffer of input 0/, here));
    remove();
  });

  test("a function of tensor ops has no kernels to replace", () => {
    const name = fresh("function");
    defineFunction({ name, forward: ([x]) => x, gradient: (g) => g });
    expect(() => defineLowering({ op: name, wgsl: wgsl(), dispatch: plain })).toThrow(
      both(/has no kernel of its own/, here),
    );
  });

  test("a lowering serves the latest definition of an op", async () => {
    const name = fresh("lowered");
    const [old, latest] = [squares({ name }), squares({ name, replace: true })];
    const remove = defineLowering({ op: name, wgsl: wgsl("7.0"), dispatch: plain });
    expect([...(await list(old(tensor([3])))), ...(await list(latest(tensor([3]))))]).toEqual([9, 7]);
    remove();
    expect(await list(latest(tensor([3])))).toEqual([9]);
  });
});

describe("WGSL as people write it", () => {
  const check = async (text: string): Promise<void> => {
    const op = squares({ wgsl: text, dispatch: hooked });
    const y = op(tensor([1, 2, 3]).add(1)).mul(2);
    expect(await explain(y)).toMatch(/add→edge_square_\d+→full·mul/);
    expect(await list(y)).toEqual([8, 18, 32]);
  };
  test("line ends of Windows", () => check(wgsl().replaceAll("\n", "\r\n")));
  test("indented in a function", () => check(wgsl().replaceAll("\n", "\n    ")));
  test("hooks on two lines, with nested braces", () =>
    check(wgsl().replace("return x[at];\n}", "if (at < 1u) { return x[at]; } return x[at]; }")));
  test("binding before group, and old bindings in comments", () =>
    check(
      `// @group(0) @binding(1) var<storage, read> old: array<f32>;\n${wgsl().replace("@group(0) @binding(1)", "@binding(1) @group(0)")}`,
    ));
  test("the name of a kernel of the library", async () => {
    expect(await list(squares({ name: "sum_parts" })(tensor([3])))).toEqual([9]);
  });
  test("vectors through an alias that a dispatch sets", async () => {
    const text = wgsl("v * v", "V")
      .replace("struct", "alias V = f32; // param\nconst N: u32 = 1u; // param\nstruct")
      .replace("x[at]", "x[at / N]")
      .replace("y[at]", "y[at / N]")
      .replace("let at = id.x", "let at = id.x * N");
    const op = squares({
      wgsl: text,
      dispatch: (cx) => ({ ...hooked(cx), parameters: cx.inputs[0].shape[0] % 4 ? {} : { V: "vec4f", N: 4 } }),
    });
    for (const n of [3, 8]) {
      const x = rand(n);
      const [got, want] = [await list(op(x.add(1)).mul(2)), await list(x.add(1).square().mul(2))];
      got.forEach((v, i) => {
        expect(v).toBeCloseTo(want[i], 5);
      });
    }
    await expect(
      squares({ wgsl: text, dispatch: (cx) => ({ ...hooked(cx), parameters: { V: "vec4f", N: 4 } }) })(
        tensor([1, 2, 3]).add(1),
      ).data(),
    ).rejects.toThrow(both(/passes vectors of four, and 3 elements/, here));
  });
  test.each(["bool", "i32", "u32"] as const)("fused work before a kernel of %s", async (dtype) => {
    const op = squares({
      wgsl: wgsl("f32(v)", dtype === "bool" ? "u32" : dtype, "f32"),
      output: ([x]) => ({ shape: x.shape, dtype: "f32" }),
      fallback: ([x]) => x.float(),
      dispatch: (cx) => ({ ...plain(cx), prologues: [{ input: 0, hook: "read_x" }] }),
    });
    const x = tensor([0, 1, 2], { dtype: dtype === "bool" ? "i32" : dtype });
    expect(await list(op(dtype === "bool" ? x.gt(0) : x.mul(2)))).toEqual(dtype === "bool" ? [0, 1, 1] : [0, 2, 4]);
  });
});

describe("a dispatch that does not fit, and the engine goes on", () => {
  const noSize = (): never => {
    throw new TypeError("no such size");
  };
  const bad: [string, (cx: Context) => unknown, RegExp][] = [
    ["throws", noSize, /dispatch threw: no such size/],
    ["is async", async (cx) => plain(cx), /dispatch must not be async/],
    ["gives no dispatch", () => [], /an empty list computes nothing/],
    ["gives a number", () => 3, /a dispatch or a list of dispatches expected, got number/],
    ["has an unknown option", (cx) => ({ ...plain(cx), params: {} }), /unknown option params/],
    ["has no workgroups", () => ({ uniforms: [1] }), /workgroups must be number or array, got undefined/],
    ["has no work", (cx) => ({ ...plain(cx), workgroups: 0 }), /workgroups must be a positive number.*got 0/],
    ["has too few words", (cx) => ({ ...plain(cx), uniforms: [] }), /the uniform has 1 words, uniforms 0/],
    ["has too many words", (cx) => ({ ...plain(cx), uniforms: [1, 2] }), /the uniform has 1 words, uniforms 2/],
    ["has a float word", (cx) => ({ ...plain(cx), uniforms: [0.5] }), /uniforms\[0\] must be .*f32Bits/],
    ["has a word NaN", (cx) => ({ ...plain(cx), uniforms: [NaN] }), /uniforms\[0\] must be .*got NaN/],
    [
      "writes scratch alone",
      (cx) => ({ ...plain(cx), buffers: [cx.inputs[0], cx.scratch(8)] }),
      /no dispatch writes output 0, \[2\]/,
    ],
    [
      "reads scratch that nothing wrote",
      (cx) => ({ ...plain(cx), buffers: [cx.scratch(8), cx.outputs[0]] }),
      /x reads a scratch buffer that no dispatch before writes/,
    ],
    [
      "reads what it writes",
      (cx) => [plain(cx), { ...plain(cx), buffers: [cx.outputs[0], cx.outputs[0]] }],
      /y and x bind one buffer/,
    ],
    ["asks for scratch of NaN bytes", (cx) => cx.scratch(NaN), /scratch takes a positive number of bytes, got NaN/],
    ["chooses among nothing", (cx) => cx.choose({ n: 1 }, []), /1 to 12 candidates, got 0/],
    [
      "has a prologue of no input",
      (cx) => ({ ...plain(cx), prologues: [{ input: 1, hook: "read_x" }] }),
      /a prologue of input 1, which is not bound; the op has 1 inputs/,
    ],
    [
      "has a prologue by the epilogue",
      (cx) => ({ ...plain(cx), prologues: [{ input: 0, hook: "epilogue" }] }),
      /no read hook epilogue; it has read_x/,
    ],
    [
      "has a hook of another type",
      (cx) => ({ ...plain(cx), epilogue: { type: "vec4f" } }),
      /hook epilogue passes f32 in the WGSL, type says vec4f/,
    ],
    [
      "has an epilogue over another space",
      (cx) => ({ ...plain(cx), epilogue: { space: [1, 1, 3] } }),
      /space .* must have the 2 elements of \[2\], got \[1,1,3\]/,
    ],
    ["has an epilogue over a list", (cx) => ({ ...plain(cx), epilogue: { space: [2] } }), /must have the 2 elements/],
    ["has an unknown option of a hook", (cx) => ({ ...plain(cx), epilogue: { at: 1 } }), /epilogue: unknown option at/],
  ];
  test.each(bad)("%s", async (_, dispatch, message) => {
    const op = squares({ dispatch: wrong(dispatch) });
    await expect(op(tensor([1, 2])).data()).rejects.toThrow(both(message, here));
    expect(await list(tensor([1, 2]).add(1))).toEqual([2, 3]);
  });

  test("a buffer declared with another element type", async () => {
    const ints = tensor([1, 2], { dtype: "i32" });
    await expect(squares()(ints).data()).rejects.toThrow(
      both(/x holds input 0 of dtype i32.*array<i32>, not array<f32>/, here),
    );
    const bits = wgsl("f32(v)", "Bits", "f32").replace("struct", "alias Bits = u32;\nstruct");
    expect(await list(squares({ wgsl: bits, dispatch: plain })(tensor([1, 0])))).toEqual([0x3f800000, 0]);
  });

  test("an input read outside of its hook", async () => {
    const op = squares({ wgsl: wgsl("v * x[at]"), dispatch: hooked });
    await expect(op(tensor([1, 2]).add(1)).data()).rejects.toThrow(both(/uses x outside of read_x/, here));
  });

  test("uniforms follow the struct's alignment", async () => {
    const text = wgsl("f32(dims.v.z + dims.last)").replace("count: u32", "count: u32, v: vec3<u32>, last: u32,");
    const op = squares({ wgsl: text, dispatch: (cx) => ({ ...plain(cx), uniforms: [2, 0, 0, 0, 1, 2, 3, 4] }) });
    expect(await list(op(tensor([1, 2])))).toEqual([7, 7]);
  });
});

describe("outputs and fallbacks that do not fit", () => {
  const none = () => undefined;
  test.each<[string, Partial<Definition>, RegExp]>([
    ["another shape", { fallback: ([x]) => x.sum() }, /fallback returns f32\[\]; the op's output is f32\[2\]/],
    ["another dtype", { fallback: ([x]) => x.int() }, /fallback returns i32\[2\]; the op's output is f32\[2\]/],
    [
      "a list",
      { fallback: wrong(([x]: Tensor[]) => [x]) },
      /fallback returns a list: f32\[2\]; the op's output is f32/,
    ],
    ["nothing", { fallback: wrong(none) }, /fallback must return a tensor, or a list of tensors, got undefined/],
    ["a promise", { fallback: wrong(async ([x]: Tensor[]) => x) }, /fallback must not be async/],
    [
      "a value of the host",
      { fallback: ([x]) => x.mul(tensor([2])) },
      /values of the host.*make it an input of the op/,
    ],
    ["no dtype", { output: wrong(([x]: Tensor[]) => ({ shape: x.shape, dtype: "f64" })) }, /dtype must be one of f32/],
    ["no shape", { output: wrong(([x]: Tensor[]) => x.shape) }, /shape must be a list of positive integers/],
    ["no output", { output: () => [] }, /at least one output/],
    ["no inputs", { inputs: 0 }, /inputs must be a positive integer, got 0/],
    ["no file", { wgsl: {} }, /wgsl has no file/],
    ["strided inputs that are not there", { strided: [1] }, /strided must list inputs from 0 to 0, got \[1\]/],
    [
      "a buffer in group 1",
      { wgsl: wgsl().replace("@group(0) @binding(2)", "@group(1) @binding(0)") },
      /1 of 3 buffers/,
    ],
    ["a parameter without a type", { wgsl: `const A = 1u; // param\n${wgsl()}` }, /line 1 of the WGSL is no parameter/],
  ])("%s", async (_, change, message) => {
    const run = async () => squares({ dispatch: none, ...change })(tensor([1, 2])).data();
    await expect(run()).rejects.toThrow(both(message, here));
    expect(await list(tensor([1, 2]).add(1))).toEqual([2, 3]);
  });
});

describe("benchmark", () => {
  const quick = { rounds: 1, sampleMs: 0 };
  const x = (): Tensor => tensor([1, Infinity]);
  test.each<[string, Record<string, unknown>, object, RegExp]>([
    ["rounds", { a: () => x().mul(1) }, { rounds: 0 }, /rounds must be an integer from 1 on, got 0/],
    ["milliseconds", { a: () => x().mul(1) }, { sampleMs: NaN }, /sampleMs must be a number from 0 on, got NaN/],
    ["an unknown option", { a: () => x().mul(1) }, { round: 1 }, /unknown option round/],
    ["a promise", { a: async () => x().mul(1) }, quick, /benchmark: a: .*got Promise/],
    ["no tensor", { a: () => 3 }, quick, /a: a tensor or a list of tensors expected, got number/],
    ["no function", { a: 3 }, quick, /a: a function expected, got number/],
    ["another shape", { a: () => rand(4).mul(1), b: () => rand(2, 2).mul(1) }, quick, /b: .*\[2,2\], those of a \[4\]/],
    ["NaN", { a: () => x().mul(1), b: () => x().mul(NaN) }, quick, /b: its element 0 is NaN, that of a 1/],
    ["errors next to an infinity", { a: () => x().mul(1), b: () => x().mul(2) }, quick, /b differs from a by 1\.0/],
  ])("refuses %s", async (_, entries, options, message) => {
    await expect(benchmark(wrong(entries), options)).rejects.toThrow(message);
  });

  test("names an entry that throws, and one that computes nothing", async () => {
    const made = rand(4).mul(2);
    await expect(benchmark({ a: () => made }, quick)).rejects.toThrow(/a: it returns a tensor that was made before/);
    const failing = () => rand(4).add(rand(3));
    await expect(benchmark({ a: failing }, quick)).rejects.toThrow(/benchmark: a threw: add: .*broadcast/);
  });

  test("takes several outputs", async () => {
    const z = rand(8);
    const [a, b] = await benchmark({ a: () => [z.mul(1), z.sum()], b: () => [z.add(0), z.sum(0)] }, quick);
    expect([a.kernels, b.error]).toEqual([2, 0]);
  });
});

describe("in one bundle with the library", () => {
  /** Output of a program that scripts/run.mjs bundles. */
  const outputOf = (name: string, source: string, environment: Record<string, string> = {}): string => {
    const folder = join(root, ".build");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, name), source);
    return execFileSync(process.execPath, [join(root, "scripts/run.mjs"), join(folder, name)], {
      encoding: "utf8",
      env: { ...childEnvironment(), ...environment },
      stdio: ["ignore", "pipe", "ignore"],
    });
  };

  test("an error names the user's line", () => {
    const output = outputOf(
      "custom-line.ts",
      `import { defineElementwise } from "shadegrad/custom";
try {
  defineElementwise({ name: "exp", wgsl: ([x]) => x, js: ([x]) => x });
} catch (error) {
  console.log((error as Error).message);
}
`,
    );
    expect(output).toMatch(/there is an op of this name in the library[\s\S]*custom-line\.ts:3:/);
  });

  test("explain() names the user's line with SHADEGRAD_DEBUG", () => {
    const source = `import { explain, tensor } from "shadegrad";
const y = tensor([1, 2]).exp();
console.log(await explain(y));
`;
    expect(outputOf("debug-line.ts", source, { SHADEGRAD_DEBUG: "1" })).toMatch(/ exp .*debug-line\.ts:2:/);
  });
});
