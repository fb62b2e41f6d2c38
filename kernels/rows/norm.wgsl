// LayerNorm or, with CENTER false, RMSNorm over the last dim:
// y = (x - mean) / sqrt(mean((x - mean)²) + eps) · weight + bias.
//
// Papers: LayerNorm (Ba et al. 2016, https://arxiv.org/abs/1607.06450), RMSNorm (Zhang and Sennrich 2019,
// https://arxiv.org/abs/1910.07467).
// Shapes: x and y [rows, cols], weight and bias [cols]. Grid and LANES as in softmax.wgsl.
// Special: the variance takes its own pass over the row, because one-pass forms lose digits when the mean is large.
//   Sums are added up in blocks: short chains of additions round less.

// shared: params from softmax
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per row, a power of two that divides WG
const WIDTH: u32 = 1u; // param: columns of a vector: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4
// end shared
const UNROLL: u32 = 1u; // param: vectors per iteration of the loops; UNROLL * LANES divides their number
const CENTER: bool = true; // param: LayerNorm: subtract the mean
const WEIGHT: bool = true; // param: without it `weight` is not read
const BIAS: bool = true; // param: without it `bias` is not read

struct Dims { rows: u32, vectors: u32, block: u32, eps: f32 } // vectors = cols / WIDTH; block: vectors that are added up before they join a sum, a multiple of UNROLL * LANES

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> weight: array<V>;
@group(0) @binding(3) var<storage, read> bias: array<V>;
@group(0) @binding(4) var<storage, read_write> y: array<V>;

var<workgroup> scratch: array<f32, WG>;

// shared: hooks
// The first read of x[at]. A prologue (a residual added) computes x here, and stores it if others need it or if computing it
// again costs more. `i` = 0, row, first column.
fn load(at: u32, i: vec3u) -> V { // hook
  return x[at];
}
// Later reads of x[at].
fn reload(at: u32, i: vec3u) -> V { // hook
  return x[at];
}
// The result at `i`, with the elementwise ops that follow.
fn epilogue(value: V, i: vec3u) -> V { // hook
  return value;
}
// Stores the result. May store halves.
fn store(at: u32, value: V) { // hook
  y[at] = value;
}
// end shared

// Mean over the row, from the invocations' partial sums.
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

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  // shared: row from softmax
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus invocations repeat the last row: all must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let start = begin + lane % LANES;
  // end shared

  var mean = 0.0;
  if (CENTER) {
    var sums = V();
    for (var block = start; block < end; block += dims.block) {
      var part = V();
      for (var base = block; base < min(block + dims.block, end); base += UNROLL * LANES) {
        for (var t = 0u; t < UNROLL; t++) {
          let at = base + t * LANES;
          part += load(at, vec3u(0u, row, (at - begin) * WIDTH));
        }
      }
      sums += part;
    }
    mean = mean_of(sums, lane);
  }
  var squares = V();
  for (var block = start; block < end; block += dims.block) {
    var part = V();
    for (var base = block; base < min(block + dims.block, end); base += UNROLL * LANES) {
      for (var t = 0u; t < UNROLL; t++) {
        let at = base + t * LANES;
        let i = vec3u(0u, row, (at - begin) * WIDTH);
        var v = V();
        if (CENTER) { v = reload(at, i) - mean; } else { v = load(at, i); }
        part += v * v;
      }
    }
    squares += part;
  }
  let deviation = sqrt(mean_of(squares, lane) + dims.eps);
  for (var base = start; base < end; base += UNROLL * LANES) {
    for (var t = 0u; t < UNROLL; t++) {
      let at = base + t * LANES;
      let i = vec3u(0u, row, (at - begin) * WIDTH);
      var v = (reload(at, i) - mean) / deviation;
      if (WEIGHT) { v *= weight[at - begin]; }
      if (BIAS) { v += bias[at - begin]; }
      store(at, epilogue(v, i));
    }
  }
}
