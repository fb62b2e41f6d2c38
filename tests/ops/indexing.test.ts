/** Indexing, shapes and creation: errors, empty tensors, positions that only the device knows. Values: the golden data. */
import { beforeAll, describe, expect, test } from "vitest";
import * as sg from "../../src/index.ts";
import { uniform } from "../support/f64.ts";

const { ones, tensor, zeros } = sg;
const ids = (...values: number[]) => tensor(Int32Array.from(values));
const x = zeros(2, 3);
const cases: [() => unknown, string][] = [
  [() => x.at(2), "at: index 2 is out of range for dim 0 of [2,3]: expected a whole number from -2 to 1"],
  [() => x.at(0.5), "at: index 0.5 is out of range"],
  [() => x.at(0, 0, 0), "at: indices for 3 dims of [2,3]: expected at most 2"],
  [() => x.at("ellipsis", "ellipsis"), '"ellipsis" 2 times for [2,3]: expected once'],
  [() => x.at("new" as never), 'at: index "new" for [2,3]: expected a number, null'],
  [() => x.at([0, 2, -1]), "slice: [0,2,-1] of dim 0 of [2,3]: expected whole numbers, and a step above 0"],
  [() => x.at([0, 1, 1, 1] as never), "at: index [0,1,1,1] for [2,3]"],
  [() => x.at(ids(0, 2)), "at: index 2 is out of range for size 2: expected -2 to 1"],
  [() => x.at(zeros(2)), "at: indices must be i32 or u32, got f32 [2]"],
  [() => x.at(ids(0, 1), ids(0, 1, 2)), "at: shapes do not broadcast: [2] and [3]"],
  [() => x.at(tensor([true, false, true])), "at: mask [3] does not fit dims 0 to 0 of [2,3]"],
  [() => x.at(x.gt(0)), "at: the shape of the result depends on the values of mask [2,3], which are not on the host"],
  [() => x.atSet([0], zeros(2)), "atSet: values [2] do not broadcast to the selected part [3]"],
  [() => x.atSet([0], 1, { add: true } as never), "atSet: unknown option add; options: accumulate"],
  [() => ids(1, 2).atSet([0], 0.5), "full: 0.5 is not a value of dtype i32"],
  [() => ids(1, 2).atSet([0], zeros(1)), "atSet: values of dtype f32 do not fit a tensor of i32 [2]"],
  [() => x.indexPut([0 as never], 1), "indexPut: expected a list of index tensors"],
  [() => x.scatter(0, tensor([[2]], { dtype: "i32" }), 1), "scatter: index 2 is out of range for size 2"],
  [
    () => x.scatter(0, tensor([[1, 1]], { dtype: "i32" }), zeros(1, 1)),
    "scatter: index [1,2] is larger than source [1,1]",
  ],
  [() => x.scatterReduce(0, ids(0).reshape(1, 1), x, "max" as never), "scatterReduce: unknown reduction max"],
  [
    () => x.gt(0).scatterReduce(0, ids(0).reshape(1, 1), x, "amax"),
    "scatterReduce: amax of bool [2,3]: cast to i32 first",
  ],
  [
    () => x.indexCopy(0, ids(0), zeros(2, 3)),
    "indexCopy: source [2,3] for 1 slices along dim 0 of [2,3]: expected [1,3]",
  ],
  [() => x.indexFill(0, ids(-1), 1), "indexFill: index -1 is out of range for size 2"],
  [() => x.take(ids(6)), "take: index 6 is out of range for size 6: expected -6 to 5"],
  [() => x.takeAlongDim(ids(0), 0), "takeAlongDim: index [1] and [2,3]: expected equal rank"],
  [() => sg.oneHot(ids(3), 3), "oneHot: index 3 is out of range for size 3"],
  [() => sg.oneHot(x.argmax(0)), "oneHot: the shape of the result depends on the values of ids"],
  [
    () => x.maskedScatter(tensor([true, true, false]), zeros(3)),
    "the mask [3] selects 4 elements of [2,3], source [3] has 3",
  ],
  [() => x.repeat(2), "repeat: [2] has 1 numbers for [2,3]: expected at least 2"],
  [() => x.tile(-1), "tile: [-1] for [2,3]: expected whole numbers of at least 0"],
  [
    () => x.repeatInterleave([1, 2], 1),
    "repeatInterleave: [1,2] repeats for dim 1 of [2,3]: expected one whole number, or 3",
  ],
  [() => x.movedim([0, 1], [0, 0]), "movedim: dims [0,1] to [0,0] of [2,3]"],
  [() => x.unflatten(1, [2, -1]), "unflatten: dim 1 of [2,3] does not split into [2,-1]"],
  [() => x.tensorSplit(0), "tensorSplit: 0 parts of [2,3]"],
  [() => x.roll([1, 2], 0), "roll: 2 shifts for 1 dims of [2,3]"],
  [() => zeros(2, 3, 4).t(), "t: expected at most 2 dims, got [2,3,4]"],
  [() => zeros(2).mT, "mT: expected at least two dims, got [2]"],
  [() => zeros(2, 2, 2).diag(), "diag: expected a vector or a matrix, got [2,2,2]"],
  [() => x.diagonal({ dim1: 1 }), "diagonal: dims 1 and 1 for [2,3]: expected two different dims"],
  [() => x.broadcastTo(3), "broadcastTo: [2,3] does not broadcast to [3]"],
  [() => ones(1).expand(0), "expand: [1] to [0]: expected whole sizes"],
  [() => ones(1).expand(2.5), "expand: [1] to [2.5]: expected whole sizes"],
  [() => x.pad([[0.5, 0], [0, 0]]), "pad: [[0.5,0],[0,0]] for [2,3]: expected whole numbers"], // biome-ignore format: pairs
  [() => x.tril(0.5), "tril: diagonal 0.5: expected a whole number"],
  [() => x.roll(0.5, 0), "roll: shifts [0.5] of [2,3]: expected whole numbers"],
  [() => sg.pad(x, [1]), "pad: amounts [1] for [2,3]: expected whole numbers, before and after"],
  [() => sg.pad(x, [3, 0], { mode: "reflect" }), "pad: 3 and 0 in mode reflect of dim 1 of [2,3]: expected at most 2"],
  [() => sg.pad(x, [1, 0], { mode: "mirror" as never }), "pad: unknown mode mirror"],
  [() => sg.unfold(zeros(1, 1, 2, 2), 3), "unfold: windows [3,3] do not fit a plane [2,2] with padding [0,0]"],
  [
    () => sg.fold(zeros(1, 4, 3), 3, 2),
    "fold: [1,4,3] for size [3,3] and windows [2,2]: expected [N, a multiple of 4, 4]",
  ],
  [() => sg.meshgrid([x]), "meshgrid: expected vectors, got [2,3]"],
  [() => sg.randint(3, 3, [2]), "randint: from 3 to 3: expected whole numbers of i32 with low < high"],
  [() => sg.multinomial(tensor([0, 1]), 2), "multinomial: row 0 of [2] has 1 weights above 0: expected at least 2"],
  [() => sg.multinomial(tensor([-1, 1]), 1), "multinomial: weight -1 in [2]"],
  [() => sg.bernoulli(tensor([2])), "bernoulli: probability 2 in [1]: expected 0 to 1"],
  [() => sg.normal(0, 1), "normal: two numbers need a shape"],
  [() => tensor(undefined as never), "tensor: undefined among the values: expected numbers or booleans"],
  [() => tensor(["1"] as never), "tensor: string among the values"],
  [() => tensor([1], { dtype: "f64" as never }), "tensor: unknown dtype f64: expected f32, f16, i32, u32 or bool"],
  [() => x.to("int64" as never), "to: unknown dtype int64"],
  [() => tensor([1], { dtyp: "i32" } as never), "tensor: unknown option dtyp"],
  [() => zeros(undefined as never), "zeros: sizes must be whole numbers"],
  [
    () => zeros(2 ** 30, 2 ** 30),
    "[1073741824,1073741824] has 1152921504606847000 elements: expected at most 4294967295",
  ],
  [() => sg.arange(1e15), "iota: [1000000000000000] has 1000000000000000 elements"],
  [() => sg.full([2], undefined as never), "full: the value must be a number, got undefined"],
  [() => x.split(0), "split: size 0 of dim 0 of [2,3]: expected a whole number above 0"],
  [() => x.atSet(0 as never, 1), "atSet: expected a list of indices"],
  [() => x.atSet([0], undefined as never), "atSet: values must be a tensor or a number, got undefined"],
  [() => x.scatter(0, tensor([[0]], { dtype: "i32" }), undefined as never), "scatter: source must be a tensor"],
  [() => sg.linspace(0, 1, 2.5), "linspace: 2.5 steps from 0 to 1"],
  [() => zeros(2, { dype: "i32" } as never), "zeros: unknown option dype; options: dtype"],
  [() => zeros(0, 3).amax(0), "max: no elements along dims [0] of [0,3]: expected at least one"],
  [() => zeros(0, 3).at(ids(0)), "at: index 0 is out of range for size 0"],
];

test.each(cases.map(([call, message]) => ({ call, message })))("$message", ({ call, message }) => {
  expect(call).toThrow(message);
});

test("maskedSelect takes bool masks only", async () => {
  await expect(sg.maskedSelect(x, x)).rejects.toThrow("maskedSelect: the mask must be bool, got f32 [2,3]");
});

describe.each(["reference", "webgpu"] as const)("on %s", (backend) => {
  beforeAll(async () => void (await sg.init({ backend })));

  test("sizes come as arguments or as a list", async () => {
    const t = sg.arange(6, { dtype: "f32" });
    expect([t.reshape(2, -1).shape, t.reshape([2, -1]).shape, t.view(3, 2).shape]).toEqual([[2, 3], [2, 3], [3, 2]]); // biome-ignore format: three
    expect([t.reshape(1, 6).expand(4, -1).shape, zeros(2, 3, 4).permute(2, 0, 1).shape]).toEqual([[4, 6], [4, 2, 3]]); // biome-ignore format: two
    expect([zeros(2, 3).shape, ones(2, { dtype: "i32" }).dtype, sg.randn(2, 3).shape, t.size(0)]).toEqual([[2, 3], "i32", [2, 3], 6]); // biome-ignore format: four
  });

  test("positions computed on the device: out of range reads 0 and writes nothing; negative counts from the end", async () => {
    const t = tensor([[1, 2], [3, 4], [5, 6]]); // biome-ignore format: a matrix
    const computed = ids(-1, 0, 3, -4, 2).mul(1);
    expect(await t.at(computed).tolist()).toEqual([[5, 6], [1, 2], [0, 0], [0, 0], [5, 6]]); // biome-ignore format: rows
    expect(await t.at(computed, ids(0, 1, 0, 1, 1)).tolist()).toEqual([5, 2, 0, 0, 6]);
    expect(await t.at(ids(0, 1, 0, 1, 1), computed.mul(1)).tolist()).toEqual([2, 3, 0, 0, 0]);
    expect(await t.atSet([computed], 9).tolist()).toEqual([[9, 9], [3, 4], [9, 9]]); // biome-ignore format: rows
    expect(await t.atSet([computed], 1, { accumulate: true }).tolist()).toEqual([[2, 3], [3, 4], [7, 8]]); // biome-ignore format: rows
    const wrong = tensor([[1, 2], [2, 1]], { dtype: "i32" }).mul(1); // biome-ignore format: a matrix
    expect(await t.scatter(1, wrong, tensor([[7, 8], [7, 8]])).tolist()).toEqual([[1, 7], [3, 8], [5, 6]]); // biome-ignore format: rows
    expect(await t.scatterReduce(1, wrong, ones(2, 2).mul(3), "prod").tolist()).toEqual([[1, 6], [3, 12], [5, 6]]); // biome-ignore format: rows
    expect(await sg.oneHot(ids(1, 5).mul(1), 3).tolist()).toEqual([[0, 1, 0], [0, 0, 0]]); // biome-ignore format: rows
  });

  test("of positions that repeat, the last write stays, and its value gets the gradient", async () => {
    const [t, v] = [zeros(3).requiresGrad_(), tensor([1, 2, 3, 4]).requiresGrad_()];
    const y = t.atSet([ids(1, 1, 0, 1)], v);
    y.mul(tensor([10, 20, 30]))
      .sum()
      .backward();
    expect([await y.tolist(), await t.grad!.tolist(), await v.grad!.tolist()]).toEqual([[3, 4, 0], [0, 0, 30], [0, 0, 10, 20]]); // biome-ignore format: three
  });

  test("NaN wins in scattered extrema", async () => {
    const got = tensor([NaN, 1, 2]).scatterReduce(0, ids(0, 1, 2, 2), tensor([5, NaN, 1, 7]), "amax");
    expect(await got.tolist()).toEqual([NaN, NaN, 7]);
  });

  test("a mask that is read indexes; the others need no read", async () => {
    const t = tensor([[1, -2], [-3, 4]]).requiresGrad_(); // biome-ignore format: a matrix
    const mask = t.gt(0);
    expect(await t.atSet([mask], 0).tolist()).toEqual([[0, -2], [-3, 0]]); // biome-ignore format: rows
    expect(await t.maskedScatter(mask, tensor([8, 9])).tolist()).toEqual([[8, -2], [-3, 9]]); // biome-ignore format: rows
    const selected = await t.maskedSelect(mask);
    selected.square().sum().backward();
    expect([await selected.tolist(), await t.grad!.tolist()]).toEqual([[1, 4], [[2, 0], [0, 8]]]); // biome-ignore format: two
    await mask.data();
    expect(await t.at(mask).tolist()).toEqual([1, 4]);
    const [rows, columns] = (await mask.nonzero()).unbind(1);
    expect(await t.at(rows, columns).tolist()).toEqual([1, 4]);
  });

  test("empty tensors", async () => {
    const empty = zeros(0, 3);
    const sums = [empty.sum(), empty.sum(0), empty.sum(1), empty.prod(0), empty.mean()];
    expect(await Promise.all(sums.map((t) => t.tolist()))).toEqual([0, [0, 0, 0], [], [1, 1, 1], NaN]);
    expect(await ones(2, 0).matmul(ones(0, 3)).tolist()).toEqual([[0, 0, 0], [0, 0, 0]]); // biome-ignore format: rows
    expect([empty.matmul(ones(3, 2)).shape, sg.conv2d(zeros(0, 3, 4, 4), ones(2, 3, 3, 3)).shape]).toEqual([[0, 2], [0, 2, 2, 2]]); // biome-ignore format: two
    expect(await sg.cat([empty, ones(1, 3), tensor([])]).tolist()).toEqual([[1, 1, 1]]);
    expect(await sg.cat([ones(1, { dtype: "bool" }), tensor([0.5]), ids(3)]).tolist()).toEqual([1, 0.5, 3]);
    expect(await zeros([0], { dtype: "i32" }).data()).toEqual(new Int32Array(0));
    expect(await empty.logsumexp(0).tolist()).toEqual([-Infinity, -Infinity, -Infinity]);
    expect([ones(4, 3).at([2, 2]).shape, ones(4, 3).at(ids()).shape, ones(2).at(tensor([false, false])).shape]).toEqual([[0, 3], [0, 3], [0]]); // biome-ignore format: three
    expect([(await zeros(2).nonzero()).shape, (await sg.maskedSelect(ones(2), zeros(2).gt(1))).shape]).toEqual([[0, 1], [0]]); // biome-ignore format: two
    expect([await zeros(2, 0).tolist(), await empty.half().data(), ids().dtype]).toEqual([[[], []], new Float32Array(0), "i32"]); // biome-ignore format: three
    expect([sg.rand(0).shape, sg.arange(0).shape, sg.eye(0).shape, sg.randperm(0).shape]).toEqual([[0], [0], [0, 0], [0]]); // biome-ignore format: four
    const w = ones(3, 2).requiresGrad_();
    const loss = empty
      .matmul(w)
      .sum()
      .add(w.at([1, 1]).sum())
      .add(sg.embedding(ids(), w).sum())
      .add(w.gather(0, zeros([0, 2], { dtype: "i32" })).sum());
    loss.backward();
    expect([await loss.item(), await w.grad!.tolist()]).toEqual([0, [[0, 0], [0, 0], [0, 0]]]); // biome-ignore format: two
    const leaf = zeros(0, 3).requiresGrad_();
    sg.cat([leaf, ones(1, 3)])
      .sum()
      .backward();
    expect(leaf.grad!.shape).toEqual([0, 3]);
  });

  test("a batch of nothing has gradients of zeros", async () => {
    const gradsOf = async (f: (...w: sg.Tensor[]) => sg.Tensor, ...shapes: number[][]) => {
      const w = shapes.map((shape) => ones(shape).requiresGrad_());
      f(...w)
        .sum()
        .backward();
      const grads = await Promise.all(w.map((t) => t.grad!.data()));
      return grads.every((g, i) => g.length === w[i].numel && g.every((v) => v === 0));
    };
    expect(await gradsOf((w, b) => sg.layerNorm(zeros(0, 3), w, b), [3], [3])).toBe(true);
    expect(await gradsOf((w) => sg.rmsNorm(zeros(0, 3), w), [3])).toBe(true);
    expect(await gradsOf((w, b) => sg.groupNorm(zeros(0, 4, 2), 2, w, b), [4], [4])).toBe(true);
    expect(await gradsOf((w, b) => sg.linear(zeros(0, 5, 3), w, b), [2, 3], [2])).toBe(true);
    expect(await gradsOf((w, b) => sg.conv2d(zeros(0, 3, 4, 4), w, b), [2, 3, 3, 3], [2])).toBe(true);
    expect(
      await gradsOf((w) => sg.scaledDotProductAttention(w, zeros(1, 2, 0, 4), zeros(1, 2, 0, 4)), [1, 2, 3, 4]),
    ).toBe(true);
    expect(await gradsOf((w) => zeros(0, 3).mul(w).softmax(0), [3])).toBe(true);
  });

  test("long sums at few positions lose no digits", async () => {
    const n = 600_000;
    const tenth = sg.full([n], 0.1);
    const thirds = sg.arange(n).mod(3);
    const w = zeros(5, 2).requiresGrad_();
    const y = sg.embedding(thirds, w).mul(0.1).sum();
    y.backward();
    const sums = [
      zeros(3).indexAdd(0, thirds, tenth),
      zeros(3).scatterAdd(0, thirds, tenth),
      zeros(1, 3).scatterAdd(1, thirds.unsqueeze(0), tenth.unsqueeze(0)),
      zeros(3).atSet([thirds], tenth, { accumulate: true }),
      w.grad!.slice([[0, 3]]),
    ];
    for (const sum of sums)
      for (const v of await sum.data()) expect(Math.abs(v / (Math.fround(0.1) * (n / 3)) - 1)).toBeLessThan(1e-6);
  });

  test("random numbers: ranges, orders, proportions", async () => {
    sg.manualSeed(3);
    const small = await sg.randint(-5, 5, [2000]).data();
    expect([Math.min(...small), Math.max(...small), new Set(small).size]).toEqual([-5, 4, 10]);
    const wide = Array.from(await sg.randint(-(2 ** 31), 2 ** 31, [2000]).data());
    expect(wide.filter((v) => v < 0).length / 2000).toBeCloseTo(0.5, 1);
    expect(wide.every((v) => v >= -(2 ** 31) && v < 2 ** 31)).toBe(true);
    expect(Array.from(await sg.randperm(50).data()).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 50 }, (_, i) => i),
    );
    const drawn = await sg.multinomial(tensor([[0, 1, 3], [2, 0, 0]]), 4000, { replacement: true }).tolist() as number[][]; // biome-ignore format: a matrix
    expect(drawn[0].filter((v) => v === 2).length / 4000).toBeCloseTo(0.75, 1);
    expect([drawn[0].includes(0), new Set(drawn[1])]).toEqual([false, new Set([0])]);
    const first = await Promise.all(Array.from({ length: 300 }, () => sg.multinomial(tensor([1, 0, 3]), 2).tolist()));
    expect(first.every((d) => new Set(d as number[]).size === 2 && !(d as number[]).includes(1))).toBe(true);
    expect(first.filter((d) => (d as number[])[0] === 2).length / 300).toBeCloseTo(0.75, 1);
    const flips = await sg
      .bernoulli(sg.full([4000], 0.3))
      .mean()
      .item();
    expect(flips).toBeCloseTo(0.3, 1);
    const deviations = tensor([1, 2]).requiresGrad_();
    sg.normal(0, deviations).sum().backward();
    expect(deviations.grad!.shape).toEqual([2]);
    expect(await sg.normal(5, 0, [2]).tolist()).toEqual([5, 5]);
  });

  test("linspace and logspace hold both ends", async () => {
    const values = await sg.linspace(0.1, 0.7, 1001).data();
    expect([values[0], values[1000]]).toEqual([Math.fround(0.1), Math.fround(0.7)]);
    expect(await sg.logspace(0, 3, 4).tolist()).toEqual([1, 10, 100, 1000]);
  });

  test("reads and writes at random positions agree with plain loops", async () => {
    const values = uniform(60, -1, 1, 7);
    const t = tensor(values, { shape: [3, 4, 5] });
    const [i, k] = [[2, 0, 1, 2], [4, 4, 0, 2]]; // biome-ignore format: two lists
    const at = (a: number, b: number, c: number) => Math.fround(values[(a * 4 + b) * 5 + c]);
    expect(await t.at(ids(...i), [1, 3], ids(...k)).tolist()).toEqual(
      i.map((a, n) => [at(a, 1, k[n]), at(a, 2, k[n])]),
    );
    const written = (await t.atSet([ids(...i), [1, 3], ids(...k)], 7).data()) as Float32Array;
    const want = values.map(Math.fround);
    i.forEach((a, n) => [1, 2].forEach((b) => (want[(a * 4 + b) * 5 + k[n]] = 7)));
    expect(Array.from(written)).toEqual(want);
  });
});
