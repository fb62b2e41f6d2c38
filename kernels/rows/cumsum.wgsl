// Running sum over the last dim of x [rows, cols]. LANES lanes share a row, each with its own stretch of columns: they sum
// their stretches, scan the totals in workgroup memory [Hillis and Steele 1986], and run over the stretch again.
const WG: u32 = 64u; // param: lanes of a workgroup
const LANES: u32 = 64u; // param: lanes per row, a power of two that divides WG
const BLOCK: u32 = 64u; // param
alias T = f32; // param: also i32, u32

struct Dims { rows: u32, cols: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;

var<workgroup> scratch: array<T, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus lanes must reach the barriers
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
