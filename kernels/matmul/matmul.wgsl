// Batched matrix product C = A B with strided operands, in f32 whatever format the operands are stored in.
//
// Paper: register tiles of GotoBLAS (Goto and van de Geijn 2008), with the subgroup as the vector unit.
// Shapes: A [batch, M, K] with element (m, k) at a_offset + batch strides + m * a_m + k * a_k; B [batch, K, N] alike with
//   b_k and b_n. Strides count elements, so transposed, permuted and broadcast operands (stride 0) need no copy.
//   C [splits, batch, M, N], contiguous. With splits > 1 each split sums k_chunk products; sum_parts.wgsl adds up the splits.
// Grid: y * grid_x + x = row and column tiles, in the order of row_step and column_step, then slices (batch, split).
// Special: a subgroup computes TM rows x (4 * SG) columns, four columns per lane. The subgroup loads each value of A and B
//   once and broadcasts A by shuffles. All loads of an iteration precede its multiply-adds, because software adapters
//   allocate registers in program order.
// Caution: needs a subgroup size of exactly SG; matmul_tiled.wgsl needs no subgroups.
enable subgroups;

const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const TM: u32 = 16u; // param: rows of a tile: 4, 8, 16 or 32
const KS: u32 = 4u; // param: k per iteration, a multiple of 4, or 2 if no operand is read along k
const K_GUARD: bool = true; // param: false if K and k_chunk are multiples of KS
// shared: operand_params
const A_VEC: u32 = 0u; // param: read A as scalars (0), or as vec4f along k (1) or m (2): stride 1 there, all else multiples of 4
const B_VEC: u32 = 0u; // param: the same of B, along k (1) or n (2)
alias A = f32; // param: element type of `a`, which a_1 or, with A_VEC, a_4 reads: vec4f
alias B = f32; // param: element type of `b`, the same
// end shared
const B_GROUP: u32 = 0u; // param: with B_VEC = 1, neighbours along k that share a scale (b_scale), a multiple of KS; 0 = no scales
alias C = f32; // param: element type of `c`
const SLICED: bool = true; // param: several batches or splits; false: the grid is the tiles of one product, with rows on x if row_step is 1

// shared: dims
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

// shared: tile_shape
const HALF: u32 = min(TM, 16u); // rows of an array of sums: not every driver unrolls loops of more than 16
const WIDE: u32 = min(KS, 4u); // k that are added up before they join the sums
const CHUNKS: u32 = TM * KS / 4u; // vec4f of A per iteration
const T: u32 = (CHUNKS + SG - 1u) / SG; // chunks per lane: lane, lane + SG, …
const ROWS: u32 = select(1u, 4u, A_VEC == 2u); // a chunk is ROWS x DEPTH values of A
const DEPTH: u32 = 4u / ROWS;
const CHUNK_ROWS: u32 = TM / ROWS; // chunk = k / DEPTH * CHUNK_ROWS + row / ROWS
// end shared
const BLOCK: u32 = 64u; // products that are added up before they join the total
const FEW: bool = TM == 4u && B_VEC == 1u; // loads along k leave time to add up four blocks apart

// shared: epilogue
// Four columns of C at `i` = batch, row, first column, with the elementwise ops that follow. Columns from N on are dropped.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}
// end shared
// shared: store
// Stores four columns of C from `column` on, the first one at element `at`. May store halves.
fn store(at: u32, value: vec4f, column: u32) { // hook
  if (column < dims.N) { c[at] = value.x; }
  if (column + 1u < dims.N) { c[at + 1u] = value.y; }
  if (column + 2u < dims.N) { c[at + 2u] = value.z; }
  if (column + 3u < dims.N) { c[at + 3u] = value.w; }
}
// end shared

// shared: operands
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
// With B_GROUP: scale x and zero-point y of the group at `at`. The weight is (b_4 - y) * x.
fn b_scale(at: u32) -> vec2f { // hook
  return vec2f(1.0, 0.0);
}

// A chunk of A at element `at`, of which the first `left` values along k count.
fn load_a(at: u32, left: u32) -> vec4f {
  if (A_VEC != 0u) {
    let v = a_4(at);
    if (K_GUARD) { return select(vec4f(), v, (A_VEC == 2u && left > 0u) || left > 3u); }
    return v;
  }
  let s = dims.a_k;
  let v = vec4f(a_1(at), a_1(at + s), a_1(at + 2u * s), a_1(at + 3u * s));
  if (K_GUARD) { return select(vec4f(), v, vec4u(0u, 1u, 2u, 3u) < vec4u(left)); }
  return v;
}

// Four columns of row k of B.
fn load_b(columns: vec4u, k: u32, end: u32) -> vec4f {
  let at = columns + k * dims.b_k;
  var v = vec4f();
  if (B_VEC == 2u) {
    v = b_4(at.x);
  } else {
    v = vec4f(b_1(at.x), b_1(at.y), b_1(at.z), b_1(at.w));
  }
  if (K_GUARD) { return select(vec4f(), v, k < end); }
  return v;
}

// shared: tile_sums
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

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  var tile = select(group.yx, group.xy, dims.row_step == 1u); // row, column
  var i = vec4u(); // batch, and its three indices
  var begin = 0u;
  var end = dims.K;
  var a_first = dims.a_offset;
  var b_first = dims.b_offset;
  var c_row = 0u; // of the first row of this slice
  if (SLICED) {
    let at = group.y * groups.x + group.x;
    tile = vec2u(at / dims.row_step % dims.row_tiles, at / dims.column_step % dims.column_tiles);
    let slice = at / dims.row_tiles / dims.column_tiles;
    if (slice >= dims.slices) { return; }
    let batch = slice % dims.batches;
    i = vec4u(batch, batch / dims.size_2 / dims.size_1, batch / dims.size_2 % dims.size_1, batch % dims.size_2);
    begin = slice / dims.batches * dims.k_chunk;
    end = min(begin + dims.k_chunk, end);
    a_first += i.y * dims.a_0 + i.z * dims.a_1 + i.w * dims.a_2;
    b_first += i.y * dims.b_0 + i.z * dims.b_1 + i.w * dims.b_2;
    c_row = (dims.first + slice) * dims.M;
  }
  let row = tile.x * TM;
  let column = (tile.y * SG + lane) * 4u;
  // A known stride saves the read of its uniform.
  let a_m = select(dims.a_m, 1u, A_VEC == 2u);
  let a_k = select(dims.a_k, 1u, A_VEC == 1u);
  let b_k = select(dims.b_k, 1u, B_VEC == 1u);
  let b_n = select(dims.b_n, 1u, B_VEC == 2u);

  let last = select(dims.N - 1u, (dims.N - 1u) / 4u * 4u, B_VEC == 2u);
  let columns = b_first + min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(last)) * b_n;
  var chunks = array<u32, T>();
  for (var t = 0u; t < T; t++) {
    let chunk = lane + t * SG;
    chunks[t] = a_first + min(row + chunk % CHUNK_ROWS * ROWS, dims.M - ROWS) * a_m + chunk / CHUNK_ROWS * DEPTH * a_k;
  }

  // Sums of BLOCK products join the total as one value, which keeps rounding errors small. A rolled loop below indexes the
  // total, so that it lies in memory; the sums stay in registers.
  var total = array<vec4f, TM>();
  var blocks = array<vec4f, HALF>(); // with FEW: sums of up to four blocks, and of the earlier blocks
  var before = array<vec4f, HALF>();
  var scale = vec4f(1.0); // of the group, for each column
  var zero = vec4f();
  for (var block = begin; block < end; block += BLOCK) {
    let stop = min(block + BLOCK, end);
    var sums = array<vec4f, HALF>();
    var more = array<vec4f, HALF>(); // rows from HALF on
    for (var k = block; k < stop; k += KS) {
      if (B_GROUP > 0u && (k == block || k % max(B_GROUP, 1u) == 0u)) {
        let m = transpose(mat4x2f(b_scale(columns.x + k), b_scale(columns.y + k), b_scale(columns.z + k), b_scale(columns.w + k)));
        scale = m[0];
        zero = m[1];
      }
      var vb = array<vec4f, KS>();
      for (var j = 0u; j < KS; j += select(1u, 4u, B_VEC == 1u)) {
        if (B_VEC == 1u) {
          let at = columns + k + j;
          let m = transpose(mat4x4f(b_4(at.x), b_4(at.y), b_4(at.z), b_4(at.w)));
          for (var d = 0u; d < 4u; d++) {
            vb[j + d] = select(vec4f(), m[d], !K_GUARD || k + j < end);
            if (B_GROUP > 0u) { vb[j + d] = (vb[j + d] - zero) * scale; }
          }
        } else {
          vb[j] = load_b(columns, k + j, end);
        }
      }
      var va = array<vec4f, T>();
      for (var t = 0u; t < T; t++) {
        let chunk = lane + t * SG;
        if (chunk < CHUNKS) { va[t] = load_a(chunks[t] + k * a_k, end - min(end, k + chunk / CHUNK_ROWS * DEPTH)); }
      }
      accumulate(&sums, 0u, &va, &vb);
      if (TM > HALF) { accumulate(&more, HALF, &va, &vb); }
    }
    for (var r = 0u; r < HALF; r++) {
      if (FEW) {
        blocks[r] += sums[r];
      } else {
        total[r] += sums[r];
      }
      if (TM > HALF) { total[(r + HALF) % TM] += more[r]; }
    }
    if (FEW && block / BLOCK % 4u == 3u) {
      for (var r = 0u; r < HALF; r++) {
        before[r] += blocks[r];
        blocks[r] = vec4f();
      }
    }
  }
  if (FEW) {
    for (var r = 0u; r < HALF; r++) { total[r] = before[r] + blocks[r]; }
  }

  // The loop counts rows of C, so that drivers do not unroll it and its epilogue to the length of the array.
  for (var m = row; m < min(row + TM, dims.M); m++) {
    let v = epilogue(total[m - row], vec3u(i.x, m, column));
    let at = (c_row + m) * dims.N + column;
    store(at, v, column);
  }
}
