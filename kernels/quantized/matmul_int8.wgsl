// Product of two int8 matrices, C = A Bᵀ, each with one scale per group of neighbours along k: integer sums within a group,
// f32 sums of the groups.
//
// Paper: W8A8 as in LLM.int8() (https://arxiv.org/abs/2208.07339), with DP4A dot products.
// Shapes, with 16 codes per vec4u: a [M, groups * quads], signed codes of quantize_rows.wgsl; a_scales f32 [M, groups];
//   b [N, groups * quads], codes around 128 (src/ops/quantized.ts); b_scales, halves [N, groups];
//   c [splits, M, N], contiguous. With splits > 1 each split sums `chunk` groups; sum_parts.wgsl adds up the splits.
// Grid: y * grid_x + x = row tiles first, then column tiles, then splits. A workgroup of 8 x 8 invocations computes
//   8 * TM rows x 32 columns; each holds TM rows x 4 columns in registers.
const TM: u32 = 4u; // param: rows per invocation

struct Dims {
  M: u32, N: u32, groups: u32, quads: u32, // quads: vec4u of a group
  chunk: u32, row_tiles: u32, column_tiles: u32, splits: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<vec4u>;
@group(0) @binding(2) var<storage, read> a_scales: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<vec4u>;
@group(0) @binding(4) var<storage, read> b_scales: array<u32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;

// Four columns of C at `i` = 0, row, first column, with the elementwise ops that follow. Columns from N on are dropped.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}

// Sum of four products of signed bytes. The lowering writes it out if WGSL lacks packed_4x8_integer_dot_product.
fn dot4(x: u32, y: u32) -> i32 { // hook
  return dot4I8Packed(x, y);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) lane: vec3u) {
  let tile = group.y * groups.x + group.x;
  let row = (tile % dims.row_tiles * 8u + lane.y) * TM;
  let column = (tile / dims.row_tiles % dims.column_tiles * 8u + lane.x) * 4u;
  let slice = tile / dims.row_tiles / dims.column_tiles;
  if (slice >= dims.splits || row >= dims.M || column >= dims.N) { return; }
  let columns = min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(dims.N - 1u)) * dims.groups;
  var rows = array<u32, TM>();
  for (var r = 0u; r < TM; r++) { rows[r] = min(row + r, dims.M - 1u) * dims.groups; }

  var sums = array<vec4f, TM>();
  for (var g = slice * dims.chunk; g < min((slice + 1u) * dims.chunk, dims.groups); g++) {
    var dots = array<vec4i, TM>();
    for (var q = 0u; q < dims.quads; q++) {
      var w = array<vec4u, 4>();
      for (var n = 0u; n < 4u; n++) { w[n] = b[(columns[n] + g) * dims.quads + q] ^ vec4u(0x80808080u); } // c - 128, signed
      for (var r = 0u; r < TM; r++) {
        let x = a[(rows[r] + g) * dims.quads + q];
        for (var j = 0u; j < 4u; j++) {
          dots[r] += vec4i(dot4(x[j], w[0][j]), dot4(x[j], w[1][j]), dot4(x[j], w[2][j]), dot4(x[j], w[3][j]));
        }
      }
    }
    var scale = vec4f();
    for (var n = 0u; n < 4u; n++) { scale[n] = unpack2x16float(b_scales[(columns[n] + g) / 2u])[(columns[n] + g) % 2u]; }
    for (var r = 0u; r < TM; r++) { sums[r] += vec4f(dots[r]) * (a_scales[rows[r] + g] * scale); }
  }

  var results = sums; // a copy: see matmul_tiled.wgsl
  for (var m = row; m < min(row + TM, dims.M); m++) {
    let v = epilogue(results[m - row], vec3u(0u, m, column));
    let at = (slice * dims.M + m) * dims.N + column;
    c[at] = v.x;
    if (column + 1u < dims.N) { c[at + 1u] = v.y; }
    if (column + 2u < dims.N) { c[at + 2u] = v.z; }
    if (column + 3u < dims.N) { c[at + 3u] = v.w; }
  }
}
