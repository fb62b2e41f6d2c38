// out = x with rows of source added, as in index_add.wgsl, for software adapters: a lane owns a vector of columns and adds
// position by position, which takes neither lists nor atomics. Two dispatches: the first, with count 0, fills out with x.
// Ids out of range are left out.
const WG: u32 = 8u; // param
const ZERO: bool = false; // param: x is zero and not read
alias V = f32; // param: also i32, u32, or a vec4 of them when inner is a multiple of 4

struct Dims { lanes: u32, stretch: u32, count: u32, inner: u32, size: u32 } // lanes and inner in vectors

@group(0) @binding(0) var<uniform> dims: Dims; // lanes: all vectors of out, then outer * inner
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> source: array<V>;
@group(0) @binding(4) var<storage, read_write> out: array<V>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = (group.y * groups.x + group.x) * dims.stretch;
  let end = min(start + dims.stretch, dims.lanes);
  for (var i = start + lane; i < end; i += WG) {
    if (dims.count == 0u) {
      var v = V();
      if (!ZERO) { v = x[i]; }
      out[i] = v;
    } else {
      let others = i / dims.inner * dims.inner; // vectors of the outer positions before
      for (var n = 0u; n < dims.count; n++) {
        let id = ids[n];
        if (id < dims.size) { out[others * (dims.size - 1u) + id * dims.inner + i] += source[others * (dims.count - 1u) + n * dims.inner + i]; }
      }
    }
  }
}
