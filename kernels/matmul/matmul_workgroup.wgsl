// Batched matrix product as matmul.wgsl, for GPUs: tiles of A and B in workgroup memory, products in registers.
//
// Paper: Volkov and Demmel 2008; TensorFlow.js, ONNX Runtime and TVM do the same.
// Operands, splits and grid as in matmul.wgsl.
// Special: LX x LY invocations compute LY * TM rows x LX * 4 * TN columns. Each owns TM rows and TN vec4f of columns: it
//   reads TM / 4 + TN vectors for 16 times their product of multiply-adds. A and B pass in blocks of 4 x 4, transposed on
//   the way if they lie along k, so that all strides and formats work. Values past the end of k are zeros.
const LX: u32 = 8u; // param: invocations across
const LY: u32 = 8u; // param: invocations down
const TM: u32 = 4u; // param: rows per invocation, a multiple of 4
const TN: u32 = 1u; // param: vec4f of columns per invocation
const KS: u32 = 16u; // param: k per iteration, a multiple of 4
const K_GUARD: bool = true; // param: false if K and k_chunk are multiples of KS
// shared: operand_params from matmul
const A_VEC: u32 = 0u; // param: read A as scalars (0), or as vec4f along k (1) or m (2): stride 1 there, all else multiples of 4
const B_VEC: u32 = 0u; // param: the same of B, along k (1) or n (2)
alias A = f32; // param: element type of `a`, which a_1 or, with A_VEC, a_4 reads: vec4f
alias B = f32; // param: element type of `b`, the same
// end shared
alias C = f32; // param: element type of `c`

// shared: dims from matmul
struct Dims {
  M: u32, N: u32, K: u32, k_chunk: u32,
  row_tiles: u32, column_tiles: u32, row_step: u32, column_step: u32, first: u32, slices: u32,
  batches: u32, size_1: u32, size_2: u32, // batch = (i0 * size_1 + i1) * size_2 + i2
  a_offset: u32, a_0: u32, a_1: u32, a_2: u32, a_m: u32, a_k: u32,
  b_offset: u32, b_0: u32, b_1: u32, b_2: u32, b_k: u32, b_n: u32,
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read_write> c: array<C>;

const WG: u32 = LX * LY;
const ROWS: u32 = LY * TM / 4u; // rows of a tile / 4; COLUMNS and DEPTH alike
const COLUMNS: u32 = LX * TN;
const DEPTH: u32 = KS / 4u;
var<workgroup> tile_a: array<vec4f, KS * ROWS>; // [k, rows]
var<workgroup> tile_b: array<vec4f, KS * COLUMNS>; // [k, columns]

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

// shared: operands from matmul
// One element, and four from a multiple of 4 on. Lowerings put formats here (halves, packed weights), the compiler prologues.
fn a_1(at: u32) -> f32 { // hook
  return vec4f(a[at]).x;
}
fn a_4(at: u32) -> vec4f { // hook
  return vec4f(a[at / 4u]);
}
fn b_1(at: u32) -> f32 { // hook
  return vec4f(b[at]).x;
}
fn b_4(at: u32) -> vec4f { // hook
  return vec4f(b[at / 4u]);
}
// end shared

// Four neighbours from `first` on, clamped to `count`; `vectors`: as a vec4f from a multiple of 4 on.
fn neighbours(first: u32, count: u32, vectors: bool) -> vec4u {
  if (vectors) { return vec4u(min(first, count - 4u)) + vec4u(0u, 1u, 2u, 3u); }
  return min(vec4u(first) + vec4u(0u, 1u, 2u, 3u), vec4u(count - 1u));
}

// A block of A, [k, row], from row `row` and k `k` on.
fn block_a(base: u32, row: u32, k: u32) -> mat4x4f {
  let at = neighbours(row, dims.M, A_VEC == 2u) * dims.a_m + base + k * dims.a_k;
  var block = mat4x4f();
  for (var j = 0u; j < 4u; j++) {
    if (A_VEC == 1u) {
      block[j] = a_4(at[j]);
    } else if (A_VEC == 2u) {
      block[j] = a_4(at.x + j * dims.a_k);
    } else {
      let v = at + j * dims.a_k;
      block[j] = vec4f(a_1(v.x), a_1(v.y), a_1(v.z), a_1(v.w));
    }
  }
  if (A_VEC == 1u) { return transpose(block); }
  return block;
}

// A block of B, [k, column].
fn block_b(base: u32, k: u32, column: u32) -> mat4x4f {
  let at = neighbours(column, dims.N, B_VEC == 2u) * dims.b_n + base + k * dims.b_k;
  var block = mat4x4f();
  for (var j = 0u; j < 4u; j++) {
    if (B_VEC == 1u) {
      block[j] = b_4(at[j]);
    } else if (B_VEC == 2u) {
      block[j] = b_4(at.x + j * dims.b_k);
    } else {
      let v = at + j * dims.b_k;
      block[j] = vec4f(b_1(v.x), b_1(v.y), b_1(v.z), b_1(v.w));
    }
  }
  if (B_VEC == 1u) { return transpose(block); }
  return block;
}

@compute @workgroup_size(LX, LY)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) lane: vec3u, @builtin(local_invocation_index) index: u32) {
  let tile = group.y * groups.x + group.x;
  let slice = tile / dims.row_tiles / dims.column_tiles;
  if (slice >= dims.slices) { return; }
  let tile_row = tile / dims.row_step % dims.row_tiles * ROWS * 4u;
  let tile_column = tile / dims.column_step % dims.column_tiles * COLUMNS * 4u;
  // shared: slice
  let batch = slice % dims.batches;
  let i = vec3u(batch / dims.size_2 / dims.size_1, batch / dims.size_2 % dims.size_1, batch % dims.size_2);
  let begin = slice / dims.batches * dims.k_chunk;
  let end = min(begin + dims.k_chunk, dims.K);
  let a_batch = dims.a_offset + i.x * dims.a_0 + i.y * dims.a_1 + i.z * dims.a_2;
  let b_batch = dims.b_offset + i.x * dims.b_0 + i.y * dims.b_1 + i.z * dims.b_2;
  // end shared

  var sums = array<vec4f, TM * TN>(); // [row, vec4f of columns]
  for (var k = begin; k < end; k += KS) {
    for (var chunk = index; chunk < DEPTH * (ROWS + COLUMNS); chunk += WG) {
      // Neighbouring invocations load neighbouring values: along k or across it.
      var block = mat4x4f();
      if (chunk < DEPTH * ROWS) {
        let place = select(vec2u(chunk / ROWS, chunk % ROWS), vec2u(chunk % DEPTH, chunk / DEPTH), A_VEC == 1u) * 4u; // k, row
        block = block_a(a_batch, tile_row + place.y, k + place.x);
        for (var j = 0u; j < 4u; j++) {
          tile_a[(place.x + j) * ROWS + place.y / 4u] = select(vec4f(), block[j], !K_GUARD || k + place.x + j < end);
        }
      } else {
        let rest = chunk - DEPTH * ROWS;
        let place = select(vec2u(rest / COLUMNS, rest % COLUMNS), vec2u(rest % DEPTH, rest / DEPTH), B_VEC == 1u) * 4u; // k, column
        block = block_b(b_batch, k + place.x, tile_column + place.y);
        for (var j = 0u; j < 4u; j++) {
          tile_b[(place.x + j) * COLUMNS + place.y / 4u] = select(vec4f(), block[j], !K_GUARD || k + place.x + j < end);
        }
      }
    }
    workgroupBarrier();
    for (var d = 0u; d < KS; d++) {
      var vb = array<vec4f, TN>();
      for (var n = 0u; n < TN; n++) { vb[n] = tile_b[d * COLUMNS + n * LX + lane.x]; }
      for (var m = 0u; m < TM; m += 4u) {
        let va = tile_a[d * ROWS + (lane.y * TM + m) / 4u];
        for (var r = 0u; r < 4u; r++) {
          for (var n = 0u; n < TN; n++) { sums[(m + r) * TN + n] += va[r] * vb[n]; }
        }
      }
    }
    workgroupBarrier();
  }

  // A copy, and a loop that counts rows of C: see matmul_tiled.wgsl.
  var results = sums;
  let row = tile_row + lane.y * TM;
  for (var m = row; m < min(row + TM, dims.M); m++) {
    for (var n = 0u; n < TN; n++) {
      let column = tile_column + (n * LX + lane.x) * 4u;
      if (column < dims.N) {
        let v = epilogue(results[(m - row) * TN + n], vec3u(batch, m, column));
        store(((dims.first + slice) * dims.M + m) * dims.N + column, v, column);
      }
    }
  }
}
