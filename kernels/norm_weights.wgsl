// Gradients of the weight and bias of norm.wgsl: dweight = sum over rows of g * (x - mean) * scale, dbias = sum of g.
// One lane sums one vector of columns over a slab of rows: slabs make the adapter busy when there are few columns.
// With several slabs the outputs are [slabs, cols], which sum_parts.wgsl adds up. Grid: column groups, slabs.
const WG: u32 = 64u; // param
const BIAS: bool = true; // param: without it `dbias` is not written
const WIDTH: u32 = 1u; // param: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4

struct Dims { rows: u32, vectors: u32, slab: u32 } // vectors = cols / WIDTH, slab = rows of one

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<V>;
@group(0) @binding(2) var<storage, read> x: array<V>;
@group(0) @binding(3) var<storage, read> stats: array<vec2f>; // [rows] mean, scale
@group(0) @binding(4) var<storage, read_write> dweight: array<V>;
@group(0) @binding(5) var<storage, read_write> dbias: array<V>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let column = group.x * WG + lane;
  if (column >= dims.vectors) { return; }
  var weights = V();
  var biases = V();
  let end = min((group.y + 1u) * dims.slab, dims.rows);
  for (var row = group.y * dims.slab; row < end; row++) {
    let at = row * dims.vectors + column;
    let v = g[at];
    weights += v * ((x[at] - stats[row].x) * stats[row].y);
    if (BIAS) { biases += v; }
  }
  let out = group.y * dims.vectors + column;
  dweight[out] = weights;
  if (BIAS) { dbias[out] = biases; }
}
