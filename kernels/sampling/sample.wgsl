// Draws one token id per row of logits: temperature, then top-k, top-p and min-p, then inversion of the cumulative
// distribution over the kept ids in ascending order. Temperature 0 takes the first of the largest logits.
//
// Papers: top-p (https://arxiv.org/abs/1904.09751), min-p (https://arxiv.org/abs/2407.01082). The kept ids as in Hugging
// Face: top-k keeps logits equal to the k-th; top-p keeps the smallest set of the remaining ids whose mass reaches p, at
// least one, lower ids first among equals; min-p drops weights below minP times the largest.
// Shapes: logits [B, V]; params [B or 1, 4] = temperature, topK, topP, minP (0, 1, 0 = off); uniform [B]; ids [B].
// Grid: x = rows.
// Special: no sort. A radix select on the bits of the logits, BITS at a time, finds both thresholds from counts or masses.
//   Every invocation has its own bins, so that sums need no atomics and are the same in every run.
struct Dims {
  V: u32,
  params_stride: u32, // 0: all rows share the parameters
}

const LANES: u32 = 8u; // param: size of the workgroup
const BITS: u32 = 8u; // param: bits of a digit of the radix select; divides 32
const BINS: u32 = 1u << BITS;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read> uniform_: array<f32>;
@group(0) @binding(4) var<storage, read_write> ids: array<i32>;

var<workgroup> bins: array<f32, BINS * LANES>;
var<workgroup> lane_value: array<f32, LANES>;
var<workgroup> lane_index: array<u32, LANES>;

/// An unsigned integer with the order of the floats.
fn key_of(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return bits ^ select(0x80000000u, 0xffffffffu, (bits >> 31u) == 1u);
}

/// The largest key such that the measure of all keys from it on reaches the target.
struct Threshold {
  key: u32,
  above: f32, // measure of the larger keys
}

/// Measure = count of all logits, or (`mass`) weight of those from key `least` on.
fn threshold(base: u32, lane: u32, mass: bool, target_: f32, best: f32, temperature: f32, least: u32) -> Threshold {
  var found = Threshold(0u, 0.0);
  for (var shift = 32u; shift > 0u; shift -= BITS) {
    for (var i = 0u; i < BINS; i++) { bins[i * LANES + lane] = 0.0; }
    for (var i = lane; i < dims.V; i += LANES) {
      let x = logits[base + i];
      let key = key_of(x);
      // The higher digits must be those found. A shift by 32 is undefined, so the first iteration is special.
      let same = shift == 32u || (key >> (shift & 31u)) == (found.key >> (shift & 31u));
      if (same && key >= least) {
        bins[((key >> (shift - BITS)) & (BINS - 1u)) * LANES + lane] += select(1.0, exp((x - best) / temperature), mass);
      }
    }
    workgroupBarrier();
    for (var i = lane; i < BINS; i += LANES) {
      var sum = 0.0;
      for (var j = 0u; j < LANES; j++) { sum += bins[i * LANES + j]; }
      bins[i * LANES] = sum;
    }
    workgroupBarrier();
    var digit = 0u;
    var above = found.above;
    var next = found.above;
    for (var i = BINS; i > 0u; i--) {
      let sum = bins[(i - 1u) * LANES];
      if (sum <= 0.0) { continue; }
      digit = i - 1u; // stays at the lowest one with a measure when rounding keeps the target out of reach
      above = next;
      next += sum;
      if (next >= target_) { break; }
    }
    found = Threshold(found.key | (digit << (shift - BITS)), above);
    workgroupBarrier();
  }
  return found;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = group.x;
  let base = row * dims.V;
  let at = row * dims.params_stride;
  let temperature = params[at];
  let top_k = params[at + 1u];
  let top_p = params[at + 2u];
  let min_p = params[at + 3u];

  // Each invocation takes one stretch of ids, in order.
  let stretch = (dims.V + LANES - 1u) / LANES;
  let first = min(lane * stretch, dims.V);
  let end = min(first + stretch, dims.V);
  var best = bitcast<f32>(0xff800000u + 0u * dims.V); // -inf
  var best_id = first;
  var has_nan = false;
  for (var i = first; i < end; i++) {
    let x = logits[base + i];
    has_nan = has_nan || (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
    if (x > best) {
      best = x;
      best_id = i;
    }
  }
  lane_value[lane] = best;
  lane_index[lane] = select(best_id, 0xffffffffu, has_nan);
  workgroupBarrier();
  best = lane_value[0];
  best_id = lane_index[0];
  has_nan = best_id == 0xffffffffu;
  for (var j = 1u; j < LANES; j++) {
    has_nan = has_nan || lane_index[j] == 0xffffffffu;
    if (lane_value[j] > best) {
      best = lane_value[j];
      best_id = lane_index[j];
    }
  }
  workgroupBarrier();
  if (temperature == 0.0) {
    if (lane == 0u) { ids[row] = select(i32(best_id), -1, has_nan); }
    return;
  }

  var least = 0u; // smallest key that top-k keeps
  if (top_k > 0.0 && top_k < f32(dims.V)) { least = threshold(base, lane, false, top_k, best, temperature, 0u).key; }
  var cut = Threshold(least, 0.0);
  var equals = dims.V; // how many ids of key cut.key are kept
  if (top_p < 1.0) {
    var sum = 0.0;
    for (var i = first; i < end; i++) {
      let x = logits[base + i];
      if (key_of(x) >= least) { sum += exp((x - best) / temperature); }
    }
    lane_value[lane] = sum;
    workgroupBarrier();
    var total = 0.0;
    for (var j = 0u; j < LANES; j++) { total += lane_value[j]; }
    cut = threshold(base, lane, true, top_p * total, best, temperature, least);
    let x = bitcast<f32>(cut.key ^ select(0xffffffffu, 0x80000000u, (cut.key >> 31u) == 1u)); // the float of this key
    let count = ceil((top_p * total - cut.above) / exp((x - best) / temperature));
    equals = u32(clamp(count, 1.0, f32(dims.V)));
  }

  // Mass of the kept ids of each stretch; those equal to the cut are counted, and kept from the lowest id on.
  var sum = 0.0;
  var here = 0u;
  var weight = 0.0; // of an id at the cut
  for (var i = first; i < end; i++) {
    let x = logits[base + i];
    let key = key_of(x);
    if (key < cut.key) { continue; }
    let w = exp((x - best) / temperature);
    if (w < min_p) { continue; }
    if (key == cut.key) {
      here++;
      weight = w;
    } else {
      sum += w;
    }
  }
  lane_index[lane] = here;
  workgroupBarrier();
  var left = equals; // ids at the cut that this stretch may keep
  for (var j = 0u; j < lane; j++) { left -= min(left, lane_index[j]); }
  lane_value[lane] = sum + f32(min(left, here)) * weight;
  workgroupBarrier();
  var total = 0.0;
  for (var j = 0u; j < LANES; j++) { total += lane_value[j]; }
  let goal = uniform_[row] * total;
  var before = 0.0;
  var mine = lane; // the stretch that holds the goal
  var last = lane; // the last one with any mass, for a goal that rounding puts at the very end
  var reached = false;
  for (var j = 0u; j < LANES; j++) {
    if (lane_value[j] <= 0.0 || reached) { continue; }
    last = j;
    if (goal < before + lane_value[j]) {
      mine = j;
      reached = true;
    } else {
      before += lane_value[j];
    }
  }
  if (!reached) { mine = last; }
  if (lane != mine) { return; }
  if (!reached) { before -= lane_value[lane]; }
  var chosen = best_id;
  for (var i = first; i < end; i++) {
    let x = logits[base + i];
    let key = key_of(x);
    if (key < cut.key) { continue; }
    let w = exp((x - best) / temperature);
    if (w < min_p || w <= 0.0) { continue; }
    if (key == cut.key) {
      if (left == 0u) { continue; }
      left--;
    }
    chosen = i;
    before += w;
    if (goal < before) { break; }
  }
  ids[row] = select(i32(chosen), -1, has_nan); // no token of a row with NaN
}
