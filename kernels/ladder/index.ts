/** From the definition to the kernels of this library, one idea per step. The last step of each is the library's own. */
import attention1 from "./attention_1_naive.wgsl";
import attention2 from "./attention_2_online.wgsl";
import attention3 from "./attention_3_vec4.wgsl";
import attention4 from "./attention_4_workgroup.wgsl";
import attention5 from "./attention_5_subgroup.wgsl";
import matmul1 from "./matmul_1_naive.wgsl";
import matmul2 from "./matmul_2_vec4.wgsl";
import matmul3 from "./matmul_3_workgroup.wgsl";
import matmul4 from "./matmul_4_registers.wgsl";
import matmul5 from "./matmul_5_direct.wgsl";
import matmul6 from "./matmul_6_subgroup.wgsl";

export interface Step {
  readonly name: string;
  readonly code: string;
  /** What is new in this step, and why it should help. */
  readonly change: string;
  readonly why: string;
  /** Needs a fixed subgroup size, which is its parameter SG. */
  readonly subgroups?: boolean;
  /** Rows and columns (matmul), or queries (attention), that a workgroup covers. */
  tile(SG: number): readonly [number, number];
}

export const matmulSteps: readonly Step[] = [
  {
    name: "matmul_1_naive",
    code: matmul1,
    change: "one invocation per element of C",
    why: "the definition",
    tile: () => [8, 8],
  },
  {
    name: "matmul_2_vec4",
    code: matmul2,
    change: "an invocation computes four columns, B as vec4f",
    why: "one load of A serves four products",
    tile: () => [8, 32],
  },
  {
    name: "matmul_3_workgroup",
    code: matmul3,
    change: "16 × 16 tiles in workgroup memory",
    why: "the textbook: fewer storage loads on GPUs; on a CPU the same cache and two barriers per tile",
    tile: () => [16, 16],
  },
  {
    name: "matmul_4_registers",
    code: matmul4,
    change: "4 × 4 sums per invocation over those tiles",
    why: "five loads for sixteen products instead of two for one",
    tile: () => [32, 32],
  },
  {
    name: "matmul_5_direct",
    code: matmul5,
    change: "the same sums directly from storage",
    why: "the cache replaces the tile; no barrier",
    tile: () => [32, 32],
  },
  {
    name: "matmul_6_subgroup",
    code: matmul6,
    change: "A loaded once per subgroup and broadcast by shuffles",
    why: "a shuffle costs a fraction of a load",
    subgroups: true,
    tile: (SG) => [Math.min(SG, 8), 4 * SG],
  },
];

export const attentionSteps: readonly Step[] = [
  {
    name: "attention_1_naive",
    code: attention1,
    change: "one invocation per query, three passes over the keys",
    why: "the definition, without memory for the scores",
    tile: () => [16, 1],
  },
  {
    name: "attention_2_online",
    code: attention2,
    change: "online softmax: one pass, o rescaled when the maximum changes",
    why: "scores are computed once instead of three times",
    tile: () => [16, 1],
  },
  {
    name: "attention_3_vec4",
    code: attention3,
    change: "vec4f loads, q in private memory",
    why: "half of the loads of a score were of q",
    tile: () => [16, 1],
  },
  {
    name: "attention_4_workgroup",
    code: attention4,
    change: "blocks of 16 keys in workgroup memory, shared by 32 queries",
    why: "fewer storage loads; o is rescaled once per block",
    tile: () => [32, 1],
  },
  {
    name: "attention_5_subgroup",
    code: attention5,
    change: "each lane loads a key, shuffles broadcast it",
    why: "K and V are loaded once per subgroup, without barriers",
    subgroups: true,
    tile: (SG) => [SG, 1],
  },
];

/** The library's own kernels, as the last steps. */
export const best = {
  matmul: {
    name: "matmul",
    change: "16 or 32 rows, all loads before the arithmetic; any strides, split K, fused epilogue",
    why: "twice the products per load of B; loads before the arithmetic keep the sums in registers",
  },
  attention: {
    name: "attention",
    change: "two queries per lane, blocks of 16 keys, q and o in workgroup memory; masks, groups, any strides",
    why: "half the loads of K and V per query; workgroup memory is cheaper than registers that spill",
  },
} as const;

/** Uniform words of a matmul step. Rows are padded with zeros to multiples of 4: A [M, K4], B [K4, N4], C [M, N4]. */
export const matmulDims = (M: number, N: number, K: number): number[] => [M, N, K, pad4(K), pad4(N), pad4(N)];

export const pad4 = (n: number): number => Math.ceil(n / 4) * 4;
