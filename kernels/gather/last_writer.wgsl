// For each row the last position that names it: out[row] = the largest n with ids[n] = row, or -1.
//
// Shapes: ids [count], out [size]. Grid: y * grid_x + x = groups of WG rows (step 0) or positions (step 1).
// Two dispatches: step 0 fills out with -1, step 1 takes the maximum. Integer atomics: the same result in every run.
// Ids out of range are skipped.
const WG: u32 = 64u; // param: size of the workgroup

struct Dims { count: u32, size: u32, step: u32 } // count of positions, size: number of rows

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<atomic<i32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WG + lane;
  if (dims.step == 0u) {
    if (i < dims.size) { atomicStore(&out[i], -1); }
  } else if (i < dims.count) {
    let id = ids[i];
    if (id < dims.size) { atomicMax(&out[id], i32(i)); }
  }
}
