// LU factorisation with partial pivoting: row perm[i] of a is row i of L U. L has a unit diagonal and lies below that of U.
//
// Golub and Van Loan, Matrix Computations, 4th edition, algorithm 3.4.1. One workgroup per matrix, in the output buffer.
// Shapes: a and lu [matrices, n, n], perm [matrices, n], sign [matrices] (1 or -1 by the parity of the exchanges).
// Grid: y * grid_x + x = matrix.
const WG: u32 = 64u; // param: size of the workgroup

struct Dims { matrices: u32, n: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> lu: array<f32>;
@group(0) @binding(3) var<storage, read_write> perm: array<i32>;
@group(0) @binding(4) var<storage, read_write> sign_of: array<f32>;

var<workgroup> best: array<f32, WG>;
var<workgroup> best_row: array<u32, WG>;

// shared: matrix
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = group.y * groups.x + group.x;
  let matrix = min(wanted, dims.matrices - 1u);
  let stores = wanted < dims.matrices; // surplus workgroups store nothing, and reach the barriers
// end shared
  let n = dims.n;
  let base = matrix * n * n;
  if (stores) {
    for (var i = lane; i < n * n; i += WG) { lu[base + i] = a[base + i]; }
    for (var i = lane; i < n; i += WG) { perm[matrix * n + i] = i32(i); }
  }
  var parity = 1.0;
  storageBarrier();
  workgroupBarrier();
  for (var k = 0u; k < n; k++) {
    var size = -1.0;
    var row = k;
    for (var i = k + lane; i < n; i += WG) {
      let here = abs(lu[base + i * n + k]);
      if (here > size) { size = here; row = i; }
    }
    best[lane] = size;
    best_row[lane] = row;
    workgroupBarrier();
    // Every invocation compares all candidates in the same order: the first of equal rows is the pivot.
    var pivot = k;
    var largest = -1.0;
    for (var l = 0u; l < WG; l++) {
      let better = best[l] > largest || (best[l] == largest && best_row[l] < pivot);
      if (better) { largest = best[l]; pivot = best_row[l]; }
    }
    if (pivot != k) { parity = -parity; }
    if (stores && pivot != k) {
      for (var j = lane; j < n; j += WG) {
        let other = lu[base + pivot * n + j];
        lu[base + pivot * n + j] = lu[base + k * n + j];
        lu[base + k * n + j] = other;
      }
      if (lane == 0u) {
        let other = perm[matrix * n + pivot];
        perm[matrix * n + pivot] = perm[matrix * n + k];
        perm[matrix * n + k] = other;
      }
    }
    storageBarrier();
    workgroupBarrier();
    let diagonal = lu[base + k * n + k];
    if (stores && diagonal != 0.0) {
      for (var i = k + 1u + lane; i < n; i += WG) {
        let factor = lu[base + i * n + k] / diagonal;
        lu[base + i * n + k] = factor;
        for (var j = k + 1u; j < n; j++) { lu[base + i * n + j] -= factor * lu[base + k * n + j]; }
      }
    }
    storageBarrier();
    workgroupBarrier();
  }
  if (stores && lane == 0u) { sign_of[matrix] = parity; }
}
