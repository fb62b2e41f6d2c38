// out[o, id, i] = x[o, id, i] + sum of source[o, n, i] over the positions n of id, in ascending order, for x and out
// [outer, size, inner] and source [outer, count, inner]: the gradient of an embedding. One lane per vector of out; the
// lists of positions come from index_links.wgsl.
const WG: u32 = 64u; // param
alias V = f32; // param: also i32, u32, or a vec4 of them when inner is a multiple of 4

struct Dims { outer: u32, size: u32, count: u32, inner: u32 } // inner in vectors

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> source: array<V>;
@group(0) @binding(3) var<storage, read> head: array<u32>; // [size]
@group(0) @binding(4) var<storage, read> next: array<u32>; // [count]
@group(0) @binding(5) var<storage, read_write> out: array<V>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = (group.y * groups.x + group.x) * WG + lane;
  if (at >= dims.outer * dims.size * dims.inner) { return; }
  let row = at / dims.inner;
  let base = row / dims.size * dims.count * dims.inner + at % dims.inner;
  var sum = x[at];
  for (var n = head[row % dims.size]; n < dims.count; n = next[n]) { sum += source[base + n * dims.inner]; }
  out[at] = sum;
}
