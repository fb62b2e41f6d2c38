// Gradients of norm.wgsl in one pass over the rows. With h = g * weight and n = (x - mean) * scale, the normalised row,
// dx = scale * (h - mean(h) - n * mean(h * n)); RMSNorm (CENTER false) has no mean(h) term. With VECTORS also
// dweight = sum over rows of g * n and dbias = sum of g. Mean and scale of each row are found again from x.
// The lanes of a workgroup share the columns and do ROWS rows at a time, so that a lane loads the weight once for all of
// them, and adds what they give to the gradients of its own columns: no other lane does. A workgroup does `slab` rows; with
// several of them dweight and dbias are [workgroups, cols], which sum_parts.wgsl adds up in order.
const WG: u32 = 64u; // param: lanes of a workgroup, a power of two
const ROWS: u32 = 4u; // param: rows at a time, at most 4
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

const PARTS: u32 = min(WG, 16u);
var<workgroup> scratch: array<vec4f, WG>;
var<workgroup> parts: array<vec4f, PARTS>;

// g[at] for the first time, and again, as x in norm.wgsl. `i` = 0, row, first column.
fn first(at: u32, i: vec3u) -> V { // hook
  return g[at];
}
fn again(at: u32, i: vec3u) -> V { // hook
  return g[at];
}

// Sum over the lanes, in two steps: a tree would take a barrier a level. Lowerings put subgroupAdd here where a workgroup is
// one subgroup.
fn across(v: vec4f, lane: u32) -> vec4f { // hook
  scratch[lane] = v;
  workgroupBarrier();
  if (lane < PARTS) {
    var sum = v;
    for (var i = lane + PARTS; i < WG; i += PARTS) { sum += scratch[i]; }
    parts[lane] = sum;
  }
  workgroupBarrier();
  var total = parts[0];
  for (var i = 1u; i < PARTS; i++) { total += parts[i]; }
  return total;
}

// Means of the rows from the sums of their lanes.
fn means(sums: ptr<function, array<V, ROWS>>, lane: u32) -> vec4f {
  var totals = vec4f();
  for (var r = 0u; r < ROWS; r++) {
    let w = vec4f((*sums)[r]);
    totals[r] = select(w.x, (w.x + w.y) + (w.z + w.w), WIDTH == 4u);
  }
  return across(totals, lane) / f32(dims.vectors * WIDTH);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let slab = group.y * groups.x + group.x;
  let start = slab * dims.slab;
  let stop = min(start + dims.slab, dims.rows);
  for (var block = start; block < stop; block += ROWS) {
    let count = min(ROWS, stop - block); // rows from there on repeat the last
    var mean = vec4f();
    if (CENTER) {
      var sums = array<V, ROWS>();
      for (var column = lane; column < dims.vectors; column += WG) {
        for (var r = 0u; r < ROWS; r++) { sums[r] += x[(block + min(r, count - 1u)) * dims.vectors + column]; }
      }
      mean = means(&sums, lane);
    }
    var squares = array<V, ROWS>();
    var hs = array<V, ROWS>();
    var products = array<V, ROWS>();
    for (var column = lane; column < dims.vectors; column += WG) {
      var w = V() + 1.0;
      if (WEIGHT) { w = weight[column]; }
      for (var r = 0u; r < ROWS; r++) {
        let row = block + min(r, count - 1u);
        let at = row * dims.vectors + column;
        let v = x[at] - mean[r];
        let h = first(at, vec3u(0u, row, column * WIDTH)) * w;
        squares[r] += v * v;
        if (CENTER) { hs[r] += h; }
        products[r] += h * v;
      }
    }
    let scale = inverseSqrt(means(&squares, lane) + dims.eps);
    let slope = means(&products, lane) * scale * scale; // mean(h * n) * scale
    var shift = vec4f();
    if (CENTER) { shift = means(&hs, lane); }
    for (var column = lane; column < dims.vectors; column += WG) {
      var w = V() + 1.0;
      if (WEIGHT) { w = weight[column]; }
      var weights = V();
      var biases = V();
      for (var r = 0u; r < ROWS; r++) {
        if (r < count) {
          let at = (block + r) * dims.vectors + column;
          let v = x[at] - mean[r];
          let s = again(at, vec3u(0u, block + r, column * WIDTH));
          dx[at] = scale[r] * (s * w - shift[r] - v * slope[r]);
          weights += s * (v * scale[r]);
          biases += s;
        }
      }
      if (VECTORS) {
        let out = slab * dims.vectors + column;
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
