// Gradients of norm.wgsl in one pass over the rows. With h = g · weight and n = (x - mean) · scale, the normalised row:
// dx = scale (h - mean(h) - n mean(h n)); RMSNorm (CENTER false) has no mean(h) term.
// With VECTORS also dweight = sum over rows of g n, and dbias = sum over rows of g.
//
// Shapes: g, x and dx [rows, cols], weight [cols], dweight and dbias [workgroups, cols]: sum_parts.wgsl adds up the parts
//   of several workgroups.
// Grid: y * grid_x + x = slabs of `slab` rows.
// Special: a workgroup takes ROWS rows at a time. First, LANES invocations per row find its means, from x again. Then all
//   invocations share the columns and loop over the rows: each loads a weight once for all rows, and alone adds up the
//   gradients of its columns.
const WG: u32 = 64u; // param: size of the workgroup, a power of two
const ROWS: u32 = 4u; // param: rows at a time, a power of two, at most WG
const CENTER: bool = true; // param: LayerNorm; false: RMSNorm
const WEIGHT: bool = true; // param: without it `weight` is not read
const VECTORS: bool = true; // param: without it `dweight` and `dbias` are not written
const BIAS: bool = true; // param: without it `dbias` is not written
const WIDTH: u32 = 1u; // param: columns of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4

struct Dims { rows: u32, vectors: u32, eps: f32, slab: u32 } // vectors = cols / WIDTH

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> g: array<V>;
@group(0) @binding(2) var<storage, read> x: array<V>;
@group(0) @binding(3) var<storage, read> weight: array<V>;
@group(0) @binding(4) var<storage, read_write> dx: array<V>;
@group(0) @binding(5) var<storage, read_write> dweight: array<V>;
@group(0) @binding(6) var<storage, read_write> dbias: array<V>;

const LANES: u32 = WG / ROWS;
var<workgroup> scratch: array<f32, WG>;
var<workgroup> means: array<vec4f, ROWS>;

// The first read of g[at], as of x in norm.wgsl. `i` = 0, row, first column.
fn load(at: u32, i: vec3u) -> V { // hook
  return g[at];
}
// Later reads of g[at].
fn reload(at: u32, i: vec3u) -> V { // hook
  return g[at];
}

// Sum over the invocations of a row. The lowering puts subgroup operations here and in `row_stat` if a workgroup is a subgroup.
fn across(v: f32, lane: u32) -> f32 { // hook
  // shared: add_up from softmax_backward
  if (LANES == 1u) { return v; }
  scratch[lane] = v;
  for (var s = LANES / 2u; s > 0u; s /= 2u) {
    workgroupBarrier();
    if (lane % LANES < s) { scratch[lane] += scratch[lane + s]; }
  }
  workgroupBarrier();
  // end shared
  let sum = scratch[lane / LANES * LANES];
  workgroupBarrier();
  return sum;
}
// Shares the statistics of a row with all invocations.
fn share_stats(v: vec4f, lane: u32) { // hook
  if (LANES == 1u) { workgroupBarrier(); }
  if (lane % LANES == 0u) { means[lane / LANES] = v; }
  workgroupBarrier();
  storageBarrier(); // what `load` stored
}
// Component `k` of the shared statistics of row `r` of the block; `v`: the same statistic of this invocation's row.
fn row_stat(v: f32, k: u32, r: u32) -> f32 { // hook
  return means[r][k];
}

// Mean over a row, from the invocations' partial sums.
fn mean_of(sums: V, lane: u32) -> f32 {
  let w = vec4f(sums);
  return across(select(w.x, (w.x + w.y) + (w.z + w.w), WIDTH == 4u), lane) / f32(dims.vectors * WIDTH);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let slab = group.y * groups.x + group.x;
  let vectors = dims.vectors;
  let start = slab * dims.slab;
  let stop = min(start + dims.slab, dims.rows);
  for (var block = start; block < stop; block += ROWS) {
    let row = min(block + lane / LANES, stop - 1u); // rows past the end repeat the last one
    let begin = row * vectors;
    var mean = 0.0;
    if (CENTER) {
      var sums = V();
      for (var column = lane % LANES; column < vectors; column += LANES) { sums += x[begin + column]; }
      mean = mean_of(sums, lane);
    }
    var squares = V();
    var hs = V();
    var products = V();
    for (var column = lane % LANES; column < vectors; column += LANES) {
      let v = x[begin + column] - mean;
      var h = load(begin + column, vec3u(0u, row, column * WIDTH));
      if (WEIGHT) { h *= weight[column]; }
      squares += v * v;
      if (CENTER) { hs += h; }
      products += h * v;
    }
    let scale = inverseSqrt(mean_of(squares, lane) + dims.eps);
    let slope = mean_of(products, lane) * scale * scale; // mean(h * n) * scale
    var shift = 0.0;
    if (CENTER) { shift = mean_of(hs, lane); }
    share_stats(vec4f(scale, slope, mean, shift), lane);
    let end = min(block + ROWS, stop);
    for (var base = 0u; base < vectors; base += WG) {
      let column = min(base + lane, vectors - 1u); // surplus invocations must reach the subgroup operations
      var w = V() + 1.0;
      if (WEIGHT) { w = weight[column]; }
      var weights = V();
      var biases = V();
      var at = block * vectors + column;
      for (var r = block; r < end; r++) {
        let row_scale = row_stat(scale, 0u, r - block);
        var v = x[at];
        let s = reload(at, vec3u(0u, r, column * WIDTH));
        var h = s * w;
        if (CENTER) {
          v -= row_stat(mean, 2u, r - block);
          h -= row_stat(shift, 3u, r - block);
        }
        dx[at] = row_scale * (h - v * row_stat(slope, 1u, r - block));
        weights += s * (v * row_scale);
        biases += s;
        at += vectors;
      }
      if (VECTORS && base + lane < vectors) {
        let out = slab * vectors + column;
        if (block > start) { weights += dweight[out]; }
        dweight[out] = weights;
        if (BIAS) {
          if (block > start) { biases += dbias[out]; }
          dbias[out] = biases;
        }
      }
    }
  }
}
