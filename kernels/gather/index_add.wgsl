// Rows added at ids, the gradient of an embedding: out[o, id, i] = x[o, id, i] + sum of source[o, n, i] over the positions n
// with ids[n] = id, in ascending order.
//
// Shapes: x and out [outer, size, inner], source [outer, count, inner]; head [size], next and runs [count] from index_links.wgsl.
// Grid: y * grid_x + x = groups of WG / LANES rows of out.
// Special: LANES invocations share a row, so that none divides by a size that is not constant. The lists give a fixed order
//   without float atomics.
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per row, a power of two that divides WG
const ZERO: bool = false; // param: x is zero and is not read
const BLOCK: u32 = 16u; // terms that are added one by one
alias V = f32; // param: also i32, u32, or a vec4 of them if inner is a multiple of 4

struct Dims { outer: u32, size: u32, count: u32, inner: u32 } // inner in vectors

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> source: array<V>;
@group(0) @binding(3) var<storage, read> head: array<u32>; // [size]
@group(0) @binding(4) var<storage, read> next: array<u32>; // [count]
@group(0) @binding(5) var<storage, read> runs: array<u32>; // [count]
@group(0) @binding(6) var<storage, read_write> out: array<V>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  if (row >= dims.outer * dims.size) { return; }
  let first = head[row % dims.size];
  let base = row / dims.size * dims.count;
  for (var i = lane % LANES; i < dims.inner; i += LANES) {
    // Blocks are added in pairs, pairs of pairs, …: the error grows with the logarithm of their number. stack[l] holds the sum of
    // 2^l blocks where bit l of `blocks` is set.
    var stack = array<V, 32>();
    var blocks = 0u;
    var block = V();
    var terms = 0u;
    for (var run = first; run < dims.count; run = runs[run]) {
      for (var n = run; n < dims.count; n = next[n]) {
        block += source[(base + n) * dims.inner + i];
        terms++;
        if (terms % BLOCK != 0u) { continue; }
        var level = 0u;
        while (((blocks >> level) & 1u) == 1u) {
          block += stack[level];
          level++;
        }
        stack[level] = block;
        blocks++;
        block = V();
      }
    }
    var sum = block;
    for (var level = 0u; (blocks >> level) > 0u; level++) {
      if (((blocks >> level) & 1u) == 1u) { sum += stack[level]; }
    }
    if (!ZERO) { sum += x[row * dims.inner + i]; }
    out[row * dims.inner + i] = sum;
  }
}
