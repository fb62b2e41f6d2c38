// Sum of partial results over their first dim, in ascending order, so that it does not depend on timing: the second half of
// split-K products (matmul.wgsl) and of column sums (norm_backward.wgsl).
//
// Shapes: parts [parts, count], c [count]. Grid: y * grid_x + x = groups of WG vectors of c, one per invocation.
const WG: u32 = 64u; // param: size of the workgroup
const WIDTH: u32 = 1u; // param: elements of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f if rows are multiples of 4

struct Dims { parts: u32, count: u32 } // count: vectors of c

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> parts: array<V>; // [parts, count]
@group(0) @binding(2) var<storage, read_write> c: array<V>; // [count]

// The sum at `i` = 0, 0, first element, with the elementwise ops that follow.
fn epilogue(value: V, i: vec3u) -> V { // hook
  return value;
}
// Stores the sum. May store halves.
fn store(at: u32, value: V) { // hook
  c[at] = value;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.y * groups.x + group.x) * WG + lane;
  if (at >= dims.count) { return; }
  var sum = V();
  for (var s = 0u; s < dims.parts; s++) { sum += parts[s * dims.count + at]; }
  store(at, epilogue(sum, vec3u(0u, 0u, at * WIDTH)));
}
