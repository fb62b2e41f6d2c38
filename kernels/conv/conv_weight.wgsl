// Gradient of the weight of a convolution without padding: dw[o, c, tap] = Σ g[n, o, p] · x[n, c, first(p) + offset(tap)] over
// samples n and windows p.
//
// Paper and tiles as in conv.wgsl. Shapes: g [samples, groups, M, windows]; x [samples, groups, C, plane]; dw [slices, groups, M, N]
//   with N = C · taps columns. Each slice is the sum over a part of the samples.
// Grid: y * grid_x + x = tiles of dw, rows first, then columns, groups and slices.
// Special: an iteration takes KS windows of one row, whose elements lie at a fixed distance.
// Caution: needs a subgroup size of exactly SG.
enable subgroups;

const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const TM: u32 = 16u; // param: rows of a tile: 4, 8, 16 or 32
const GUARD: bool = true; // param: false if the windows of a row are a multiple of KS
alias C = f32; // param: element type of `c`
const KS: u32 = 4u; // windows per iteration
const A_VEC: u32 = 1u;

struct Dims {
  M: u32, N: u32, channels: u32, taps: u32, groups: u32, samples: u32, row_tiles: u32, tiles: u32,
  per_slice: u32, slices: u32,
  plane: u32, // elements of a channel of x
  k1: u32, k2: u32, // kernel sizes, but for the first spatial dim
  tap0: u32, tap1: u32, tap2: u32, // distance in x between taps, for each spatial dim
  n0: u32, n1: u32, n2: u32, // windows along each spatial dim
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

// First element of column `n` in the channels of a sample of x: its channel, and its tap.
fn start_of(n: u32) -> u32 {
  let tap = n % dims.taps;
  let offset = tap / dims.k2 / dims.k1 * dims.tap0 + tap / dims.k2 % dims.k1 * dims.tap1 + tap % dims.k2 * dims.tap2;
  return n / dims.taps * dims.plane + offset;
}

// Four neighbouring windows from element `at` of x, of which `left` count.
fn windows(at: u32, left: u32) -> vec4f {
  let i = select(vec4u(0u, 1u, 2u, 3u), min(vec4u(0u, 1u, 2u, 3u), vec4u(left - 1u)), GUARD) * dims.step2;
  let v = vec4f(b[at + i.x], b[at + i.y], b[at + i.z], b[at + i.w]);
  return select(vec4f(), v, vec4u(0u, 1u, 2u, 3u) < vec4u(select(4u, left, GUARD)));
}

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let number = group.y * groups.x + group.x;
  let slice = number / dims.tiles / dims.groups;
  if (slice >= dims.slices) { return; }
  let part = number / dims.tiles % dims.groups;
  let row = number % dims.tiles % dims.row_tiles * TM;
  let column = (number % dims.tiles / dims.row_tiles * SG + lane) * 4u;
  let last = dims.N - 1u;
  let columns = vec4u(start_of(min(column, last)), start_of(min(column + 1u, last)), start_of(min(column + 2u, last)), start_of(min(column + 3u, last)));
  let size = dims.n0 * dims.n1 * dims.n2;
  var chunks = array<u32, T>();
  for (var t = 0u; t < T; t++) {
    let chunk = lane + t * SG;
    chunks[t] = min(row + chunk % CHUNK_ROWS, dims.M - 1u) * size + chunk / CHUNK_ROWS * DEPTH;
  }

  let per_row = (dims.n2 + KS - 1u) / KS;
  let first = slice * dims.per_slice;
  let steps = (min(first + dims.per_slice, dims.samples) - first) * dims.n0 * dims.n1 * per_row;
  var total = array<vec4f, TM>();
  var p = vec3u(); // window along each spatial dim
  var g_at = (first * dims.groups + part) * dims.M * size; // of the row of windows
  var x_sample = (first * dims.groups + part) * dims.channels * dims.plane;
  for (var block = 0u; block < steps; block += STEPS) {
    var sums = array<vec4f, HALF>();
    var more = array<vec4f, HALF>(); // rows from HALF on
    for (var s = block; s < min(block + STEPS, steps); s++) {
      let left = dims.n2 - p.z;
      let at = columns + x_sample + p.x * dims.step0 + p.y * dims.step1 + p.z * dims.step2;
      let m = transpose(mat4x4f(windows(at.x, left), windows(at.y, left), windows(at.z, left), windows(at.w, left)));
      var vb = array<vec4f, KS>(m[0], m[1], m[2], m[3]);
      var va = array<vec4f, T>();
      for (var t = 0u; t < T; t++) {
        if (lane + t * SG < CHUNKS) {
          let i = select(vec4u(0u, 1u, 2u, 3u), min(vec4u(0u, 1u, 2u, 3u), vec4u(left - 1u)), GUARD) + chunks[t] + g_at + p.z;
          va[t] = vec4f(a[i.x], a[i.y], a[i.z], a[i.w]);
          if (GUARD) { va[t] = select(vec4f(), va[t], vec4u(0u, 1u, 2u, 3u) < vec4u(left)); }
        }
      }
      accumulate(&sums, 0u, &va, &vb);
      if (TM > HALF) { accumulate(&more, HALF, &va, &vb); }
      p.z += KS;
      if (p.z >= dims.n2) {
        p = vec3u(p.x, p.y + 1u, 0u);
        g_at += dims.n2;
        if (p.y == dims.n1) {
          p = vec3u(p.x + 1u, 0u, 0u);
          if (p.x == dims.n0) {
            p.x = 0u;
            g_at += (dims.groups * dims.M - 1u) * size;
            x_sample += dims.groups * dims.channels * dims.plane;
          }
        }
      }
    }
    for (var r = 0u; r < HALF; r++) {
      total[r] += sums[r];
      if (TM > HALF) { total[(r + HALF) % TM] += more[r]; }
    }
  }

  for (var m = row; m < min(row + TM, dims.M); m++) {
    let v = epilogue(total[m - row], vec3u(part, m, column));
    store(((slice * dims.groups + part) * dims.M + m) * dims.N + column, v, column);
  }
}
