import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { parseRecipe, presets, type RunFacts, type RunResult, trainRecipe } from "../../models/training/index.ts";
import { init, memoryStats } from "../../src/index.ts";
import { Bar, bold, dim, duration, short, table } from "./terminal.ts";

export const summary = "trains LLaVA or mPLUG-Owl as a recipe says";

const HELP = `usage: shadegrad train recipe.json [--resume] [--dry-run] [--set key=value …]
       shadegrad train --presets

Trains as the recipe says; what was trained, loss.svg and log.json go to its output_dir. Keys are those of LLaVA's
scripts; a preset holds a paper's. A recipe names at least a preset and its places:

  { "preset": "llava-1.5-stage1", "model_name_or_path": "llava", "data_path": "pairs.json",
    "image_folder": "images", "output_dir": "out", "micro_batch_size": 4 }

  --resume   go on from the last checkpoint in output_dir (save_steps makes them)
  --dry-run  read and check everything, forecast memory, train nothing
  --set      replace a key of the recipe, as --set learning_rate=1e-4
  --presets  list the presets and what they set`;

export async function run(args: string[]): Promise<void> {
  const { values: options, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      resume: { type: "boolean", default: false },
      "dry-run": { type: "boolean", default: false },
      set: { type: "string", multiple: true, default: [] },
      presets: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (options.help) return console.log(HELP);
  if (options.presets) return console.log(presetList());
  if (positionals.length !== 1) throw new Error(`one recipe expected, got ${positionals.length}\n\n${HELP}`);
  const [path] = positionals;
  const recipe = parseRecipe({ ...readRecipe(path), ...Object.fromEntries(options.set.map(setting)) }, path);
  const device = await init();
  console.error(dim(device ? device.description : "f64 interpreter on the CPU"));

  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort(new Error("interrupted; --resume goes on from the last checkpoint")));
  const bar = new Bar(basename(path));
  const result = await trainRecipe(recipe, {
    resume: options.resume,
    dryRun: options["dry-run"],
    signal: stop.signal,
    onStart: (facts) => console.log(describe(facts)),
    onProgress: ({ step, total = step, meanLoss, learningRate, stepsPerSecond, workPerSecond, skipped }) => {
      const rate =
        stepsPerSecond >= 1 ? `${stepsPerSecond.toFixed(1)} steps/s` : `${(1 / stepsPerSecond).toFixed(1)} s/step`;
      const facts = [
        `loss ${meanLoss.toFixed(4)}`,
        `lr ${learningRate.toExponential(1)}`,
        rate,
        `${short(workPerSecond)} tokens/s`,
        `${duration((total - step) / stepsPerSecond)} left`,
      ];
      if (skipped) facts.push(`${skipped} skipped`);
      bar.update(step, total, facts.join("  "));
    },
    onEvaluation: ({ step, values }) => {
      const figures = Object.entries(values).map(([name, value]) => `${name} ${value.toPrecision(5)}`);
      bar.line(`step ${step}: evaluation ${figures.join("  ")}`);
    },
  });
  bar.end();
  if (result.written) console.log(outcome(result, recipe.output_dir));
}

function readRecipe(path: string): object {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`);
  }
}

/** Parses "key=value". A value that is no JSON is a string. */
function setting(text: string): [string, unknown] {
  const at = text.indexOf("=");
  if (at < 1) throw new Error(`--set ${text}: key=value expected`);
  const value = text.slice(at + 1);
  try {
    return [text.slice(0, at), JSON.parse(value)];
  } catch {
    return [text.slice(0, at), value];
  }
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** Facts before the first step: the trained parts, and the memory forecast. */
function describe({ parameters, adapted, unused, memory, ...facts }: RunFacts): string {
  const rows = parameters.map(({ part, values, trained }) => [
    part,
    short(values),
    trained ? short(trained) : "frozen",
    `${((100 * trained) / values).toFixed(trained && trained < values ? 2 : 0)} %`,
  ]);
  const { total, unbudgeted, ...kinds } = memory;
  const lines = [
    table(["part", "values", "trained", "share"], rows),
    table(
      ["GPU memory", "forecast"],
      [...Object.entries(kinds).map(([kind, bytes]) => [kind, mebibytes(bytes)]), ["total", mebibytes(total)]],
    ),
  ];
  if (unbudgeted !== undefined)
    lines.push(
      `memory_budget holds activations at ${mebibytes(kinds.activations)}; ${mebibytes(unbudgeted)} without it`,
    );
  const samples = [`${facts.samples} samples`, `${facts.steps} steps`];
  if (facts.rows < facts.samples) samples.push(`packed into ${facts.rows} rows an epoch`);
  if (facts.cut) samples.push(`${facts.cut} samples are longer than model_max_length and lose their end`);
  if (facts.evaluationSamples) samples.push(`${facts.evaluationSamples} samples for evaluation`);
  if (adapted.length) samples.push(`LoRA in ${adapted.length} layers`);
  if (facts.resumedAt) samples.push(`going on from step ${facts.resumedAt}`);
  lines.push(samples.join(", "));
  if (unused.length)
    lines.push(
      `no gradient reaches ${unused.length} parameters, they are frozen: ${unused.slice(0, 4).join(", ")}${unused.length > 4 ? ", …" : ""}`,
    );
  return lines.join("\n");
}

function outcome({ losses, skipped, written }: RunResult, output: string): string {
  const facts = [`${losses.length} steps`, `loss ${losses[0].toFixed(4)} → ${losses[losses.length - 1].toFixed(4)}`];
  if (skipped) facts.push(`${skipped} steps skipped because gradients overflowed`);
  facts.push(`peak ${mebibytes(memoryStats().peakBytes)} of GPU memory`);
  return `${facts.join(", ")}\n${bold(`${output}/${written}`)}, with loss.svg and log.json`;
}

function presetList(): string {
  return Object.entries(presets)
    .map(
      ([name, keys]) =>
        `${bold(name)}\n  ${Object.entries(keys)
          .map(([key, value]) => `${key} ${JSON.stringify(value)}`)
          .join(", ")}`,
    )
    .join("\n");
}
