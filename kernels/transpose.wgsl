// y = a matrix turned, in f32 whatever it is stored in: y [batch, R, C] from x, which is contiguous along R and read four
// values at a time. Packing an operand this way lets matmul.wgsl read it along its lanes (GotoBLAS [Goto and van de Geijn 2008]).
//
// x[batch, r, c] is at x_offset + batch strides + r + c * x_c, in elements, all multiples of 4, as is R.
// One lane per column of four rows, grid: (C / WG, R / 4, batches).
const WG: u32 = 64u; // param
const BATCHED: bool = true; // param: false when the grid's z is 1
alias X = vec4f; // param: what x_4 reads

struct Dims {
  C: u32, x_offset: u32, x_c: u32,
  size_1: u32, size_2: u32, x_0: u32, x_1: u32, x_2: u32, // batch = (i0 * size_1 + i1) * size_2 + i2
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// Four elements from `at` on. Lowerings replace this to read halves.
fn x_4(at: u32) -> vec4f { // hook
  return vec4f(x[at / 4u]);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let C = dims.C;
  if (id.x >= C) { return; }
  var at = dims.x_offset + id.y * 4u + id.x * dims.x_c;
  if (BATCHED) {
    at += id.z / dims.size_2 / dims.size_1 * dims.x_0 + id.z / dims.size_2 % dims.size_1 * dims.x_1 + id.z % dims.size_2 * dims.x_2;
  }
  let v = x_4(at);
  let to = (id.z * groups.y + id.y) * 4u * C + id.x;
  y[to] = v.x;
  y[to + C] = v.y;
  y[to + 2u * C] = v.z;
  y[to + 3u * C] = v.w;
}
