// Cholesky factor: a = L Lᵀ, L lower triangular. Reads the lower triangle of a. NaN where a is not positive definite.
//
// Golub and Van Loan, Matrix Computations, 4th edition, algorithm 4.2.1 by columns. One workgroup per matrix.
// Shapes: a and l [matrices, n, n]. Grid: y * grid_x + x = matrix.
const WG: u32 = 64u; // param: size of the workgroup

struct Dims { matrices: u32, n: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> l: array<f32>;

// shared: matrix from lu
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = group.y * groups.x + group.x;
  let matrix = min(wanted, dims.matrices - 1u);
  let stores = wanted < dims.matrices; // surplus workgroups store nothing, and reach the barriers
// end shared
  let n = dims.n;
  let base = matrix * n * n;
  if (stores) {
    for (var i = lane; i < n * n; i += WG) { l[base + i] = select(0.0, a[base + i], i % n <= i / n); }
  }
  storageBarrier();
  workgroupBarrier();
  for (var k = 0u; k < n; k++) {
    let diagonal = sqrt(l[base + k * n + k]);
    storageBarrier(); // all have read it before the first invocation stores it
    workgroupBarrier();
    if (stores) {
      if (lane == 0u) { l[base + k * n + k] = diagonal; }
      for (var i = k + 1u + lane; i < n; i += WG) { l[base + i * n + k] /= diagonal; }
    }
    storageBarrier();
    workgroupBarrier();
    if (stores) {
      for (var i = k + 1u + lane; i < n; i += WG) {
        let factor = l[base + i * n + k];
        for (var j = k + 1u; j <= i; j++) { l[base + i * n + j] -= factor * l[base + j * n + k]; }
      }
    }
    storageBarrier();
    workgroupBarrier();
  }
}
