// C = A B, step 4: register tiles. An invocation holds 4 x 4 sums; 8 x 8 invocations share tiles in workgroup memory.
//
// Grid: ceil(N / 32) x ceil(M / 32).
// Five loads from workgroup memory serve sixteen products: the shape on which GPU kernels converge.

// shared: dims from matmul_1_naive
struct Dims {
  M: u32, N: u32, K: u32,
  a_row: u32, b_row: u32, c_row: u32, // row strides in elements, multiples of 4; A and B have zeros up to them
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;

const DEPTH: u32 = 16u; // k per tile
var<workgroup> a_tile: array<f32, 32 * DEPTH>;
var<workgroup> b_tile: array<vec4f, DEPTH * 8>;

@compute @workgroup_size(8, 8)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(local_invocation_id) lane: vec3u,
  @builtin(local_invocation_index) index: u32,
) {
  let row = group.y * 32u;
  let column = group.x * 8u; // in vec4f
  var sums = array<vec4f, 4>();
  for (var base = 0u; base < dims.K; base += DEPTH) {
    for (var i = index; i < 128u; i += 64u) {
      let m = min(row + i / 4u, dims.M - 1u);
      let k = base + i % 4u * 4u;
      let v = select(vec4f(), a[(m * dims.a_row + k) / 4u], k < dims.K);
      for (var j = 0u; j < 4u; j++) { a_tile[i / 4u * DEPTH + i % 4u * 4u + j] = v[j]; }
      let k_b = base + i / 8u;
      let n = min(column + i % 8u, dims.b_row / 4u - 1u);
      b_tile[i] = select(vec4f(), b[k_b * dims.b_row / 4u + n], k_b < dims.K);
    }
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k++) {
      let v = b_tile[k * 8u + lane.x];
      for (var r = 0u; r < 4u; r++) { sums[r] += a_tile[(lane.y * 4u + r) * DEPTH + k] * v; }
    }
    workgroupBarrier();
  }
  for (var r = 0u; r < 4u; r++) {
    let m = row + lane.y * 4u + r;
    if (m < dims.M && (column + lane.x) * 4u < dims.N) { c[m * dims.c_row / 4u + column + lane.x] = sums[r]; }
  }
}
