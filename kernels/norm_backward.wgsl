// Gradients of norm.wgsl in one pass over the rows. With h = g * weight and n = (x - mean) * scale, the normalised row,
// dx = scale * (h - mean(h) - n * mean(h * n)); RMSNorm (CENTER false) has no mean(h) term. Mean and scale of each row are
// found again from x. With VECTORS also dweight = sum over rows of g * n and dbias = sum of g: a workgroup does `slab` rows,
// ROWS at a time, and behind each block of rows its lanes turn to columns, of which they add up the block while it is in
// the cache. With several workgroups these outputs are [workgroups, cols], which sum_parts.wgsl adds up in order.
// Schedules as in softmax.wgsl.
const WG: u32 = 64u; // param: lanes of a workgroup
const LANES: u32 = 64u; // param: lanes per row, a power of two that divides WG
const CENTER: bool = true; // param: LayerNorm
const WEIGHT: bool = true; // param: without it `weight` is not read
const VECTORS: bool = true; // param: without it `dweight` and `dbias` are not written
const BIAS: bool = true; // param: without it `dbias` is not written
const WIDTH: u32 = 1u; // param: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4

struct Dims { rows: u32, vectors: u32, eps: f32, slab: u32 } // vectors = cols / WIDTH, slab a multiple of ROWS

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<V>;
@group(0) @binding(2) var<storage, read> x: array<V>;
@group(0) @binding(3) var<storage, read> weight: array<V>;
@group(0) @binding(4) var<storage, read_write> dx: array<V>;
@group(0) @binding(5) var<storage, read_write> dweight: array<V>;
@group(0) @binding(6) var<storage, read_write> dbias: array<V>;

const ROWS: u32 = WG / LANES;
var<workgroup> scratch: array<f32, WG>;
var<workgroup> stats: array<vec2f, ROWS>; // mean, scale

// g[at] for the first time, and again, as x in norm.wgsl. `i` = 0, row, first column.
fn first(at: u32, i: vec3u) -> V { // hook
  return g[at];
}
fn again(at: u32, i: vec3u) -> V { // hook
  return g[at];
}

// Mean over the row of the lanes' partial sums.
fn mean_of(sums: V, lane: u32) -> f32 {
  let w = vec4f(sums);
  let sum = select(w.x, (w.x + w.y) + (w.z + w.w), WIDTH == 4u);
  let cols = f32(dims.vectors * WIDTH);
  if (LANES == 1u) { return sum / cols; }
  scratch[lane] = sum;
  for (var s = LANES / 2u; s > 0u; s /= 2u) {
    workgroupBarrier();
    if (lane % LANES < s) { scratch[lane] += scratch[lane + s]; }
  }
  workgroupBarrier();
  let result = scratch[lane / LANES * LANES];
  workgroupBarrier();
  return result / cols;
}

fn weighted(v: V, column: u32) -> V {
  if (WEIGHT) { return v * weight[column]; }
  return v;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let slab = group.y * groups.x + group.x;
  let start = slab * dims.slab;
  let stop = min(start + dims.slab, dims.rows);
  for (var block = start; block < stop; block += ROWS) {
    let wanted = block + lane / LANES;
    let row = min(wanted, stop - 1u); // surplus lanes must reach the barriers
    let begin = row * dims.vectors;
    let end = select(begin, begin + dims.vectors, wanted == row);
    let mine = begin + lane % LANES;

    var mean = 0.0;
    if (CENTER) {
      var sums = V();
      for (var at = mine; at < end; at += LANES) { sums += x[at]; }
      mean = mean_of(sums, lane);
    }
    var squares = V();
    var hs = V();
    var products = V();
    for (var at = mine; at < end; at += LANES) {
      let v = x[at] - mean;
      let h = weighted(first(at, vec3u(0u, row, (at - begin) * WIDTH)), at - begin);
      squares += v * v;
      if (CENTER) { hs += h; }
      products += h * v;
    }
    let scale = inverseSqrt(mean_of(squares, lane) + dims.eps);
    let slope = mean_of(products, lane) * scale * scale; // mean(h * n) * scale
    var shift = 0.0;
    if (CENTER) { shift = mean_of(hs, lane); }
    for (var at = mine; at < end; at += LANES) {
      let h = weighted(again(at, vec3u(0u, row, (at - begin) * WIDTH)), at - begin);
      dx[at] = scale * (h - shift - (x[at] - mean) * slope);
    }
    if (!VECTORS) { continue; }

    if (lane % LANES == 0u) { stats[lane / LANES] = vec2f(mean, scale); }
    workgroupBarrier();
    storageBarrier(); // `first` may have stored g
    let count = min(ROWS, stop - block);
    for (var column = lane; column < dims.vectors; column += WG) {
      let out = slab * dims.vectors + column;
      var weights = V();
      var biases = V();
      for (var r = 0u; r < count; r++) {
        let at = (block + r) * dims.vectors + column;
        let v = again(at, vec3u(0u, block + r, column * WIDTH));
        weights += v * ((x[at] - stats[r].x) * stats[r].y);
        if (BIAS) { biases += v; }
      }
      if (block > start) { weights += dweight[out]; }
      dweight[out] = weights;
      if (BIAS) {
        if (block > start) { biases += dbias[out]; }
        dbias[out] = biases;
      }
    }
    workgroupBarrier();
  }
}
