/** Models written out in plain f64 loops from the papers' equations: references where there is no golden case. */
export type Matrix = number[][];
export type Weights = Record<string, { shape: readonly number[]; data: ArrayLike<number> }>;

/** A weight as rows; a vector is one row. */
export function rows({ shape, data }: Weights[string]): Matrix {
  const width = shape[shape.length - 1];
  return Array.from({ length: data.length / width }, (_, i) =>
    Array.from({ length: width }, (_, j) => data[i * width + j]),
  );
}

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, x, i) => sum + x * b[i], 0);
export const add = (a: Matrix, b: Matrix): Matrix => a.map((row, i) => row.map((x, j) => x + b[i][j]));
export const mul = (a: Matrix, b: Matrix): Matrix => a.map((row, i) => row.map((x, j) => x * b[i][j]));
export const silu = (a: Matrix): Matrix => a.map((row) => row.map((x) => x / (1 + Math.exp(-x))));

export function softmax(row: readonly number[]): number[] {
  const top = Math.max(...row);
  const e = row.map((x) => Math.exp(x - top));
  const total = e.reduce((a, b) => a + b, 0);
  return e.map((x) => x / total);
}

/** x W^T + b by the names of a state dict. */
export function linear(w: Weights, name: string, x: Matrix): Matrix {
  const weight = rows(w[`${name}.weight`]);
  const bias = w[`${name}.bias`] && rows(w[`${name}.bias`])[0];
  return x.map((row) => weight.map((column, j) => dot(row, column) + (bias?.[j] ?? 0)));
}

export function layerNorm(w: Weights, name: string, x: Matrix, eps: number): Matrix {
  const [[scale], [shift]] = [rows(w[`${name}.weight`]), rows(w[`${name}.bias`])];
  return x.map((row) => {
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length;
    return row.map((v, i) => ((v - mean) / Math.sqrt(variance + eps)) * scale[i] + shift[i]);
  });
}

export function rmsNorm(w: Weights, name: string, x: Matrix, eps: number): Matrix {
  const [scale] = rows(w[`${name}.weight`]);
  return x.map((row) => row.map((v, i) => (v / Math.sqrt(dot(row, row) / row.length + eps)) * scale[i]));
}

/** Attention of `heads` heads, keys and values shared by groups of them; causal or full. */
export function attention(q: Matrix, k: Matrix, v: Matrix, heads: number, kvHeads: number, causal: boolean): Matrix {
  const size = q[0].length / heads;
  const part = (x: Matrix, h: number) => x.map((row) => row.slice(h * size, (h + 1) * size));
  const out: Matrix = q.map(() => []);
  for (let h = 0; h < heads; h++) {
    const own = Math.floor((h * kvHeads) / heads);
    const [qh, kh, vh] = [part(q, h), part(k, own), part(v, own)];
    qh.forEach((row, i) => {
      const weights = softmax((causal ? kh.slice(0, i + 1) : kh).map((key) => dot(row, key) / Math.sqrt(size)));
      for (let c = 0; c < size; c++) out[i].push(weights.reduce((sum, p, j) => sum + p * vh[j][c], 0));
    });
  }
  return out;
}

/** Rotary positions on each head, halves rotated (x cos + rotate_half(x) sin). */
export function rotate(x: Matrix, heads: number, theta = 10000): Matrix {
  const size = x[0].length / heads;
  return x.map((row, position) =>
    row.map((value, i) => {
      const c = i % size;
      const angle = position * theta ** ((-2 * (c % (size / 2))) / size);
      const other = c < size / 2 ? -row[i + size / 2] : row[i - size / 2];
      return value * Math.cos(angle) + other * Math.sin(angle);
    }),
  );
}
