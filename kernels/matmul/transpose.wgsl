// Transposed copy of a matrix, in f32 whatever format it is stored in: y[batch, r, c] = x[batch, r, c], with x contiguous
// along r and y along c.
//
// Paper: packing of GotoBLAS (Goto and van de Geijn 2008): matmul.wgsl then reads the operand along its lanes.
// Shapes: y [batch, R, C], contiguous; x[batch, r, c] at x_offset + batch strides + r + c * x_c, in elements. R, C and all
//   strides are multiples of 4.
// Grid: (C / 4 / WG, R / 4 / STEPS, batches). An invocation transposes STEPS blocks of 4 x 4, one below the other in y:
//   together they use whole cache lines of x.
const WG: u32 = 64u; // param: size of the workgroup
const BATCHED: bool = true; // param: false if the grid's z is 1
const STEPS: u32 = 4u; // param: blocks per invocation
alias X = vec4f; // param: element type of `x`

struct Dims {
  R: u32, C: u32, x_offset: u32, x_c: u32,
  size_1: u32, size_2: u32, x_0: u32, x_1: u32, x_2: u32, // batch = (i0 * size_1 + i1) * size_2 + i2
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

// Four elements from `at` on. Lowerings put formats here (halves), the compiler prologues.
fn x_4(at: u32) -> vec4f { // hook
  return vec4f(x[at / 4u]);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let R = dims.R / 4u;
  let C = dims.C / 4u;
  if (id.x >= C) { return; }
  var at = dims.x_offset + id.x * 4u * dims.x_c;
  if (BATCHED) {
    at += id.z / dims.size_2 / dims.size_1 * dims.x_0 + id.z / dims.size_2 % dims.size_1 * dims.x_1 + id.z % dims.size_2 * dims.x_2;
  }
  for (var r = id.y * STEPS; r < min(id.y * STEPS + STEPS, R); r++) {
    let v = at + r * 4u + vec4u(0u, 1u, 2u, 3u) * dims.x_c;
    let m = transpose(mat4x4f(x_4(v.x), x_4(v.y), x_4(v.z), x_4(v.w)));
    let to = (id.z * R + r) * 4u * C + id.x;
    y[to] = m[0];
    y[to + C] = m[1];
    y[to + 2u * C] = m[2];
    y[to + 3u * C] = m[3];
  }
}
