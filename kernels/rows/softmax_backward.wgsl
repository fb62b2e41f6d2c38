// Gradient of softmax and log-softmax over the last dim, from the output y.
// Softmax: dx = y (g - sum(g y)). Log-softmax: dx = g - exp(y) sum(g).
//
// Shapes: g, y and dx [rows, cols]. Grid and LANES as in softmax.wgsl.

// shared: params from softmax
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per row, a power of two that divides WG
const WIDTH: u32 = 1u; // param: columns of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4
// end shared
const LOG: bool = false; // param: log-softmax

struct Dims { rows: u32, vectors: u32 } // vectors = cols / WIDTH

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<V>;
@group(0) @binding(2) var<storage, read> y: array<V>;
@group(0) @binding(3) var<storage, read_write> dx: array<V>;

var<workgroup> scratch: array<f32, WG>;

// The first read of g[at], as of x in norm.wgsl. `i` = 0, row, first column.
fn load(at: u32, i: vec3u) -> V { // hook
  return g[at];
}
// Later reads of g[at].
fn reload(at: u32, i: vec3u) -> V { // hook
  return g[at];
}
// The result at `i`, with the elementwise ops that follow.
fn epilogue(value: V, i: vec3u) -> V { // hook
  return value;
}
// Stores the result. May store halves.
fn store(at: u32, value: V) { // hook
  dx[at] = value;
}

fn total(v: V) -> f32 {
  let w = vec4f(v);
  return select(w.x, (w.x + w.y) + (w.z + w.w), WIDTH == 4u);
}

// Sum over the invocations of a row.
fn across(v: f32, lane: u32) -> f32 {
  // shared: add_up
  if (LANES == 1u) { return v; }
  scratch[lane] = v;
  for (var s = LANES / 2u; s > 0u; s /= 2u) {
    workgroupBarrier();
    if (lane % LANES < s) { scratch[lane] += scratch[lane + s]; }
  }
  workgroupBarrier();
  // end shared
  return scratch[lane / LANES * LANES];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  // shared: row from softmax
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus invocations repeat the last row: all must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let start = begin + lane % LANES;
  // end shared

  var sums = V();
  for (var at = start; at < end; at += LANES) {
    let v = load(at, vec3u(0u, row, (at - begin) * WIDTH));
    if (LOG) { sums += v; } else { sums += v * y[at]; }
  }
  let sum = across(total(sums), lane);
  for (var at = start; at < end; at += LANES) {
    let i = vec3u(0u, row, (at - begin) * WIDTH);
    var v = reload(at, i);
    if (LOG) { v -= exp(y[at]) * sum; } else { v = y[at] * (v - sum); }
    store(at, epilogue(v, i));
  }
}
