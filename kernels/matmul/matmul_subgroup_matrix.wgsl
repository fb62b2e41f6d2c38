// Batched matrix product as matmul.wgsl, on matrix units: WGSL's experimental subgroup matrices (simdgroup matrices of
// Apple, tensor cores, XMX).
//
// Operands, splits and grid as in matmul.wgsl.
// Special: a subgroup computes TM x TN matrices of SM x SN results. Tiles of A and B pass through workgroup memory, with
//   zeros past the edges, so that all strides and formats work. Results pass through it too, on their way to the epilogue.
// Caution: compiled, and tested with the four matrix functions written out in plain WGSL; never run on hardware.
enable f16;
enable chromium_experimental_subgroup_matrix;

const SG: u32 = 32u; // param: subgroup size, and the size of the workgroup
const TM: u32 = 4u; // param: matrices of a tile, down
const TN: u32 = 4u; // param: matrices of a tile, across
const SM: u32 = 8u; // param: rows of a matrix of A and of results
const SN: u32 = 8u; // param: columns of a matrix of B and of results
const SK: u32 = 8u; // param: columns of a matrix of A, rows of one of B
const KS: u32 = 16u; // param: k per iteration, a multiple of SK and 4
// shared: operand_params from matmul
const A_VEC: u32 = 0u; // param: read A as scalars (0), or as vec4f along k (1) or m (2): stride 1 there, all else multiples of 4
const B_VEC: u32 = 0u; // param: the same of B, along k (1) or n (2)
alias A = f32; // param: element type of `a`, which a_1 or, with A_VEC, a_4 reads: vec4f
alias B = f32; // param: element type of `b`, the same
// end shared
alias T = f32; // param: type of the factors, f32 or f16; sums are f32
alias Left = subgroup_matrix_left<f32, 8, 8>; // param: of T, SK columns, SM rows
alias Right = subgroup_matrix_right<f32, 8, 8>; // param: of T, SN columns, SK rows
alias Result = subgroup_matrix_result<f32, 8, 8>; // param: of f32, SN columns, SM rows

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
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

const ROWS: u32 = TM * SM;
const COLUMNS: u32 = TN * SN;
var<workgroup> tile_a: array<T, ROWS * KS>; // [row, k]
var<workgroup> tile_b: array<T, KS * COLUMNS>; // [k, column]
var<workgroup> tile_c: array<f32, ROWS * COLUMNS>;

// shared: epilogue from matmul
// Four columns of C at `i` = batch, row, first column, with the elementwise ops that follow. Columns from N on are dropped.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
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

// The matrices with their first element at `at`. Only these functions use subgroup matrices: a test writes them out in plain
// WGSL.
fn load_left(at: u32) -> Left { // hook
  return subgroupMatrixLoad<Left, row_major>(&tile_a, at, KS);
}
fn load_right(at: u32) -> Right { // hook
  return subgroupMatrixLoad<Right, row_major>(&tile_b, at, COLUMNS);
}
fn multiply(x: Left, y: Right, sum: Result) -> Result { // hook
  return subgroupMatrixMultiplyAccumulate(x, y, sum);
}
fn store(at: u32, x: Result) { // hook
  subgroupMatrixStore<row_major>(&tile_c, at, x, COLUMNS);
}

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let tile = group.y * groups.x + group.x;
  let slice = tile / dims.row_tiles / dims.column_tiles;
  if (slice >= dims.slices) { return; }
  let row = tile / dims.row_step % dims.row_tiles * ROWS;
  let column = tile / dims.column_step % dims.column_tiles * COLUMNS;
  // shared: slice from matmul_workgroup
  let batch = slice % dims.batches;
  let i = vec3u(batch / dims.size_2 / dims.size_1, batch / dims.size_2 % dims.size_1, batch % dims.size_2);
  let begin = slice / dims.batches * dims.k_chunk;
  let end = min(begin + dims.k_chunk, dims.K);
  let a_batch = dims.a_offset + i.x * dims.a_0 + i.y * dims.a_1 + i.z * dims.a_2;
  let b_batch = dims.b_offset + i.x * dims.b_0 + i.y * dims.b_1 + i.z * dims.b_2;
  // end shared
  let four = vec4u(0u, 1u, 2u, 3u);

  var sums = array<Result, TM * TN>();
  for (var k = begin; k < end; k += KS) {
    for (var chunk = lane; chunk < ROWS * KS / 4u; chunk += SG) { // four values along m with A_VEC = 2, else along k
      let r = select(chunk / (KS / 4u), chunk % (ROWS / 4u) * 4u, A_VEC == 2u);
      let d = select(chunk % (KS / 4u) * 4u, chunk / (ROWS / 4u), A_VEC == 2u);
      let step = select(vec2u(0u, 1u), vec2u(1u, 0u), A_VEC == 2u);
      let exists = (vec4u(row + r) + four * step.x < vec4u(dims.M)) & (vec4u(k + d) + four * step.y < vec4u(end));
      let at = a_batch + min(row + r, dims.M - 1u) * dims.a_m + min(k + d, dims.K - 1u) * dims.a_k;
      var v = vec4f();
      if (A_VEC != 0u) {
        v = a_4(at);
      } else {
        v = vec4f(a_1(at), a_1(at + dims.a_k), a_1(at + 2u * dims.a_k), a_1(at + 3u * dims.a_k));
      }
      v = select(vec4f(), v, exists);
      for (var j = 0u; j < 4u; j++) { tile_a[(r + j * step.x) * KS + d + j * step.y] = T(v[j]); }
    }
    for (var chunk = lane; chunk < KS * COLUMNS / 4u; chunk += SG) { // four values along k with B_VEC = 1, else along n
      let d = select(chunk / (COLUMNS / 4u), chunk % (KS / 4u) * 4u, B_VEC == 1u);
      let n = select(chunk % (COLUMNS / 4u) * 4u, chunk / (KS / 4u), B_VEC == 1u);
      let step = select(vec2u(0u, 1u), vec2u(1u, 0u), B_VEC == 1u);
      let exists = (vec4u(k + d) + four * step.x < vec4u(end)) & (vec4u(column + n) + four * step.y < vec4u(dims.N));
      let at = b_batch + min(k + d, dims.K - 1u) * dims.b_k + min(column + n, dims.N - 1u) * dims.b_n;
      var v = vec4f();
      if (B_VEC != 0u) {
        v = b_4(at);
      } else {
        v = vec4f(b_1(at), b_1(at + dims.b_n), b_1(at + 2u * dims.b_n), b_1(at + 3u * dims.b_n));
      }
      v = select(vec4f(), v, exists);
      for (var j = 0u; j < 4u; j++) { tile_b[(d + j * step.x) * COLUMNS + n + j * step.y] = T(v[j]); }
    }
    workgroupBarrier();
    for (var d = 0u; d < KS; d += SK) {
      var right = array<Right, TN>();
      for (var n = 0u; n < TN; n++) { right[n] = load_right(d * COLUMNS + n * SN); }
      for (var m = 0u; m < TM; m++) {
        let left = load_left(m * SM * KS + d);
        for (var n = 0u; n < TN; n++) { sums[m * TN + n] = multiply(left, right[n], sums[m * TN + n]); }
      }
    }
    workgroupBarrier();
  }

  for (var m = 0u; m < TM; m++) {
    for (var n = 0u; n < TN; n++) { store(m * SM * COLUMNS + n * SN, sums[m * TN + n]); }
  }
  workgroupBarrier();
  for (var chunk = lane; chunk < ROWS * COLUMNS / 4u; chunk += SG) {
    let m = row + chunk / (COLUMNS / 4u);
    let n = column + chunk % (COLUMNS / 4u) * 4u;
    if (m < dims.M && n < dims.N) {
      let x = chunk * 4u;
      let v = epilogue(vec4f(tile_c[x], tile_c[x + 1u], tile_c[x + 2u], tile_c[x + 3u]), vec3u(batch, m, n));
      let at = ((dims.first + slice) * dims.M + m) * dims.N + n;
      c[at] = v.x;
      if (n + 1u < dims.N) { c[at + 1u] = v.y; }
      if (n + 2u < dims.N) { c[at + 2u] = v.z; }
      if (n + 3u < dims.N) { c[at + 3u] = v.w; }
    }
  }
}
