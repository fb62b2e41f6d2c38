// Attention, step 1: o = softmax(q kᵀ / sqrt(D)) v from the definition. One invocation per query, three passes over its keys.
//
// Shapes: q and o [H, T, D], k and v [H, S, D]. Grid: ceil(T / 16) x H.
// Scores are computed three times (maximum, sum, values), because there is no memory for them.

// shared: dims
struct Dims {
  T: u32, S: u32, D4: u32, // queries, keys, head size / 4
  causal: u32, // 1: query t sees the keys 0 … t
  scale: f32,
}
// end shared

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> o: array<f32>;

fn score(query: u32, key: u32) -> f32 {
  var sum = 0.0;
  for (var d = 0u; d < dims.D4 * 4u; d++) { sum += q[query + d] * k[key + d]; }
  return sum * dims.scale;
}

@compute @workgroup_size(16)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= dims.T) { return; }
  let D = dims.D4 * 4u;
  let query = (id.y * dims.T + id.x) * D;
  let keys = id.y * dims.S * D;
  let count = select(dims.S, min(id.x + 1u, dims.S), dims.causal == 1u);
  var largest = -3.4e38;
  for (var s = 0u; s < count; s++) { largest = max(largest, score(query, keys + s * D)); }
  var total = 0.0;
  for (var s = 0u; s < count; s++) { total += exp(score(query, keys + s * D) - largest); }
  for (var d = 0u; d < D; d++) { o[query + d] = 0.0; }
  for (var s = 0u; s < count; s++) {
    let weight = exp(score(query, keys + s * D) - largest) / total;
    for (var d = 0u; d < D; d++) { o[query + d] += weight * v[keys + s * D + d]; }
  }
}
