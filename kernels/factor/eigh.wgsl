// Eigenvalues and eigenvectors of symmetric matrices: a = V diag(w) Vᵀ, in no order. Cyclic Jacobi rotations.
//
// Golub and Van Loan, Matrix Computations, 4th edition, algorithm 8.5.3. One workgroup per matrix.
// Shapes: a, work and v [matrices, n, n], w [matrices, n]. Grid: y * grid_x + x = matrix.
const WG: u32 = 64u; // param: size of the workgroup

struct Dims { matrices: u32, n: u32, sweeps: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> work: array<f32>;

// shared: rotation
/// Cosine and sine of the smaller rotation with cot(2 angle) = theta.
fn rotation(theta: f32) -> vec2f {
  let t = select(1.0, -1.0, theta < 0.0) / (abs(theta) + sqrt(1.0 + theta * theta));
  let c = inverseSqrt(1.0 + t * t);
  return vec2f(c, t * c);
}
// end shared

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
    // The lower triangle counts, as in LAPACK's default.
    for (var i = lane; i < n * n; i += WG) {
      let row = i / n;
      let column = i % n;
      work[base + i] = a[base + max(row, column) * n + min(row, column)];
      v[base + i] = select(0.0, 1.0, row == column);
    }
  }
  storageBarrier();
  workgroupBarrier();
  for (var sweep = 0u; sweep < dims.sweeps; sweep++) {
    for (var p = 0u; p + 1u < n; p++) {
      for (var q = p + 1u; q < n; q++) {
        let app = work[base + p * n + p];
        let aqq = work[base + q * n + q];
        let apq = work[base + p * n + q];
        var cs = vec2f(1.0, 0.0); // cosine and sine
        if (abs(apq) > 1e-38) { cs = rotation((aqq - app) / (2.0 * apq)); }
        storageBarrier();
        workgroupBarrier();
        if (stores && cs.y != 0.0) {
          for (var i = lane; i < n; i += WG) {
            let x = work[base + i * n + p];
            let y = work[base + i * n + q];
            work[base + i * n + p] = cs.x * x - cs.y * y;
            work[base + i * n + q] = cs.y * x + cs.x * y;
            let vx = v[base + i * n + p];
            let vy = v[base + i * n + q];
            v[base + i * n + p] = cs.x * vx - cs.y * vy;
            v[base + i * n + q] = cs.y * vx + cs.x * vy;
          }
        }
        storageBarrier();
        workgroupBarrier();
        if (stores && cs.y != 0.0) {
          for (var i = lane; i < n; i += WG) {
            let x = work[base + p * n + i];
            let y = work[base + q * n + i];
            work[base + p * n + i] = cs.x * x - cs.y * y;
            work[base + q * n + i] = cs.y * x + cs.x * y;
          }
        }
        storageBarrier();
        workgroupBarrier();
      }
    }
  }
  if (!stores) { return; }
  for (var i = lane; i < n; i += WG) { w[matrix * n + i] = work[base + i * n + i]; }
}
