// Rows added at ids as in index_add.wgsl, for software adapters: an invocation owns vectors of columns and adds position by
// position, without lists or atomics.
//
// Shapes: x and out [outer, size, inner], ids [count], source [outer, count, inner].
// Grid: y * grid_x + x = stretches of `stretch` vectors.
// Two dispatches: the first one, with count 0, copies x to out. Ids out of range are skipped.
const WG: u32 = 8u; // param: size of the workgroup
const ZERO: bool = false; // param: x is zero and is not read
alias V = f32; // param: also i32, u32, or a vec4 of them if inner is a multiple of 4

struct Dims { total: u32, stretch: u32, count: u32, inner: u32, size: u32 } // total and inner in vectors

@group(0) @binding(0) var<uniform> dims: Dims; // total: all vectors of out in the first dispatch, outer * inner in the second
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> source: array<V>;
@group(0) @binding(4) var<storage, read_write> out: array<V>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let start = (group.y * groups.x + group.x) * dims.stretch;
  let end = min(start + dims.stretch, dims.total);
  for (var i = start + lane; i < end; i += WG) {
    if (dims.count == 0u) {
      var v = V();
      if (!ZERO) { v = x[i]; }
      out[i] = v;
    } else {
      let others = i / dims.inner * dims.inner; // positions of the outer dim before this one, times inner
      for (var n = 0u; n < dims.count; n++) {
        let id = ids[n];
        if (id < dims.size) { out[others * (dims.size - 1u) + id * dims.inner + i] += source[others * (dims.count - 1u) + n * dims.inner + i]; }
      }
    }
  }
}
