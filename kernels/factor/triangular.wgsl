// Solves a X = b for a triangular: substitution, one invocation per column of b.
//
// Golub and Van Loan, Matrix Computations, 4th edition, algorithms 3.1.1 and 3.1.2.
// Shapes: a [matrices, n, n], b and x [matrices, n, columns]. Grid: y * grid_x + x = groups of WG columns of all matrices.
const WG: u32 = 64u; // param: size of the workgroup
const UPPER: u32 = 0u; // param: 1 = a is upper triangular; the other triangle is not read
const UNIT: u32 = 0u; // param: 1 = the diagonal of a counts as 1

struct Dims { matrices: u32, n: u32, columns: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.y * groups.x + group.x) * WG + lane;
  if (at >= dims.matrices * dims.columns) { return; }
  let n = dims.n;
  let matrix = at / dims.columns;
  let column = matrix * n * dims.columns + at % dims.columns;
  let base = matrix * n * n;
  for (var step = 0u; step < n; step++) {
    let i = select(step, n - 1u - step, UPPER == 1u);
    var rest = b[column + i * dims.columns];
    for (var done = 0u; done < step; done++) {
      let j = select(done, n - 1u - done, UPPER == 1u);
      rest -= a[base + i * n + j] * x[column + j * dims.columns];
    }
    if (UNIT == 0u) { rest /= a[base + i * n + i]; }
    x[column + i * dims.columns] = rest;
  }
}
