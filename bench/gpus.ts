import { kernelsOf } from "../src/bench/index.ts";
import {
  crossEntropy,
  type DeviceInfo,
  rand,
  rmsNorm,
  scaledDotProductAttention,
  type Tensor,
  tensor,
} from "../src/index.ts";

/** Facts of a typical discrete GPU, for lowerings. */
const info: DeviceInfo = {
  kind: "discrete",
  subgroupSize: 32,
  f16: true,
  f16Arithmetic: true,
  dot4: true,
  matrixUnits: [],
  timestamps: true,
  maxInvocations: 256,
  maxWorkgroupBytes: 16384,
  maxBindingBytes: 2 ** 30,
  maxStorageBuffers: 8,
  description: "discrete GPU",
};

/** Published peaks: f32 TFLOP/s and GB/s. */
const GPUS = { "RTX 4090": [82.6, 1008], "Arc A770": [17.2, 560], "M2 (10 cores)": [3.6, 100] } as const;

/** Operations per value of kernels whose lowering reports no flops. An exponential counts as one. */
const OPERATIONS: Record<string, number> = {
  softmax: 40,
  softmax_backward: 4,
  norm: 5,
  norm_backward: 12,
};

const leaf = (...shape: number[]): Tensor => rand(...shape).requiresGrad_();

function attention(H: number, T: number, S: number, D: number): Tensor[] {
  const [q, k, v] = [leaf(1, H, T, D), leaf(1, H, S, D), leaf(1, H, S, D)];
  const o = scaledDotProductAttention(q, k, v, { isCausal: T === S });
  if (T !== S) return [o];
  o.backward(rand(1, H, T, D));
  return [o, q.grad!, k.grad!, v.grad!];
}

function rows(f: (x: Tensor) => Tensor): Tensor[] {
  const x = leaf(4096, 4096);
  const y = f(x);
  y.backward(rand(...y.shape));
  return [y, x.grad!];
}

const WORK: Record<string, () => Tensor[]> = {
  "product 4096³": () => [rand(4096, 4096).matmul(rand(4096, 4096))],
  "product 512 × 4096 × 4096": () => [rand(512, 4096).matmul(rand(4096, 4096))],
  "one row × [4096, 4096] weights": () => [rand(1, 4096).matmul(rand(4096, 4096).t())],
  "causal attention 32 × 2048 × 128": () => attention(32, 2048, 2048, 128),
  "one token, 32 heads, 4096 keys": () => attention(32, 1, 4096, 128),
  "softmax 4096²": () => rows((x) => x.softmax(-1)),
  "RMS norm 4096²": () => rows((x) => rmsNorm(x, leaf(4096), 1e-6)),
  "cross-entropy 4096 × 32000": () => {
    const x = leaf(4096, 32000);
    crossEntropy(x, tensor(new Int32Array(4096))).backward();
    return [x.grad!];
  },
};

const WORDS: Record<string, number> = { f32: 1, u32: 1, i32: 1, vec2f: 2, vec3f: 3, vec4f: 4, vec4u: 4, vec2u: 2 };

/** Figures of a shader, parsed from its WGSL: 32-bit words of arrays per invocation, bytes of workgroup memory, invocations per workgroup. */
export function figuresOf(code: string): { registers: number; shared: number; invocations: number } {
  const known: Record<string, number | boolean> = {};
  const helpers = { min: Math.min, max: Math.max, select: (no: unknown, yes: unknown, c: boolean) => (c ? yes : no) };
  const value = (text: string): number => {
    const plain = text.replace(/\b(\d+)[ui]\b/g, "$1").replace(/\b(?:u32|f32)\(/g, "(");
    return Number(
      new Function(...Object.keys(helpers), ...Object.keys(known), `return ${plain};`)(
        ...Object.values(helpers),
        ...Object.values(known),
      ),
    );
  };
  for (const [, name, text] of code.matchAll(/^const (\w+)\s*(?::\s*(?:u32|i32|f32|bool)\s*)?=\s*([^;]+);/gm)) {
    if (/\b(?:vec|array|mat)/.test(text)) continue; // no size in a kernel depends on these
    known[name] = /^(true|false)$/.test(text.trim()) ? text.trim() === "true" : value(text);
  }
  const alias = Object.fromEntries(
    [...code.matchAll(/^alias (\w+)\s*=\s*(\w+);/gm)].map(([, name, type]) => [name, type]),
  );
  const words = (type: string): number => WORDS[alias[type] ?? type] ?? 1;
  const size = ([, type, count]: RegExpMatchArray): number => words(type) * Math.floor(value(count));
  const ARRAY = "array<(\\w+), ([^>]+)>";
  const sum = (pattern: RegExp): number => [...code.matchAll(pattern)].reduce((total, m) => total + size(m), 0);
  const group = /@workgroup_size\(([^)]+(?:\([^)]*\))?[^)]*)\)/.exec(code)![1];
  return {
    registers: sum(new RegExp(`^\\s+var \\w+ = ${ARRAY}\\(`, "gm")),
    shared: 4 * sum(new RegExp(`^var<workgroup> \\w+: ${ARRAY};`, "gm")),
    invocations: group.split(",").reduce((product, part) => product * value(part), 1),
  };
}

/** The table "On real GPUs" of kernels/README.md: resources of each kernel, and the share of a GPU's peak that its memory allows. */
export function gpuSection(): string {
  const lines: string[] = [];
  const done = new Set<string>();
  for (const [work, make] of Object.entries(WORK)) {
    for (const { kernel, code, flops, bytes, elements } of kernelsOf(make(), info)) {
      const { registers, shared, invocations } = figuresOf(code);
      const operations = flops ?? (OPERATIONS[kernel] ?? 1) * elements;
      const intensity = operations / bytes;
      const shares = Object.values(GPUS).map(
        ([tflops, gbs]) => `${percent(Math.min(1, (intensity * gbs) / 1000 / tflops))}`,
      );
      const line = `| ${kernel} | ${work} | ${short(operations)} | ${short(bytes)} | ${intensity.toPrecision(2)} | ${invocations} | ${registers} | ${shared} | ${shares.join(" | ")} |`;
      if (!done.has(line)) lines.push(line);
      done.add(line);
    }
  }
  return [
    `| kernel | work | operations | bytes | operations per byte | invocations | array registers per invocation | workgroup bytes | ${Object.keys(GPUS).join(" | ")} |`,
    `| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ${Object.keys(GPUS)
      .map(() => "---:")
      .join(" | ")} |`,
    ...lines,
  ].join("\n");
}

const percent = (x: number): string => `${Number((100 * x).toPrecision(2))} %`;

function short(x: number): string {
  const unit = ["", " k", " M", " G", " T"];
  const at = Math.min(unit.length - 1, Math.floor(Math.log10(Math.max(x, 1)) / 3));
  return `${Number((x / 1000 ** at).toPrecision(3))}${unit[at]}`;
}
