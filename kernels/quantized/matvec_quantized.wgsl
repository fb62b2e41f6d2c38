// Few rows times a packed matrix: c[m, n] = sum over k of a[m, k] w[n, k], with w in int8, int4 or nf4 and one scale per
// group (layout: src/ops/quantized.ts).
//
// Source: the integer kernels of bitnet.cpp and llama.cpp mask codes in place; here with fields of 16 bits, not bytes.
// Shapes: a [M, K]; w [N, chunks * WORDS] vec4u, 32 values per chunk; scales, halves [N, groups]; c [M, N], contiguous.
// Grid: x (and y beyond its limit) = tiles of TM rows x ROWS columns, rows first, so that w stays in the cache.
// Special: a subgroup computes ROWS columns. Its lanes lie along k; each takes 32 values at a time, which share a scale.
//   Codes are masked, not shifted: field i of 16 bits reads as code * 2^(bits * i), exact in f32, and the activations
//   carry the inverse factor, once for all columns. A zero-point costs nothing per weight: zero * (sum of a) is subtracted
//   from the sum.
// Caution: needs a subgroup size of exactly SG.
enable subgroups;

const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const TM: u32 = 1u; // param: rows of a tile
const ROWS: u32 = 8u; // param: columns of c (rows of w) of a subgroup, a multiple of 4
const FORMAT: u32 = 4u; // param: 8 = int8, 4 = int4, 0 = nf4
const ZEROS: bool = false; // param: a zero-point after each scale
const VEC: bool = false; // param: read a by vec4f: K is a multiple of 4
alias A = f32; // param: element type of `a`: vec4f with VEC

struct Dims {
  M: u32, N: u32, K: u32, row_tiles: u32, chunks: u32, groups: u32, shift: u32, // chunks, groups: per row of w; group = chunk >> shift
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> w: array<vec4u>;
@group(0) @binding(3) var<storage, read> scales: array<u32>; // halves
@group(0) @binding(4) var<storage, read_write> c: array<f32>;

// Four columns of C at `i` = 0, row, first column, with the elementwise ops that follow. Columns from N on are dropped.
fn epilogue(value: vec4f, i: vec3u) -> vec4f { // hook
  return value;
}

// Values of nf4 codes: a tree of selections by their bits, because an array with computed indices lies in memory.
fn nf4(codes: vec4u) -> vec4f {
  let b0 = (codes & vec4u(1u)) != vec4u();
  let b1 = (codes & vec4u(2u)) != vec4u();
  let b2 = (codes & vec4u(4u)) != vec4u();
  let t0 = select(pair(-1.0, -0.6961928009986877, b0), pair(-0.5250730514526367, -0.39491748809814453, b0), b1);
  let t1 = select(pair(-0.28444138169288635, -0.18477343022823334, b0), pair(-0.09105003625154495, 0.0, b0), b1);
  let t2 = select(pair(0.07958029955625534, 0.16093020141124725, b0), pair(0.24611230194568634, 0.33791524171829224, b0), b1);
  let t3 = select(pair(0.44070982933044434, 0.5626170039176941, b0), pair(0.7229568362236023, 1.0, b0), b1);
  return select(select(t0, t1, b2), select(t2, t3, b2), (codes & vec4u(8u)) != vec4u());
}

fn pair(even: f32, odd: f32, bit: vec4<bool>) -> vec4f {
  return select(vec4f(even), vec4f(odd), bit);
}

// One activation, and four from a multiple of 4 on, as in matmul.wgsl.
fn a_1(at: u32) -> f32 { // hook
  return vec4f(a[at]).x;
}
fn a_4(at: u32) -> vec4f { // hook
  return vec4f(a[at / 4u]);
}

// Four activations from `k` on, 0 from K on. The lowering may read codes of quantize_rows.wgsl here.
fn load_a(row: u32, k: u32) -> vec4f { // hook
  let at = row * dims.K + k;
  if (VEC) { return select(vec4f(), a_4(at), k < dims.K); }
  let exists = vec4u(k) + vec4u(0u, 1u, 2u, 3u) < vec4u(dims.K);
  return select(vec4f(), vec4f(a_1(at), a_1(at + 1u), a_1(at + 2u), a_1(at + 3u)), exists);
}

// Four neighbouring codes as masked, times powers of 2 that `factors` inverts.
fn fields(word: u32, quad: u32) -> vec4f {
  if (FORMAT == 8u) {
    let high = word >> 16u;
    return vec4f(vec4i(vec4u(word, word, high, high) & vec4u(0xffu, 0xff00u, 0xffu, 0xff00u)));
  }
  let half = word >> (16u * quad);
  if (FORMAT == 4u) { return vec4f(vec4i(vec4u(half) & vec4u(0xfu, 0xf0u, 0xf00u, 0xf000u))); }
  return nf4(vec4u(half) >> vec4u(0u, 4u, 8u, 12u));
}

// Inverse factors of `fields`.
fn factors() -> vec4f {
  if (FORMAT == 8u) { return vec4f(1.0, 0.00390625, 1.0, 0.00390625); }
  if (FORMAT == 4u) { return vec4f(1.0, 0.0625, 0.00390625, 0.000244140625); }
  return vec4f(1.0);
}

// Scale of a group and zero-point.
fn load_scale(group: u32) -> vec2f {
  if (ZEROS) { return unpack2x16float(scales[group]); }
  return vec2f(unpack2x16float(scales[group / 2u])[group & 1u], select(8.0, 128.0, FORMAT == 8u));
}

const WORDS: u32 = select(1u, 2u, FORMAT == 8u); // vec4u of a chunk
const QUADS: u32 = 8u / (4u * WORDS); // vec4f of codes in a word

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = group.y * groups.x + group.x;
  let first = tile % dims.row_tiles * TM;
  let column = tile / dims.row_tiles * ROWS;
  if (column >= dims.N) { return; }
  let last = min(column + ROWS, dims.N);
  var sums = array<f32, TM * ROWS>();
  for (var chunk = lane; chunk < dims.chunks; chunk += SG) {
    var x = array<vec4f, 8u * TM>();
    var totals = array<f32, TM>();
    for (var m = 0u; m < TM; m++) {
      for (var j = 0u; j < 8u; j++) {
        let v = load_a(min(first + m, dims.M - 1u), chunk * 32u + j * 4u);
        totals[m] += v.x + v.y + v.z + v.w;
        x[m * 8u + j] = v * factors();
      }
    }
    for (var row = column; row < last; row++) { // rolled: sums lie in memory, but compilation takes a tenth
      let scale = load_scale(row * dims.groups + (chunk >> dims.shift));
      var part = array<f32, TM>();
      for (var j = 0u; j < WORDS; j++) {
        let words = w[(row * dims.chunks + chunk) * WORDS + j];
        for (var q = 0u; q < 4u * QUADS; q++) {
          let v = fields(words[q / QUADS], q % QUADS);
          for (var m = 0u; m < TM; m++) { part[m] += dot(v, x[m * 8u + j * 4u + q]); }
        }
      }
      for (var m = 0u; m < TM; m++) {
        let product = select(part[m] - scale.y * totals[m], part[m], FORMAT == 0u);
        sums[m * ROWS + row - column] += scale.x * product;
      }
    }
  }
  for (var m = first; m < min(first + TM, dims.M); m++) {
    for (var n = column; n < last; n += 4u) {
      let at = (m - first) * ROWS + n - column;
      let total = subgroupAdd(vec4f(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]));
      if (lane == 0u) {
        let v = epilogue(total, vec3u(0u, m, n));
        let to = m * dims.N + n;
        c[to] = v.x;
        if (n + 1u < dims.N) { c[to + 1u] = v.y; }
        if (n + 2u < dims.N) { c[to + 2u] = v.z; }
        if (n + 3u < dims.N) { c[to + 3u] = v.w; }
      }
    }
  }
}
