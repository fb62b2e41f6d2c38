// Running totals along one dim: y[c] = x[0] ∘ … ∘ x[c] for sums, products, the position of the largest or smallest element,
// log-sum-exp, and the linear recurrence y[c] = x[c] · y[c - 1] + b[c].
//
// Papers: scan by tiles (Blelloch 1990) and within a tile (Hillis and Steele 1986), double-float arithmetic (Dekker 1971),
// the recurrence as a scan of affine maps (Martin and Cundy 2018, https://arxiv.org/abs/1709.04057).
// Shapes: x, b and y [outer, cols, inner]; a row is one outer and one inner index. States [rows, tiles].
// Grid: y * grid_x + x = groups of WG / LANES tiles; LANES invocations share a tile, each with `stretch` columns.
// Special: long rows take three dispatches: TOTALS of the tiles, a scan of these (STATES), and one that starts from them
//   (CARRY). Float sums and products are two floats, so that their error does not grow with the number of columns. Sums of
//   any kind are added in a fixed order.
const WG: u32 = 64u; // param: size of the workgroup
const LANES: u32 = 64u; // param: invocations per tile, a power of two that divides WG
const KIND: u32 = 0u; // param: 0 = sum, 1 = product, 2 = largest, 3 = smallest, 4 = log-sum-exp, 5 = linear recurrence
const TYPE: u32 = 0u; // param: 0 = f32, 1 = i32, 2 = u32
const TOTALS: bool = false; // param: write the state of each tile only
const STATES: bool = false; // param: input and output are states
const CARRY: bool = false; // param: tiles start from the states of those before

// inner: 1 where the dim is the last one. reverse: from the last column to the first. zero: 0, which the compiler cannot know.
struct Dims { rows: u32, cols: u32, inner: u32, tiles: u32, stretch: u32, reverse: u32, zero: u32 }

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> x: array<u32>; // bits of the elements
@group(0) @binding(2) var<storage, read> b: array<u32>; // of the recurrence
@group(0) @binding(3) var<storage, read> states: array<vec4u>; // of the tiles: totals (STATES) or running totals (CARRY)
@group(0) @binding(4) var<storage, read_write> y: array<u32>;
@group(0) @binding(5) var<storage, read_write> states_out: array<vec4u>; // with TOTALS or STATES

const LOWEST: u32 = 4286578687u; // bits of -3.4e38, not -inf: exp(-inf + inf) is NaN
const ONE: u32 = 1065353216u; // bits of 1.0
var<workgroup> scratch: array<vec4u, WG>;

// v, but the compiler cannot simplify differences of it.
fn opaque(v: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(v) ^ dims.zero);
}
// v, or 0 where it is infinite or NaN.
fn finite(v: f32) -> f32 {
  return select(0.0, v, (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u);
}
fn is_nan(bits: u32) -> bool {
  return (bits & 0x7fffffffu) > 0x7f800000u;
}

// high + low as two floats, the second below half a unit of the first.
fn normal(high: f32, low: f32) -> vec2f {
  let sum = opaque(high + low);
  return vec2f(sum, finite(low - opaque(sum - high)));
}

// Sum of two double-floats.
fn add(p: vec2f, q: vec2f) -> vec2f {
  let sum = opaque(p.x + q.x);
  let part = opaque(sum - p.x);
  let lost = (p.x - opaque(sum - part)) + (q.x - part);
  return normal(sum, finite(lost + (p.y + q.y)));
}

// The first 12 bits of the significand.
fn head(v: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(v) & 0xfffff000u);
}

// Product of two double-floats.
fn multiply(p: vec2f, q: vec2f) -> vec2f {
  let product = opaque(p.x * q.x);
  let heads = vec2f(head(p.x), head(q.x));
  let tails = vec2f(opaque(p.x - heads.x), opaque(q.x - heads.y));
  let lost = ((opaque(heads.x * heads.y - product) + heads.x * tails.y) + tails.x * heads.y) + tails.x * tails.y;
  return normal(product, finite(lost + (p.x * q.y + p.y * q.x)));
}

// shared: order
// A u32 with the order of the values. NaN comes last.
fn order(bits: u32) -> u32 {
  if (TYPE == 2u) { return bits; }
  if (TYPE == 1u) { return bits ^ 0x80000000u; }
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
  if (bits == 0x80000000u) { return 0x80000000u; } // -0 equals 0
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}
// end shared

// e^(v - top) for v <= top, 1 where both are the same infinity.
fn power(v: f32, top: f32) -> f32 {
  return select(exp(v - top), 1.0, v == top);
}

// The neutral state.
fn identity() -> vec4u {
  if (KIND == 1u) { return vec4u(select(1u, ONE, TYPE == 0u), 0u, 0u, 0u); }
  if (KIND == 4u) { return vec4u(LOWEST, 0u, 0u, 0u); }
  if (KIND == 5u) { return vec4u(ONE, 0u, 0u, 0u); }
  return vec4u();
}

// The state of one element.
fn element(at: u32, column: u32) -> vec4u {
  let bits = x[at];
  if (KIND == 2u) { return vec4u(order(bits), column, 0u, 0u); }
  if (KIND == 3u) { return vec4u(select(~order(bits), 0xffffffffu, TYPE == 0u && is_nan(bits)), column, 0u, 0u); }
  if (KIND == 4u) {
    if (is_nan(bits)) { return vec4u(LOWEST, bits, 0u, 0u); }
    return select(vec4u(bits, ONE, 0u, 0u), identity(), bits == 0xff800000u);
  }
  if (KIND == 5u) { return vec4u(bits, b[at], 0u, 0u); }
  return vec4u(bits, 0u, 0u, 0u);
}

// The state of columns after those of `p`.
fn join(p: vec4u, q: vec4u) -> vec4u {
  if (KIND == 2u || KIND == 3u) { return select(p, q, q.x >= p.x); }
  if (KIND == 4u) {
    let tops = bitcast<vec2f>(vec2u(p.x, q.x));
    let top = max(tops.x, tops.y);
    let sum = add(bitcast<vec2f>(p.yz) * power(tops.x, top), bitcast<vec2f>(q.yz) * power(tops.y, top));
    return vec4u(bitcast<u32>(top), bitcast<vec2u>(sum), 0u);
  }
  if (KIND == 5u) {
    let map = bitcast<vec2f>(q.xy);
    let before = bitcast<vec2f>(p.xy);
    return vec4u(bitcast<vec2u>(vec2f(before.x * map.x, map.x * before.y + map.y)), 0u, 0u);
  }
  if (TYPE != 0u) { return vec4u(select(p.x + q.x, p.x * q.x, KIND == 1u), 0u, 0u, 0u); }
  let pair = array<vec2f, 2>(bitcast<vec2f>(p.xy), bitcast<vec2f>(q.xy));
  if (KIND == 1u) { return vec4u(bitcast<vec2u>(multiply(pair[0], pair[1])), 0u, 0u); }
  return vec4u(bitcast<vec2u>(add(pair[0], pair[1])), 0u, 0u);
}

// The state after one more element, which x[at] or states[at] holds.
fn append(p: vec4u, at: u32, column: u32) -> vec4u {
  if (STATES) { return join(p, states[at]); }
  if (KIND != 0u || TYPE != 0u) { return join(p, element(at, column)); }
  let high = bitcast<f32>(p.x); // Kahan 1965
  let term = bitcast<f32>(x[at]) + bitcast<f32>(p.y);
  let sum = opaque(high + term);
  return vec4u(bitcast<u32>(sum), bitcast<u32>(finite(term - opaque(sum - high))), 0u, 0u);
}

// The result of a state.
fn value(s: vec4u) -> u32 {
  if (KIND == 2u || KIND == 3u || KIND == 5u) { return s.y; }
  if (KIND == 4u) {
    let sum = bitcast<f32>(s.y) + bitcast<f32>(s.z);
    return select(bitcast<u32>(bitcast<f32>(s.x) + log(sum)), 0xff800000u, sum == 0.0);
  }
  if (TYPE != 0u) { return s.x; }
  return bitcast<u32>(bitcast<f32>(s.x) + bitcast<f32>(s.y));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let wanted = ((group.y * groups.x + group.x) * WG + lane) / LANES;
  let id = min(wanted, dims.rows * dims.tiles - 1u); // surplus invocations have no columns: all must reach the barriers
  let row = id / dims.tiles;
  let tile = id % dims.tiles;
  let part = lane % LANES;
  let first = row / dims.inner * dims.cols * dims.inner + row % dims.inner;
  let origin = select(first, first + (dims.cols - 1u) * dims.inner, dims.reverse != 0u);
  let step = select(dims.inner, 0u - dims.inner, dims.reverse != 0u);
  let begin = min((tile * LANES + part) * dims.stretch, dims.cols);
  let end = select(begin, min(begin + dims.stretch, dims.cols), wanted == id);
  var carry = identity();
  if (LANES > 1u || TOTALS) {
    var total = identity();
    for (var c = begin; c < end; c++) { total = append(total, origin + c * step, c); }
    if (LANES > 1u) {
      scratch[lane] = total;
      for (var s = 1u; s < LANES; s *= 2u) {
        workgroupBarrier();
        if (part >= s) { total = join(scratch[lane - s], total); }
        workgroupBarrier();
        scratch[lane] = total;
      }
      workgroupBarrier();
      if (part > 0u) { carry = scratch[lane - 1u]; }
    }
    if (TOTALS) {
      if (part == LANES - 1u && wanted == id) { states_out[id] = total; }
      return;
    }
  }
  if (CARRY && tile > 0u) { carry = join(states[id - 1u], carry); }
  for (var c = begin; c < end; c++) {
    let at = origin + c * step;
    carry = append(carry, at, c);
    if (STATES) { states_out[at] = carry; } else { y[at] = value(carry); }
  }
}
