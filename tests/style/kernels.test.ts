import { describe, expect, test } from "vitest";
import { pipeline, refusal } from "../kernels/harness.ts";
import { list, read } from "./files.ts";
import { uninitialisedLoopVariables } from "./wgsl-lint.ts";

const kernels = list("kernels", /\.wgsl$/);

test("there are kernels to check", () => {
  expect(kernels.length).toBeGreaterThan(5);
});

describe.each(kernels)("%s", (path) => {
  test("compiles as it is", async () => {
    const code = read(path);
    if (code.includes("_subgroup_matrix;")) expect(await refusal(code)).toBeUndefined();
    else await pipeline(code);
  });

  test("initialises every variable of its loops", () => {
    expect(uninitialisedLoopVariables(read(path))).toEqual([]);
  });

  test("begins with what it computes", () => {
    expect(read(path).split("\n")[0]).toMatch(/^\/\/ \S.{19,}/);
  });
});

describe("the loop lint", () => {
  test("finds a variable without initialiser in each kind of loop, also nested", () => {
    expect(uninitialisedLoopVariables("fn f() {\n for (var i = 0u; i < 4u; i++) {\n  var x: f32;\n }\n}")).toEqual([3]);
    expect(uninitialisedLoopVariables("fn f() { while (a) { if (b) {\n var x: vec4f; } } }")).toEqual([2]);
    expect(uninitialisedLoopVariables("fn f() { loop {\n var x : array<f32, 4>\n; break; } }")).toEqual([2]);
    expect(uninitialisedLoopVariables("fn f() { for (var i: u32; i < 4u; i++) { } }")).toEqual([1]);
  });

  test("accepts initialised ones, others outside of loops, and comments", () => {
    expect(
      uninitialisedLoopVariables("fn f() { var x: f32; for (var i = 0u; i < 4u; i++) { var y = f32(i); } }"),
    ).toEqual([]);
    expect(uninitialisedLoopVariables("fn f() { loop { break; }\n { var x: f32; } }")).toEqual([]);
    expect(uninitialisedLoopVariables("fn f() { loop { // var x: f32;\n /* var y: f32; */ break; } }")).toEqual([]);
    expect(uninitialisedLoopVariables("var<private> p: f32;\nfn f() { loop { var x: f32 = 1.0; break; } }")).toEqual(
      [],
    );
  });
});
