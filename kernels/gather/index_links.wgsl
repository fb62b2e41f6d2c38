// Links the positions of equal ids into lists in ascending order, for index_add.wgsl: head[id] is the first position of id,
// next[n] the position after n, and `count` ends a list.
//
// Shapes: ids and next [count], head [size]. Grid: y * grid_x + x = groups of WG positions.
// Two dispatches: step 0 fills head with `count`. In step 1 every position searches its successor on its own, and atomicMin
// finds the first one: quadratic in count, but parallel, and the same in every run. Ids out of range are skipped.
const WG: u32 = 64u; // param: size of the workgroup

struct Dims { count: u32, size: u32, step: u32 } // count of positions, size: number of ids

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> head: array<atomic<u32>>; // [size]
@group(0) @binding(3) var<storage, read_write> next: array<u32>; // [count]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WG + lane;
  if (dims.step == 0u) {
    if (i < dims.size) { atomicStore(&head[i], dims.count); }
  } else if (i < dims.count) {
    let id = ids[i];
    if (id >= dims.size) { return; }
    atomicMin(&head[id], i);
    var j = i + 1u;
    while (j < dims.count && ids[j] != id) { j++; }
    next[i] = j;
  }
}
