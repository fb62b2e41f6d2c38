import { expect, test } from "vitest";
import type { Candidate } from "../../src/compile/lower.ts";
import { Node } from "../../src/node.ts";
import { defineOp } from "../../src/ops/define.ts";
import { hashOf, keyOf, type TunedEntry, Tuner } from "../../src/runtime/tune.ts";

const leaf = defineOp({ name: "tune_test_leaf", kind: "leaf", reference: () => [] });
const node = new Node(leaf, [], {}, [1], "f32");
const candidates: Candidate[] = [{ rows: 16 }, { rows: 8 }];
const signature = { M: 100, layout: "row" };
const key = keyOf(node, "matmul", signature);
const entry = (change: Partial<TunedEntry> = {}): TunedEntry => ({
  pick: { rows: 8 },
  kernels: ["matmul"],
  hash: hashOf(["matmul"]),
  ms: [1, 2],
  ...change,
});
const choose = (e?: TunedEntry) =>
  new Tuner(new Map(e ? [[key, e]] : [])).choose(node, "matmul", signature, candidates);

test("without a measurement the heuristic's choice stands, with one the measured pick", () => {
  expect(choose()).toEqual({ rows: 16 });
  expect(choose(entry())).toEqual({ rows: 8 });
});

test("a measurement of another kernel text, or of a candidate no longer offered, is ignored", () => {
  expect(choose(entry({ hash: "00000000" }))).toEqual({ rows: 16 });
  expect(choose(entry({ pick: { rows: 4 } }))).toEqual({ rows: 16 });
});

test("sizes within a power of two share an answer; words and dtypes do not", () => {
  expect(keyOf(node, "matmul", { M: 128, layout: "row" })).toBe(key);
  expect(keyOf(node, "matmul", { M: 129, layout: "row" })).not.toBe(key);
  expect(keyOf(node, "matmul", { M: 100, layout: "column" })).not.toBe(key);
  expect(keyOf(new Node(leaf, [], {}, [1], "f16"), "matmul", signature)).not.toBe(key);
});

test("open questions are kept when asked to, and a template offers at most twelve candidates", () => {
  const tuner = new Tuner();
  tuner.choose(node, "matmul", signature, candidates);
  expect(tuner.open.size).toBe(0);
  tuner.asking = true;
  tuner.choose(node, "matmul", signature, candidates);
  expect([...tuner.open.keys()]).toEqual([key]);
  const many = Array.from({ length: 13 }, (_, rows) => ({ rows }));
  expect(() => tuner.choose(node, "matmul", signature, many)).toThrow(/13 candidates/);
});
