import { describe, expect, test } from "vitest";
import { bindings, declarations, specialize } from "../../src/compile/codegen/template.ts";
import { download, prepare, submit, upload } from "./harness.ts";

const code = `struct Dims { n: u32 }
const WG: u32 = 8u; // param
const SCALE: f32 = 1.0; // param
const ON: bool = true; // param
alias T = f32; // param
@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

fn epilogue(value: f32, i: u32) -> f32 { // hook
  return value;
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < dims.n) { y[id.x] = epilogue(x[id.x] * SCALE, id.x); }
}
`;

describe("template", () => {
  test("lists bindings, params and hooks", () => {
    expect(bindings(code).map((b) => `${b.index}${b.name}:${b.kind}`)).toEqual([
      "0dims:uniform",
      "1x:read",
      "2y:read_write",
    ]);
    const { params, hooks } = declarations(code);
    expect([...params.keys()]).toEqual(["WG", "SCALE", "ON", "T"]);
    expect([...hooks]).toEqual(["epilogue"]);
  });

  test("refuses unknown names and wrong types", () => {
    expect(() => specialize(code, { params: { TILE: 4 } })).toThrow(/no param TILE; it has WG, SCALE, ON, T/);
    expect(() => specialize(code, { hooks: { load: "return 1;" } })).toThrow(/no hook load; it has epilogue/);
    expect(() => specialize(code, { params: { WG: 1.5 } })).toThrow(/WG: u32/);
    expect(() => specialize(code, { params: { WG: -1 } })).toThrow(/WG: u32/);
    expect(() => specialize(code, { params: { SCALE: NaN } })).toThrow(/SCALE: f32/);
    expect(() => specialize(code, { params: { T: "f32; fn x() {}" } })).toThrow(/T: alias/);
  });

  test("keeps no values of one call for the next, and reports a mistake each time", () => {
    const file = "const N: u32 = 1u; // param\nalias T = f32; // param\n";
    expect(specialize(file, { params: { N: 2 } })).toContain("const N: u32 = 2u;");
    expect(specialize(file, { params: { T: "u32" } })).toBe("const N: u32 = 1u; // param\nalias T = u32;\n");
    const gap = "@group(0) @binding(1) var<uniform> dims: vec4u;";
    for (let i = 0; i < 2; i++) {
      expect(() => specialize(file, { params: { N: -1 } })).toThrow(/param N: u32 does not hold -1/);
      expect(() => bindings(gap)).toThrow(/binding 0 is missing/);
    }
  });

  test("changes nothing when nothing is given", () => {
    expect(specialize(code, {})).toBe(code);
  });

  test("runs with params, a hook, an extra buffer and a helper", async () => {
    const made = specialize(code, {
      params: { WG: 4, SCALE: 2.5 },
      hooks: { epilogue: "  return add(value, bias[i]);" },
      extraBindings: ["var<storage, read> bias: array<f32>"],
      helpers: "fn add(a: f32, b: f32) -> f32 { return a + b; }",
    });
    const x = await upload(Float32Array.of(1, 2, 3, 4, 5));
    const y = await upload(5);
    const bias = await upload(Float32Array.of(10, 20, 30, 40, 50));
    await submit([await prepare(made, [5], [x, y, bias], [2, 1, 1])]);
    expect([...(await download(y, new Float32Array(5)))]).toEqual([12.5, 25, 37.5, 50, 62.5]);
  });
});
