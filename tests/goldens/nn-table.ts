import * as sg from "../../src/index.ts";
import * as nn from "../../src/nn/index.ts";
import type { Pair } from "../../src/ops/conv.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { type Case, gradientMismatch, mismatch, openCase } from "./cases.ts";

type Layer = nn.Module & { forward(...inputs: Tensor[]): Tensor };

interface Known {
  /** Arguments of torch's constructor that it takes. */
  readonly keys: readonly string[];
  make(config: any): Layer;
}

/** Modules by torch's name. */
const modules: Readonly<Record<string, Known>> = {
  Conv2d: {
    keys: ["in_channels", "out_channels", "kernel_size", "stride", "padding", "groups", "bias"],
    make: ({ in_channels, out_channels, kernel_size, ...options }) =>
      new nn.Conv2d(in_channels, out_channels, kernel_size as Pair, options),
  },
  Embedding: {
    keys: ["num_embeddings", "embedding_dim"],
    make: ({ num_embeddings, embedding_dim }) => new nn.Embedding(num_embeddings, embedding_dim),
  },
  LayerNorm: {
    keys: ["normalized_shape", "eps"],
    make: ({ normalized_shape, eps }) => new nn.LayerNorm(normalized_shape[0], eps),
  },
  Linear: {
    keys: ["in_features", "out_features", "bias"],
    make: ({ in_features, out_features, bias = true }) => new nn.Linear(in_features, out_features, { bias }),
  },
};

/** What the module lacks for this case: itself, or arguments that are not neutral. Empty: it runs. */
export function lackingModule({ json: { module, config } }: Case): string[] {
  const known = modules[module];
  if (!known) return [module];
  const refused = Object.keys(config).filter((key) => config[key] && !known.keys.includes(key));
  return module === "LayerNorm" && config.normalized_shape.length > 1 ? [...refused, "normalized_shape"] : refused;
}

/** Everything wrong with one scenario: outputs, buffers after the call, gradients of parameters and inputs. */
export async function scenarioProblems({ path, json }: Case, scenario: string): Promise<string[]> {
  const { mode, grads } = json.scenarios[scenario];
  const [weights, given, outputs] = await Promise.all(["model", "inputs", "outputs"].map((f) => openCase(path, f)));
  const module = modules[json.module].make(json.config);
  module.loadStateDict(
    Object.fromEntries(await Promise.all(weights.names.map(async (name) => [name, await weights.read(name)]))),
  );
  module.train(mode === "train");
  const read = async (key: string): Promise<Tensor> => {
    const { data, shape, dtype } = await given.read(`${scenario}/${key}`);
    return sg.tensor(data, { shape, dtype });
  };
  const own = given.names
    .filter((name) => name.startsWith(`${scenario}/`))
    .map((name) => name.slice(scenario.length + 1));
  const leaves: Record<string, Tensor> = {};
  for (const key of own.filter((name) => !name.startsWith("gout"))) leaves[key] = await read(key);
  for (const key of grads as string[]) leaves[key]?.requiresGrad_();

  // One call with one input, or a call for each batch: x0, x1, …
  const results: Record<string, Tensor> = {};
  for (const [key, x] of Object.entries(leaves)) {
    const out = `out${/\d*$/.exec(key)![0]}`;
    results[out] = module.forward(x).keep();
    if (grads.length) results[out].backward(await read(own.includes(`gout.${out}`) ? `gout.${out}` : "gout"));
  }
  const problems: string[] = [];
  const check = async (
    name: string,
    got: Tensor | null | undefined,
    how: (got: any, want: any) => string | undefined,
  ) => {
    const file = name.startsWith("grad.") ? await openCase(path, "grads") : outputs;
    const want = await file.read(`${scenario}/${name}`);
    const fits = got && got.shape.join() === want.shape.join();
    const problem = fits ? how(await got.data(), want.data) : `shape [${got?.shape}], expected [${want.shape}]`;
    if (problem) problems.push(`${name}: ${problem}`);
  };
  const wanted = outputs.names.filter((name) => name.startsWith(`${scenario}/`));
  for (const name of wanted.map((full) => full.slice(scenario.length + 1))) {
    const got = results[name] ?? module.stateDict()[name.replace("state.", "")];
    await check(name, got, (g, w) => mismatch(g, w, json.tol.out));
  }
  const parameters = Object.fromEntries(module.namedParameters());
  for (const key of grads as string[]) {
    const leaf = leaves[key] ?? parameters[key];
    await check(`grad.${key}`, leaf?.grad, (g, w) => gradientMismatch(g, w, json.tol.grad));
  }
  return problems;
}
