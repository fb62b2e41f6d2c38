// Attention, step 4: blocks of 16 keys and values in workgroup memory, which 32 queries share.
//
// Paper: FlashAttention (Dao et al. 2022). Grid: ceil(T / 32) x H.
// A key is loaded from storage once per block of queries, and o is rescaled once per block of keys.
const D4_MAX: u32 = 16u; // param: at least D / 4
const KEYS: u32 = 16u;

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

var<workgroup> k_block: array<vec4f, KEYS * D4_MAX>;
var<workgroup> v_block: array<vec4f, KEYS * D4_MAX>;

@compute @workgroup_size(32)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(global_invocation_id) id: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
  let t = min(id.x, dims.T - 1u);
  let query = (group.y * dims.T + t) * dims.D4;
  let first = group.y * dims.S * dims.D4;
  // All invocations go as far as the last query of the workgroup sees.
  let count = select(dims.S, min(group.x * 32u + 32u, dims.S), dims.causal == 1u);
  var row = array<vec4f, D4_MAX>();
  for (var d = 0u; d < dims.D4; d++) { row[d] = q[query + d] * dims.scale; }
  var sums = array<vec4f, D4_MAX>();
  var largest = -3.4e38;
  var total = 0.0;
  for (var base = 0u; base < count; base += KEYS) {
    for (var i = lane; i < KEYS * dims.D4; i += 32u) {
      let at = first + min(base * dims.D4 + i, dims.S * dims.D4 - 1u);
      k_block[i] = k[at];
      v_block[i] = v[at];
    }
    workgroupBarrier();
    var scores = array<f32, KEYS>();
    var next = largest;
    for (var j = 0u; j < KEYS; j++) {
      var score = 0.0;
      for (var d = 0u; d < dims.D4; d++) { score += dot(row[d], k_block[j * dims.D4 + d]); }
      let seen = base + j < dims.S && (dims.causal == 0u || base + j <= t);
      scores[j] = select(-3.4e38, score, seen);
      next = max(next, scores[j]);
    }
    let rescale = exp(largest - next);
    largest = next;
    total *= rescale;
    for (var d = 0u; d < dims.D4; d++) { sums[d] *= rescale; }
    for (var j = 0u; j < KEYS; j++) {
      let weight = exp(scores[j] - next);
      total += weight;
      for (var d = 0u; d < dims.D4; d++) { sums[d] += weight * v_block[j * dims.D4 + d]; }
    }
    workgroupBarrier();
  }
  if (id.x >= dims.T) { return; }
  for (var d = 0u; d < dims.D4; d++) { o[query + d] = sums[d] / total; }
}
