// C = A B, step 2: an invocation computes four columns, so that one load of A serves four products.
//
// Grid: ceil(N / 32) x ceil(M / 8).

// shared: dims from matmul_1_naive
struct Dims {
  M: u32, N: u32, K: u32,
  a_row: u32, b_row: u32, c_row: u32, // row strides in elements, multiples of 4; A and B have zeros up to them
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x * 4u >= dims.N || id.y >= dims.M) { return; }
  var sum = vec4f();
  for (var k = 0u; k < dims.K; k++) {
    sum += a[id.y * dims.a_row + k] * b[k * dims.b_row / 4u + id.x];
  }
  c[id.y * dims.c_row / 4u + id.x] = sum;
}
