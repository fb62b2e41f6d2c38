// LayerNorm (Ba et al. 2016) or, with CENTER false, RMSNorm (Zhang and Sennrich 2019) over the last dim of x [rows, cols]:
// y = (x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias. The variance takes its own pass over the row: one-pass
// forms lose digits when the mean is large. Sums of blocks are joined: the shorter the chains of additions, the less they
// round. Schedules as in softmax.wgsl.
const WG: u32 = 64u; // param: lanes of a workgroup
const LANES: u32 = 64u; // param: lanes per row, a power of two that divides WG
const TURN: u32 = 1u; // param: vectors a lane does in a turn of its loops; TURN * LANES divides their number
const CENTER: bool = true; // param: subtract the mean
const WEIGHT: bool = true; // param: without it `weight` is not read
const BIAS: bool = true; // param: without it `bias` is not read
const WIDTH: u32 = 1u; // param: 4 with V = vec4f
alias V = f32; // param: vec4f when cols is a multiple of 4

struct Dims { rows: u32, vectors: u32, block: u32, eps: f32 } // vectors = cols / WIDTH; block: a multiple of TURN * LANES

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> weight: array<V>;
@group(0) @binding(3) var<storage, read> bias: array<V>;
@group(0) @binding(4) var<storage, read_write> y: array<V>;

var<workgroup> scratch: array<f32, WG>;

// x[at] when a lane reads it for the first time, and again. Work that makes x (a residual added) may be done here: the first
// reading then computes it, and stores it in x if others need it or if computing it again costs more. `i` = 0, row, first column.
fn first(at: u32, i: vec3u) -> V { // hook
  return x[at];
}
fn again(at: u32, i: vec3u) -> V { // hook
  return x[at];
}
fn epilogue(value: V, i: vec3u) -> V { // hook
  return value;
}
fn store(at: u32, value: V) { // hook
  y[at] = value;
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

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let row = min(wanted, dims.rows - 1u); // surplus lanes must reach the barriers
  let begin = row * dims.vectors;
  let end = select(begin, begin + dims.vectors, wanted == row);
  let start = begin + lane % LANES;

  var mean = 0.0;
  if (CENTER) {
    var sums = V();
    for (var block = start; block < end; block += dims.block) {
      var part = V();
      for (var base = block; base < min(block + dims.block, end); base += TURN * LANES) {
        for (var t = 0u; t < TURN; t++) {
          let at = base + t * LANES;
          part += first(at, vec3u(0u, row, (at - begin) * WIDTH));
        }
      }
      sums += part;
    }
    mean = mean_of(sums, lane);
  }
  var squares = V();
  for (var block = start; block < end; block += dims.block) {
    var part = V();
    for (var base = block; base < min(block + dims.block, end); base += TURN * LANES) {
      for (var t = 0u; t < TURN; t++) {
        let at = base + t * LANES;
        let i = vec3u(0u, row, (at - begin) * WIDTH);
        var v = V();
        if (CENTER) { v = again(at, i) - mean; } else { v = first(at, i); }
        part += v * v;
      }
    }
    squares += part;
  }
  let deviation = sqrt(mean_of(squares, lane) + dims.eps);
  for (var base = start; base < end; base += TURN * LANES) {
    for (var t = 0u; t < TURN; t++) {
      let at = base + t * LANES;
      let i = vec3u(0u, row, (at - begin) * WIDTH);
      var v = (again(at, i) - mean) / deviation;
      if (WEIGHT) { v *= weight[at - begin]; }
      if (BIAS) { v += bias[at - begin]; }
      store(at, epilogue(v, i));
    }
  }
}
