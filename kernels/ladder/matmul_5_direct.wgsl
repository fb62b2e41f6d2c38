// C = A B, step 5: register tiles directly from storage. No workgroup memory, no barrier.
//
// Grid: ceil(N / 32) x ceil(M / 32). Caches replace the tile. Eight vec4f loads serve 64 multiply-adds.

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

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let n = min(id.x, dims.b_row / 4u - 1u);
  var sums = array<vec4f, 4>();
  for (var k = 0u; k < dims.K; k += 4u) {
    var va = array<vec4f, 4>();
    for (var r = 0u; r < 4u; r++) { va[r] = a[(min(id.y * 4u + r, dims.M - 1u) * dims.a_row + k) / 4u]; }
    var vb = array<vec4f, 4>();
    for (var j = 0u; j < 4u; j++) { vb[j] = b[(k + j) * dims.b_row / 4u + n]; } // B has zeros past K
    for (var r = 0u; r < 4u; r++) {
      sums[r] += va[r].x * vb[0] + va[r].y * vb[1] + va[r].z * vb[2] + va[r].w * vb[3];
    }
  }
  for (var r = 0u; r < 4u; r++) {
    let m = id.y * 4u + r;
    if (m < dims.M && id.x * 4u < dims.N) { c[m * dims.c_row / 4u + id.x] = sums[r]; }
  }
}
