// Attention, step 5: a subgroup is a block of queries. Each lane loads one key of a block, and shuffles broadcast it.
//
// Grid: ceil(T / SG) x H. No workgroup memory, no barrier: the subgroup loads k and v once.
enable subgroups;

const SG: u32 = 8u; // param: subgroup size, and the size of the workgroup
const D4_MAX: u32 = 16u; // param: at least D / 4

// shared: dims from attention_1_naive
struct Dims {
  T: u32, S: u32, D4: u32, // queries, keys, head size / 4
  causal: u32, // 1: query t sees the keys 0 … t
  scale: f32,
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> o: array<vec4f>;

@compute @workgroup_size(SG)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let t = group.x * SG + lane;
  let query = (group.y * dims.T + min(t, dims.T - 1u)) * dims.D4;
  let count = select(dims.S, min(group.x * SG + SG, dims.S), dims.causal == 1u);
  var row = array<vec4f, D4_MAX>();
  for (var d = 0u; d < dims.D4; d++) { row[d] = q[query + d] * dims.scale; }
  var sums = array<vec4f, D4_MAX>();
  var largest = -3.4e38;
  var total = 0.0;
  for (var base = 0u; base < count; base += SG) {
    let key = (group.y * dims.S + min(base + lane, dims.S - 1u)) * dims.D4;
    var scores = array<f32, SG>();
    for (var d = 0u; d < dims.D4; d++) {
      let part = k[key + d];
      let x = row[d];
      for (var j = 0u; j < SG; j++) { scores[j] += dot(x, subgroupShuffle(part, j)); }
    }
    var next = largest;
    for (var j = 0u; j < SG; j++) {
      let seen = base + j < dims.S && (dims.causal == 0u || base + j <= t);
      scores[j] = select(-3.4e38, scores[j], seen);
      next = max(next, scores[j]);
    }
    let rescale = exp(largest - next);
    largest = next;
    total *= rescale;
    for (var j = 0u; j < SG; j++) {
      scores[j] = exp(scores[j] - next);
      total += scores[j];
    }
    for (var d = 0u; d < dims.D4; d++) {
      let part = v[key + d];
      var sum = sums[d] * rescale;
      for (var j = 0u; j < SG; j++) { sum += scores[j] * subgroupShuffle(part, j); }
      sums[d] = sum;
    }
  }
  if (t >= dims.T) { return; }
  for (var d = 0u; d < dims.D4; d++) { o[query + d] = sums[d] / total; }
}
