import {
  crossEntropy,
  layerNorm,
  rand,
  rmsNorm,
  scaledDotProductAttention,
  type Tensor,
  tensor,
} from "../../src/index.ts";
import { type QuantFormat, QuantizedWeight, quantizedLinear } from "../../src/nn/index.ts";

interface Work {
  readonly name: string;
  make(): Tensor | Tensor[];
}

const product = (M: number, N: number, K: number, batch: number[] = []): Work[] => {
  const name = `matmul_${[...batch, M, N, K].join("x")}`;
  return [
    { name, make: () => rand(...batch, M, K).matmul(rand(...batch, K, N)) },
    { name: `${name}_a_bt`, make: () => rand(...batch, M, K).matmul(rand(...batch, N, K).transpose(-1, -2)) },
    {
      name: `${name}_at_b`,
      make: () =>
        rand(...batch, K, M)
          .transpose(-1, -2)
          .matmul(rand(...batch, K, N)),
    },
  ];
};

/** M rows times packed weights [N, K]. */
const packed = (format: QuantFormat, M: number, N: number, K: number): Work => ({
  name: `${format}_${M}x${N}x${K}`,
  make: () => quantizedLinear(rand(M, K), new QuantizedWeight([N, K], { format })),
});

/** Attention of heads, queries, keys, head size; with gradients if there are as many queries as keys. */
function attention(H: number, T: number, S: number, D: number): Work {
  const make = (): Tensor | Tensor[] => {
    const [q, k, v] = [T, S, S].map((n) => rand(1, H, n, D).requiresGrad_());
    const o = scaledDotProductAttention(q, k, v, { isCausal: T === S });
    if (T !== S) return o;
    o.backward(rand(1, H, T, D));
    return [o, q.grad!, k.grad!, v.grad!];
  };
  return { name: `attention_${H}x${T}x${S}x${D}`, make };
}

/** A function of rows with its gradient. */
function rows(name: string, count: number, columns: number, f: (x: Tensor) => Tensor): Work {
  const make = (): Tensor[] => {
    const x = rand(count, columns).requiresGrad_();
    const y = f(x);
    y.backward(rand(...y.shape));
    return [y, x.grad!];
  };
  return { name: `${name}_${count}x${columns}`, make };
}

/** Common sizes of training, prefill and decoding. */
export const works: readonly Work[] = [
  ...[128, 256, 512, 1024].flatMap((n) => product(n, n, n)),
  ...[1, 4, 8, 32].flatMap((M) => product(M, 2048, 2048).slice(0, 2)),
  ...(["int8", "int4", "nf4"] as const).flatMap((f) => [1, 4, 8, 128].map((M) => packed(f, M, 2048, 2048))),
  ...product(512, 256, 256),
  ...product(512, 1024, 256),
  ...product(512, 256, 1024),
  ...product(512, 4096, 256).slice(0, 2),
  ...product(128, 128, 64, [32]),
  attention(8, 128, 128, 32),
  attention(8, 512, 512, 64),
  attention(8, 1024, 1024, 64),
  attention(8, 256, 256, 128),
  attention(8, 1, 512, 64),
  attention(8, 1, 2048, 128),
  ...[
    [64, 256],
    [512, 1024],
    [4096, 1024],
  ].flatMap(([n, columns]) => [
    rows("softmax", n, columns, (x) => x.softmax(-1)),
    rows("layernorm", n, columns, (x) => layerNorm(x, rand(columns), rand(columns), 1e-5)),
    rows("rmsnorm", n, columns, (x) => rmsNorm(x, rand(columns), 1e-5)),
  ]),
  {
    name: "cross_entropy_512x32000",
    make: () => {
      const x = rand(512, 32000).requiresGrad_();
      const loss = crossEntropy(x, tensor(Int32Array.from({ length: 512 }, (_, i) => (i * 37) % 32000)));
      loss.backward();
      return [loss, x.grad!];
    },
  },
];
