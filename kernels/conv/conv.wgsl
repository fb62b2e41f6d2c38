// Convolution without padding: y[n, o, p] = Σ w[o, c, tap] · x[n, c, first(p) + offset(tap)], as a product that reads its second
// operand (the windows of x, "im2col") in place.
//
// Paper: implicit GEMM (Chetlur et al. 2014, https://arxiv.org/abs/1410.0759), tiles as in matmul.wgsl.
// Shapes: w [groups, M, C, taps] with M outputs and C inputs of a group; x [batches, C, plane]; y [batches, M, N] with N windows.
//   A batch is a sample and a group. Grid: y * grid_x + x = tiles of y, rows first, then columns, then batches.
// Special: taps are the outer loop and channels the inner one, so that the offset of an element is two additions.
// Caution: needs a subgroup size of exactly SG.
enable subgroups;

const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const TM: u32 = 16u; // param: rows of a tile: 4, 8, 16 or 32
const C_GUARD: bool = true; // param: false if C is a multiple of KS
alias C = f32; // param: element type of `c`
const KS: u32 = 4u; // channels per iteration
const A_VEC: u32 = 0u;

struct Dims {
  M: u32, N: u32, channels: u32, taps: u32, groups: u32, batches: u32, row_tiles: u32, tiles: u32,
  plane: u32, // elements of a channel of x
  k1: u32, k2: u32, // kernel sizes, but for the first spatial dim
  tap0: u32, tap1: u32, tap2: u32, // distance in x between taps, for each spatial dim
  n1: u32, n2: u32, // windows, but for the first spatial dim
  step0: u32, step1: u32, step2: u32, // distance in x between windows
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<C>;

// shared: tile_shape from matmul
const HALF: u32 = min(TM, 16u); // rows of an array of sums: not every driver unrolls loops of more than 16
const WIDE: u32 = min(KS, 4u); // k that are added up before they join the sums
const CHUNKS: u32 = TM * KS / 4u; // vec4f of A per iteration
const T: u32 = (CHUNKS + SG - 1u) / SG; // chunks per lane: lane, lane + SG, …
const ROWS: u32 = select(1u, 4u, A_VEC == 2u); // a chunk is ROWS x DEPTH values of A
const DEPTH: u32 = 4u / ROWS;
const CHUNK_ROWS: u32 = TM / ROWS; // chunk = k / DEPTH * CHUNK_ROWS + row / ROWS
// end shared
const STEPS: u32 = 16u; // iterations whose products are added up before they join the total

// shared: epilogue from matmul
// Four columns of C at `i` = batch, row, first column, with the elementwise ops that follow. Columns from N on are dropped.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}
// end shared
// shared: store from matmul
// Stores four columns of C from `column` on, the first one at element `at`. May store halves.
fn store(at: u32, value: vec4f, column: u32) { // hook
  if (column < dims.N) { c[at] = value.x; }
  if (column + 1u < dims.N) { c[at + 1u] = value.y; }
  if (column + 2u < dims.N) { c[at + 2u] = value.z; }
  if (column + 3u < dims.N) { c[at + 3u] = value.w; }
}
// end shared
// shared: tile_sums from matmul
// The chunk with row `r` of the tile and `k` of the iteration, from the lane that holds it.
fn spread(va: ptr<function, array<vec4f, T>>, k: u32, r: u32) -> vec4f {
  let chunk = k / DEPTH * CHUNK_ROWS + r / ROWS;
  return subgroupShuffle((*va)[chunk / SG], chunk % SG);
}

// Adds the products of an iteration to the HALF rows from `first` on.
fn accumulate(sums: ptr<function, array<vec4f, HALF>>, first: u32, va: ptr<function, array<vec4f, T>>, vb: ptr<function, array<vec4f, KS>>) {
  for (var j = 0u; j < KS; j += 4u) {
    for (var r = 0u; r < HALF; r += 4u) {
      var v = array<vec4f, 4>(); // [row, k] or, with A_VEC = 2, [k, row]
      for (var d = 0u; d < select(4u, WIDE, A_VEC == 2u); d++) { v[d] = spread(va, j + select(0u, d, A_VEC == 2u), first + r + select(d, 0u, A_VEC == 2u)); }
      for (var d = 0u; d < 4u; d++) {
        var x = v[d];
        if (A_VEC == 2u) { x = vec4f(v[0][d], v[1][d], v[2][d], v[3][d]); }
        var sum = x.x * (*vb)[j] + x.y * (*vb)[j + 1u];
        if (WIDE == 4u) { sum += x.z * (*vb)[(j + 2u) % KS] + x.w * (*vb)[(j + 3u) % KS]; }
        (*sums)[r + d] += sum;
      }
    }
  }
}
// end shared

// First element of window `p` in a channel of x.
fn window(p: u32) -> u32 {
  return p / dims.n2 / dims.n1 * dims.step0 + p / dims.n2 % dims.n1 * dims.step1 + p % dims.n2 * dims.step2;
}

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let number = group.y * groups.x + group.x;
  let batch = number / dims.tiles;
  if (batch >= dims.batches) { return; }
  let row = number % dims.tiles % dims.row_tiles * TM;
  let column = (number % dims.tiles / dims.row_tiles * SG + lane) * 4u;
  let last = dims.N - 1u;
  let x_first = batch * dims.channels * dims.plane;
  let columns = x_first + vec4u(window(min(column, last)), window(min(column + 1u, last)), window(min(column + 2u, last)), window(min(column + 3u, last)));
  var chunks = array<u32, T>();
  for (var t = 0u; t < T; t++) {
    let chunk = lane + t * SG;
    let m = min(row + chunk % CHUNK_ROWS, dims.M - 1u);
    chunks[t] = ((batch % dims.groups * dims.M + m) * dims.channels + chunk / CHUNK_ROWS * DEPTH) * dims.taps;
  }

  let steps = dims.taps * ((dims.channels + KS - 1u) / KS);
  var total = array<vec4f, TM>();
  var channel = 0u;
  var tap = vec3u(); // number of the tap, and its indices along the last two dims
  var offset = 0u; // of the tap in x
  for (var block = 0u; block < steps; block += STEPS) {
    var sums = array<vec4f, HALF>();
    var more = array<vec4f, HALF>(); // rows from HALF on
    for (var s = block; s < min(block + STEPS, steps); s++) {
      let left = dims.channels - channel;
      var vb = array<vec4f, KS>();
      for (var j = 0u; j < KS; j++) {
        let at = columns + offset + (channel + select(j, min(j, left - 1u), C_GUARD)) * dims.plane;
        vb[j] = vec4f(b[at.x], b[at.y], b[at.z], b[at.w]);
        if (C_GUARD) { vb[j] = select(vec4f(), vb[j], j < left); }
      }
      var va = array<vec4f, T>();
      for (var t = 0u; t < T; t++) {
        if (lane + t * SG < CHUNKS) {
          let at = chunks[t] + channel * dims.taps + tap.x;
          va[t] = vec4f(a[at], a[at + dims.taps], a[at + 2u * dims.taps], a[at + 3u * dims.taps]);
          if (C_GUARD) { va[t] = select(vec4f(), va[t], vec4u(0u, 1u, 2u, 3u) < vec4u(left)); }
        }
      }
      accumulate(&sums, 0u, &va, &vb);
      if (TM > HALF) { accumulate(&more, HALF, &va, &vb); }
      channel += KS;
      if (channel >= dims.channels) {
        channel = 0u;
        tap += vec3u(1u, 0u, 1u);
        offset += dims.tap2;
        if (tap.z == dims.k2) {
          tap = vec3u(tap.x, tap.y + 1u, 0u);
          offset += dims.tap1 - dims.k2 * dims.tap2;
          if (tap.y == dims.k1) {
            tap.y = 0u;
            offset += dims.tap0 - dims.k1 * dims.tap1;
          }
        }
      }
    }
    for (var r = 0u; r < HALF; r++) {
      total[r] += sums[r];
      if (TM > HALF) { total[(r + HALF) % TM] += more[r]; }
    }
  }

  // The loop counts rows of y, so that drivers do not unroll it and its epilogue to the length of the array.
  for (var m = row; m < min(row + TM, dims.M); m++) {
    let v = epilogue(total[m - row], vec3u(batch, m, column));
    store((batch * dims.M + m) * dims.N + column, v, column);
  }
}
