// C = A B, step 3: the textbook tile. 16 x 16 invocations share a tile of A and one of B in workgroup memory.
//
// Grid: ceil(N / 16) x ceil(M / 16).
// Each value is loaded from storage once per tile instead of once per invocation, at the price of two barriers per tile.

// shared: dims from matmul_1_naive
struct Dims {
  M: u32, N: u32, K: u32,
  a_row: u32, b_row: u32, c_row: u32, // row strides in elements, multiples of 4; A and B have zeros up to them
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

const TILE: u32 = 16u;
var<workgroup> a_tile: array<f32, TILE * TILE>;
var<workgroup> b_tile: array<f32, TILE * TILE>;

@compute @workgroup_size(TILE, TILE)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let at = lane.y * TILE + lane.x;
  var sum = 0.0;
  for (var base = 0u; base < dims.K; base += TILE) {
    let k_a = base + lane.x;
    let k_b = base + lane.y;
    a_tile[at] = select(0.0, a[id.y * dims.a_row + k_a], k_a < dims.K && id.y < dims.M);
    b_tile[at] = select(0.0, b[k_b * dims.b_row + id.x], k_b < dims.K && id.x < dims.N);
    workgroupBarrier();
    for (var k = 0u; k < TILE; k++) {
      sum += a_tile[lane.y * TILE + k] * b_tile[k * TILE + lane.x];
    }
    workgroupBarrier();
  }
  if (id.x < dims.N && id.y < dims.M) { c[id.y * dims.c_row + id.x] = sum; }
}
