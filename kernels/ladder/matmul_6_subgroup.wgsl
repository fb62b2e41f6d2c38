// C = A B, step 6: the subgroup as the vector unit. It loads values of A once and broadcasts them by shuffles.
//
// Grid: ceil(N / (4 SG)) x ceil(M / TM). A subgroup computes up to 8 rows x 4 SG columns; lane r loads four k of row r.
enable subgroups;

const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const TM: u32 = min(SG, 8u); // rows of a tile

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

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = group.y * TM;
  let column = group.x * SG + lane;
  let n = min(column, dims.b_row / 4u - 1u);
  let m = min(row + lane % TM, dims.M - 1u);
  var sums = array<vec4f, TM>();
  for (var k = 0u; k < dims.K; k += 4u) {
    let va = a[(m * dims.a_row + k) / 4u];
    var vb = array<vec4f, 4>();
    for (var j = 0u; j < 4u; j++) { vb[j] = b[(k + j) * dims.b_row / 4u + n]; }
    for (var r = 0u; r < TM; r++) {
      let v = subgroupShuffle(va, r);
      sums[r] += v.x * vb[0] + v.y * vb[1] + v.z * vb[2] + v.w * vb[3];
    }
  }
  for (var r = 0u; r < TM; r++) {
    if (row + r < dims.M && column * 4u < dims.N) { c[(row + r) * dims.c_row / 4u + column] = sums[r]; }
  }
}
