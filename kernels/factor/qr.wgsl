// QR factorisation by Householder reflections: a = Q R, Q [m, k] with orthonormal columns, R [k, n] upper triangular.
//
// Golub and Van Loan, Matrix Computations, 4th edition, algorithms 5.2.1 and 5.1.5 (reduced form). k = min(m, n).
// One workgroup per matrix. Reflection j is I - tau[j] v vᵀ; v lies in column j of `work`, from row j on, with v[j] = 1.
// Shapes: a and work [matrices, m, n], tau [matrices, k]. Grid: y * grid_x + x = matrix.
const WG: u32 = 64u; // param: size of the workgroup

struct Dims { matrices: u32, m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> q: array<f32>;
@group(0) @binding(3) var<storage, read_write> r: array<f32>;
@group(0) @binding(4) var<storage, read_write> work: array<f32>;
@group(0) @binding(5) var<storage, read_write> tau: array<f32>;

var<workgroup> sums: array<f32, WG>;

/// Sum of one value per invocation, the same for all.
fn total(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  sums[lane] = value;
  workgroupBarrier();
  var sum = 0.0;
  for (var l = 0u; l < WG; l++) { sum += sums[l]; }
  return sum;
}

// shared: matrix from lu
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = group.y * groups.x + group.x;
  let matrix = min(wanted, dims.matrices - 1u);
  let stores = wanted < dims.matrices; // surplus workgroups store nothing, and reach the barriers
// end shared
  let m = dims.m;
  let n = dims.n;
  let k = dims.k;
  let base = matrix * m * n;
  if (stores) {
    for (var i = lane; i < m * n; i += WG) { work[base + i] = a[base + i]; }
  }
  storageBarrier();
  workgroupBarrier();
  for (var j = 0u; j < k; j++) {
    var squares = 0.0;
    for (var i = j + 1u + lane; i < m; i += WG) { squares += work[base + i * n + j] * work[base + i * n + j]; }
    let below = total(lane, squares);
    let head = work[base + j * n + j];
    let length = sqrt(head * head + below);
    let reflects = below > 0.0;
    let diagonal = select(head, select(-length, length, head < 0.0), reflects);
    let factor = select(0.0, (diagonal - head) / diagonal, reflects);
    storageBarrier(); // all have read the column before it changes
    workgroupBarrier();
    if (stores && reflects) {
      for (var i = j + 1u + lane; i < m; i += WG) { work[base + i * n + j] /= head - diagonal; }
    }
    if (stores && lane == 0u) {
      work[base + j * n + j] = diagonal;
      tau[matrix * k + j] = factor;
    }
    storageBarrier();
    workgroupBarrier();
    if (stores) {
      for (var c = j + 1u + lane; c < n; c += WG) {
        var dot = work[base + j * n + c];
        for (var i = j + 1u; i < m; i++) { dot += work[base + i * n + j] * work[base + i * n + c]; }
        dot *= factor;
        work[base + j * n + c] -= dot;
        for (var i = j + 1u; i < m; i++) { work[base + i * n + c] -= dot * work[base + i * n + j]; }
      }
    }
    storageBarrier();
    workgroupBarrier();
  }
  if (!stores) { return; }
  for (var i = lane; i < k * n; i += WG) { r[matrix * k * n + i] = select(0.0, work[base + i], i % n >= i / n); }
  // Q = H0 H1 … applied to the first k columns of I: each invocation has columns of its own.
  for (var c = lane; c < k; c += WG) {
    let column = matrix * m * k + c;
    for (var i = 0u; i < m; i++) { q[column + i * k] = select(0.0, 1.0, i == c); }
    for (var back = 0u; back < k; back++) {
      let j = k - 1u - back;
      var dot = q[column + j * k];
      for (var i = j + 1u; i < m; i++) { dot += work[base + i * n + j] * q[column + i * k]; }
      dot *= tau[matrix * k + j];
      q[column + j * k] -= dot;
      for (var i = j + 1u; i < m; i++) { q[column + i * k] -= dot * work[base + i * n + j]; }
    }
  }
}
