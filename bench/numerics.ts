/**
 * `npm run bench:numerics`: the largest error of every op on this adapter, against f64 on the CPU (the reference backend), in
 * units in the last place of f32. `--write` puts the table of this adapter into docs/numerics.md.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { init, manualSeed, Tensor, tensor } from "../src/index.ts";

/** Samples per op. */
const COUNT = 1 << 17;
type Range = readonly [low: number, high: number];

/** Domains of ops of one operand: the finite range where the result is finite, or torch's usual one. Default: all sizes. */
const domains: Readonly<Record<string, Range>> = {
  acos: [-1, 1],
  acosh: [1, 1e18],
  asin: [-1, 1],
  atanh: [-1, 1],
  cos: [-100, 100],
  cosh: [-88, 88],
  erf: [-5, 5],
  erfc: [-5, 9],
  erfinv: [-1, 1],
  exp: [-87, 88],
  exp2: [-126, 127],
  expm1: [-20, 88],
  gelu: [-10, 10],
  log: [1e-37, 1e37],
  log10: [1e-37, 1e37],
  log1p: [-0.999, 1e18],
  log2: [1e-37, 1e37],
  logit: [0.001, 0.999],
  mish: [-20, 20],
  quickGelu: [-10, 10],
  rsqrt: [1e-37, 1e37],
  selu: [-20, 20],
  sigmoid: [-80, 80],
  silu: [-80, 80],
  sin: [-100, 100],
  sinc: [-10, 10],
  sinh: [-88, 88],
  softplus: [-80, 80],
  sqrt: [1e-37, 1e37],
  square: [-1e18, 1e18],
  tan: [-1.5, 1.5],
  tanh: [-20, 20],
};
/** Ops of two operands, with their domains. */
const binary: Readonly<Record<string, readonly [Range, Range]>> = {
  add: [
    [-1e30, 1e30],
    [-1e30, 1e30],
  ],
  atan2: [
    [-1e6, 1e6],
    [-1e6, 1e6],
  ],
  div: [
    [-1e18, 1e18],
    [1e-18, 1e18],
  ],
  floorDivide: [
    [-1e6, 1e6],
    [1e-3, 1e3],
  ],
  fmod: [
    [-1e6, 1e6],
    [1e-3, 1e3],
  ],
  hypot: [
    [-1e30, 1e30],
    [-1e30, 1e30],
  ],
  logaddexp: [
    [-80, 80],
    [-80, 80],
  ],
  maximum: [
    [-1e30, 1e30],
    [-1e30, 1e30],
  ],
  mul: [
    [-1e18, 1e18],
    [-1e18, 1e18],
  ],
  pow: [
    [1e-6, 1e6],
    [-6, 6],
  ],
  remainder: [
    [-1e6, 1e6],
    [1e-3, 1e3],
  ],
  sub: [
    [-1e30, 1e30],
    [-1e30, 1e30],
  ],
  xlogy: [
    [-1e6, 1e6],
    [1e-30, 1e30],
  ],
};
/** Methods of one operand that give one float per element. */
const unary = [
  ..."abs acos acosh asin asinh atan atanh ceil cos cosh erf erfc erfinv exp exp2 expm1 floor frac gelu hardsigmoid hardswish".split(
    " ",
  ),
  ..."log log10 log1p log2 logit mish neg quickGelu reciprocal relu round rsqrt selu sigmoid sign silu sin sinc sinh softplus".split(
    " ",
  ),
  ..."softsign sqrt square tan tanh tanhshrink trunc".split(" "),
];

const wholeRange: Range = [-1e18, 1e18];

/** A generator of numbers in [0, 1): the same samples on every machine. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Half of the samples are spread evenly over the range, half over its powers of two. */
function samples([low, high]: Range, seed: number): Float32Array {
  const next = random(seed);
  const least = low > 0 ? low : 1e-30;
  const logs = Math.log(high / least);
  return Float32Array.from({ length: COUNT }, (_, i) => {
    if (i % 2) return low + (high - low) * next();
    const size = least * Math.exp(next() * logs);
    return low < 0 && next() < 0.5 ? Math.max(low, -size) : Math.min(high, size);
  });
}

/** Floats in order as whole numbers: neighbours differ by 1. */
function ordinals(x: Float32Array): Int32Array {
  const bits = new Int32Array(x.buffer, x.byteOffset, x.length);
  return bits.map((b) => (b < 0 ? -2147483648 - b : b));
}

/** Largest distance in floats, and the index where it is. Results below the smallest normal number count as 0. */
function worst(got: Float32Array, want: Float32Array): { ulp: number; at: number } {
  const flushed = (x: Float32Array): Float32Array => x.map((v) => (Math.abs(v) < 2 ** -126 ? 0 : v));
  const [a, b] = [ordinals(flushed(got)), ordinals(flushed(want))];
  let [ulp, at] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    if (Number.isNaN(got[i]) && Number.isNaN(want[i])) continue;
    const distance = Math.abs(a[i] - b[i]);
    if (distance > ulp) [ulp, at] = [distance, i];
  }
  return { ulp, at };
}

interface Case {
  readonly name: string;
  readonly domain: string;
  readonly inputs: readonly Float32Array[];
  run(x: readonly Tensor[]): Tensor;
}

const method = (x: Tensor, name: string, ...args: unknown[]): Tensor =>
  (x as unknown as Record<string, (...a: unknown[]) => Tensor>)[name](...args);
const has = (name: string): boolean => name in Tensor.prototype;
const short = (v: number): string =>
  Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential().replace("e+", "e") : `${v}`;
const shown = ([low, high]: Range): string => `${short(low)} … ${short(high)}`.replace("0e0", "0");

const cases: Case[] = [
  ...unary.filter(has).map((name, i): Case => {
    const range = domains[name] ?? wholeRange;
    return { name, domain: shown(range), inputs: [samples(range, i + 1)], run: ([x]) => method(x, name) };
  }),
  ...Object.entries(binary)
    .filter(([name]) => has(name))
    .map(
      ([name, ranges], i): Case => ({
        name,
        domain: ranges.map(shown).join("; "),
        inputs: ranges.map((range, k) => samples(range, 100 + 2 * i + k)),
        run: ([a, b]) => method(a, name, b),
      }),
    ),
];

/** Sums and products of many values: errors relative to the sum of sizes. */
const positive = samples([0.5, 1.5], 300);
const signed = samples([-1, 1], 301);
const rows = (x: Tensor): Tensor => x.reshape([256, -1]);
const reductions: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  "sum of 131072": (x) => x.sum(),
  "mean of 131072": (x) => x.mean(),
  "var of 131072": (x) => x.var(),
  "norm of 131072": (x) => x.square().sum().sqrt(),
  "logsumexp of 131072": (x) => x.logsumexp(0),
  "cumsum of 131072": (x) => x.cumsum(0),
  "softmax of 512": (x) => rows(x).softmax(-1),
  "matmul, K = 512": (x) => rows(x).matmul(rows(x).t()),
};

async function results(
  backend: "webgpu" | "reference",
): Promise<{ name: string; adapter: string; data: Float32Array[] }> {
  const device = await init({ backend });
  manualSeed(0);
  const data: Float32Array[] = [];
  for (const { inputs, run } of cases) data.push(Float32Array.from(await run(inputs.map((x) => tensor(x))).data()));
  for (const input of [positive, signed])
    for (const run of Object.values(reductions)) data.push(Float32Array.from(await run(tensor(input)).data()));
  return { name: backend, adapter: device ? device.description : "", data };
}

const [got, want] = [await results("webgpu"), await results("reference")];
const lines = cases.map(({ name, domain, inputs }, i) => {
  const { ulp, at } = worst(got.data[i], want.data[i]);
  const where = ulp > 0 ? inputs.map((x) => Number(x[at].toPrecision(6))).join(", ") : "";
  return `| ${name} | ${domain} | ${ulp} | ${where} |`;
});
const sums = Object.keys(reductions).map((name, k) => {
  const errors = [0, 1].map((set) => {
    const at = cases.length + set * Object.keys(reductions).length + k;
    const size = want.data[at].reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    return got.data[at].reduce((most, v, i) => Math.max(most, Math.abs(v - want.data[at][i]) / size), 0);
  });
  return `| ${name} | ${errors.map((e) => e.toExponential(1)).join(" | ")} |`;
});
const section = `## ${got.adapter}
| op | values | largest error, ulp | at |
| --- | --- | --- | --- |
${lines.join("\n")}

Relative to the largest element of the result:

| op | values in 0.5 … 1.5 | values in -1 … 1 |
| --- | --- | --- |
${sums.join("\n")}
`;
console.log(section);
if (process.argv.includes("--write")) {
  const page = "docs/numerics.md";
  const old = readFileSync(page, "utf8");
  const [head, ...others] = old.split(/^(?=## )/m);
  const kept = others.filter((other) => !other.startsWith(`## ${got.adapter}\n`));
  writeFileSync(page, [head, ...kept, section].join(""));
}
