// Singular vectors: us = a V with orthogonal columns, V orthogonal. The singular values are the lengths of the columns of us.
//
// One-sided Jacobi rotations, Hestenes 1958. One workgroup per matrix; m >= n.
// Shapes: a and us [matrices, m, n], v [matrices, n, n]. Grid: y * grid_x + x = matrix.
const WG: u32 = 64u; // param: size of the workgroup

struct Dims { matrices: u32, m: u32, n: u32, sweeps: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> us: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;

var<workgroup> dots: array<vec3f, WG>;

// shared: rotation from eigh
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
  let m = dims.m;
  let n = dims.n;
  let base = matrix * m * n;
  let vbase = matrix * n * n;
  if (stores) {
    for (var i = lane; i < m * n; i += WG) { us[base + i] = a[base + i]; }
    for (var i = lane; i < n * n; i += WG) { v[vbase + i] = select(0.0, 1.0, i / n == i % n); }
  }
  storageBarrier();
  workgroupBarrier();
  for (var sweep = 0u; sweep < dims.sweeps; sweep++) {
    for (var p = 0u; p + 1u < n; p++) {
      for (var q = p + 1u; q < n; q++) {
        var dot = vec3f();
        for (var i = lane; i < m; i += WG) {
          let x = us[base + i * n + p];
          let y = us[base + i * n + q];
          dot += vec3f(x * x, y * y, x * y);
        }
        dots[lane] = dot;
        workgroupBarrier();
        var sum = vec3f();
        for (var l = 0u; l < WG; l++) { sum += dots[l]; }
        var cs = vec2f(1.0, 0.0); // cosine and sine
        if (abs(sum.z) > 1e-9 * sqrt(sum.x) * sqrt(sum.y)) { cs = rotation((sum.y - sum.x) / (2.0 * sum.z)); }
        storageBarrier();
        workgroupBarrier();
        if (stores && cs.y != 0.0) {
          for (var i = lane; i < m; i += WG) {
            let x = us[base + i * n + p];
            let y = us[base + i * n + q];
            us[base + i * n + p] = cs.x * x - cs.y * y;
            us[base + i * n + q] = cs.y * x + cs.x * y;
          }
          for (var i = lane; i < n; i += WG) {
            let x = v[vbase + i * n + p];
            let y = v[vbase + i * n + q];
            v[vbase + i * n + p] = cs.x * x - cs.y * y;
            v[vbase + i * n + q] = cs.y * x + cs.x * y;
          }
        }
        storageBarrier();
        workgroupBarrier();
      }
    }
  }
}
