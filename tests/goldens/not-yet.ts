/**
 * What the golden data holds and the library does not do yet. Such cases and variants count as skipped until the issue
 * is resolved. An entry that passes, or whose function exists, fails: take it off this list.
 */
type Why =
  /** There is no such function, module, optimiser or model. */
  | "missing"
  /** The function exists, and lacks an option or a rank. */
  | "option"
  /** It gives other numbers than torch: NaN, infinities, dtypes, zero gradients. */
  | "numbers";

interface Group {
  readonly kind: string;
  readonly issue: number;
  readonly why: Why;
  /** Names of cases, or lines of "case: item item" (variants, scenarios, schedules). */
  readonly names: string;
}

const groups: readonly Group[] = [
  {
    kind: "models",
    issue: 16,
    why: "missing",
    names: `
      anomalygpt asm-region autovp blip-adapter bubogpt-audio cogvlm cogvlm-format deepspeed-visualchat
      docowl15-format dreamllm dreamllm-format emu emu-seed-format family-preprocess ferret ferret-format fuyu
      fuyu-processing gpt4roi gpt4roi-format idefics instructblip internlm-xcomposer internlm-xcomposer2 kosmos2
      kosmos2-processing minigpt-v2 minigpt4 minigpt5 minigpt5-format mplug-docowl15 ms-deform-attn
      multimodal-gpt-lora ofa openflamingo paligemma pink pink-format pipeline-formats qwen-vl roi-align seed shikra
      shikra-format siglip-t5 sphinx`,
  },
];

/** Functions of the missing ops that are not the case's name in camelCase; "sg." and "x." where both could exist. */
export const names: Readonly<Record<string, readonly string[]>> = {
  allclose_equal: ["allclose", "equal"],
  gaussian_nll_loss: ["gaussianNLLLoss"],
  mod_scalar: ["fmod", "floorDivide"],
  pad_modes: ["sg.pad"],
  poisson_nll_loss: ["poissonNLLLoss"],
  softplus_beta: ["sg.softplus"],
  svd_rebuilt: ["svd"],
  svdvals: ["svd"],
  trace: ["x.trace"],
  tri_indices: ["trilIndices", "triuIndices"],
  unfold: ["sg.unfold"],
  var_mean: ["varMean", "stdMean"],
};

export interface NotYet {
  readonly issue: number;
  readonly why: Why;
}

/** By "ops/acos" (a case) or "ops/conv2d_ext/same" (an item of one). */
export const notYet: Readonly<Record<string, NotYet>> = Object.fromEntries(
  groups.flatMap(({ kind, issue, why, names }) =>
    names
      .trim()
      .split("\n")
      .flatMap((line) => {
        const [, name, list] = /^\s*(?:([\w-]+): )?(.*)$/.exec(line)!;
        return list.split(/\s+/).map((item) => [[kind, name, item].filter(Boolean).join("/"), { issue, why }] as const);
      }),
  ),
);
