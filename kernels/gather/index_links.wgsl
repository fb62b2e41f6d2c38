// Links the positions of equal ids in ascending order, for index_add.wgsl. Positions at most REACH apart form a run: next[n] is
// the position after n in its run, or `count`. head[id] is the first run of an id, named by its first position; runs[n] is
// the run after the one that starts at n. `count` ends both lists.
//
// Shapes: ids, next and runs [count], head [size]. Grid: y * grid_x + x = groups of WG ids (steps 0 and 2) or positions (1).
// Three dispatches: step 0 fills head with `count`. In step 1 every position looks REACH positions ahead and back; the first
//   of a run adds it to its id's list, in any order. Step 2 sorts each list (merge sort of a linked list), so that all lists
//   are the same in every run. The work grows with count · REACH, not with count². Ids out of range are skipped.
const WG: u32 = 64u; // param: size of the workgroup
const REACH: u32 = 512u; // param: positions that step 1 looks at in each direction

struct Dims { count: u32, size: u32, step: u32 } // count of positions, size: number of ids

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> head: array<atomic<u32>>; // [size]
@group(0) @binding(3) var<storage, read_write> next: array<u32>; // [count]
@group(0) @binding(4) var<storage, read_write> runs: array<u32>; // [count]

fn link(i: u32) {
  let id = ids[i];
  if (id >= dims.size) { return; }
  var after = i + 1u;
  let last = min(dims.count, i + REACH + 1u);
  while (after < last && ids[after] != id) { after++; }
  next[i] = select(dims.count, after, after < last);
  var before = i;
  let first = i - min(i, REACH);
  while (before > first && ids[before - 1u] != id) { before--; }
  if (before == first) { runs[i] = atomicExchange(&head[id], i); }
}

// Merges pairs of sorted parts of `width` runs, twice as many in each pass, until one part holds all.
fn sorted(start: u32) -> u32 {
  var list = start;
  for (var width = 1u; ; width *= 2u) {
    var left = list;
    var tail = dims.count;
    var merges = 0u;
    list = dims.count;
    while (left < dims.count) {
      merges++;
      var right = left;
      var lefts = 0u;
      while (lefts < width && right < dims.count) {
        lefts++;
        right = runs[right];
      }
      var rights = width;
      while (lefts > 0u || (rights > 0u && right < dims.count)) {
        var chosen = left;
        if (lefts > 0u && (rights == 0u || left < right)) {
          left = runs[left];
          lefts--;
        } else {
          chosen = right;
          right = runs[right];
          rights--;
        }
        if (tail < dims.count) { runs[tail] = chosen; } else { list = chosen; }
        tail = chosen;
      }
      left = right;
    }
    runs[tail] = dims.count;
    if (merges < 2u) { break; }
  }
  return list;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * WG + lane;
  if (dims.step == 0u) {
    if (i < dims.size) { atomicStore(&head[i], dims.count); }
  } else if (dims.step == 1u) {
    if (i < dims.count) { link(i); }
  } else if (i < dims.size) {
    let start = atomicLoad(&head[i]);
    if (start < dims.count) { atomicStore(&head[i], sorted(start)); }
  }
}
