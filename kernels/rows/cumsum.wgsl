// Running sum over the last dim: y[row, c] = sum of x[row, 0 … c].
//
// Paper: Hillis and Steele 1986. LANES invocations share a row, each with a stretch of columns. They sum their stretches,
// scan the totals in workgroup memory, and go over the stretch again.
// Shapes: x and y [rows, cols]. Grid: y * grid_x + x = groups of WG / LANES rows.
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per row, a power of two that divides WG
const BLOCK: u32 = 64u; // param: columns that are added up before they join the sum
alias T = f32; // param: also i32, u32

struct Dims { rows: u32, cols: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

var<workgroup> scratch: array<T, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus invocations repeat the last row: all must reach the barriers
  let part = lane % LANES;
  let stretch = (dims.cols + LANES - 1u) / LANES;
  let begin = row * dims.cols + min(part * stretch, dims.cols);
  let end = select(begin, row * dims.cols + min((part + 1u) * stretch, dims.cols), wanted == row);
  var carry = T();
  if (LANES > 1u) {
    var sum = T();
    for (var block = begin; block < end; block += BLOCK) {
      var inner = T();
      for (var at = block; at < min(block + BLOCK, end); at++) { inner += x[at]; }
      sum += inner;
    }
    scratch[lane] = sum;
    for (var s = 1u; s < LANES; s *= 2u) {
      workgroupBarrier();
      var before = T();
      if (part >= s) { before = scratch[lane - s]; }
      workgroupBarrier();
      scratch[lane] += before;
    }
    workgroupBarrier();
    if (part > 0u) { carry = scratch[lane - 1u]; }
  }
  for (var block = begin; block < end; block += BLOCK) {
    var inner = T();
    for (var at = block; at < min(block + BLOCK, end); at++) {
      inner += x[at];
      y[at] = carry + inner;
    }
    carry += inner;
  }
}
