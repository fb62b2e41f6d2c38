import * as sg from "../../src/index.ts";
import * as nn from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { type Case, gradientMismatch, mismatch, openCase } from "./cases.ts";

type Inputs = Record<string, Tensor>;

interface Known {
  /** Arguments of torch's constructor that it takes; the others must be neutral. */
  readonly keys: readonly string[];
  make(config: any): nn.Module;
  /** The outputs by name. By default the inputs are arguments in the order of their names, and the result is "out". */
  call?(module: any, inputs: Inputs, args: any): Record<string, Tensor>;
}

/** torch's name of an argument or input in camelCase. */
const camel = (name: string): string => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
const camelKeys = <T>(values: Record<string, T>): Record<string, T> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [camel(name), value]));

/** A module whose constructor takes these arguments of torch by position, and all others as options. */
function known(
  type: new (...args: any[]) => nn.Module,
  positional: readonly string[],
  options: readonly string[],
  call?: Known["call"],
): Known {
  return {
    keys: [...positional, ...options],
    call,
    make(config) {
      const rest = Object.fromEntries(options.filter((key) => key in config).map((key) => [key, config[key]]));
      const given = positional.map((key) => config[key]);
      return options.length ? new type(...given, camelKeys(rest)) : new type(...given);
    },
  };
}

/** A module that takes tensors by position, and the inputs of other names (masks) as options. */
const withOptions =
  (...positional: readonly string[]): Known["call"] =>
  (module, inputs, args) => {
    const options = Object.fromEntries(Object.entries(inputs).filter(([name]) => !positional.includes(name)));
    const given = positional.filter((name) => inputs[name]).map((name) => inputs[name]);
    return { out: module.forward(...given, camelKeys({ ...options, ...args })) };
  };

const recurrent = (type: new (...args: any[]) => nn.Module, extra: readonly string[] = []): Known =>
  known(
    type,
    ["input_size", "hidden_size"],
    ["num_layers", "bias", "batch_first", "dropout", "bidirectional", ...extra],
    (module, { x, h0, c0 }): Record<string, Tensor> => {
      const [out, last] = module.forward(x, ...(h0 ? [c0 ? [h0, c0] : h0] : []));
      return Array.isArray(last) ? { out, hn: last[0], cn: last[1] } : { out, hn: last };
    },
  );

/** x [N, I] is one step; x [3, N, I] are three, with outputs h0, h1, h2. */
const cell = (type: new (...args: any[]) => nn.Module, extra: readonly string[] = []): Known =>
  known(type, ["input_size", "hidden_size"], ["bias", ...extra], (module, { x, h, c }) => {
    const step = (input: Tensor, state: Tensor[]): Tensor[] =>
      [module.forward(input, state.length === 2 ? state : state[0])].flat();
    let state = c ? [h, c] : [h];
    if (x.ndim === 2) {
      state = step(x, state);
      return { h: state[0], ...(c && { c: state[1] }) };
    }
    return Object.fromEntries([0, 1, 2].map((t) => [`h${t}`, (state = step(x.select(0, t), state))[0]]));
  });

const convolution = (type: new (...args: any[]) => nn.Module, extra: readonly string[] = ["padding_mode"]): Known =>
  known(
    type,
    ["in_channels", "out_channels", "kernel_size"],
    ["stride", "padding", "dilation", "groups", "bias", ...extra],
  );

const running = (type: new (...args: any[]) => nn.Module): Known =>
  known(type, ["num_features"], ["eps", "momentum", "affine", "track_running_stats"]);

const layerOptions = [
  "dim_feedforward",
  "dropout",
  "activation",
  "layer_norm_eps",
  "batch_first",
  "norm_first",
  "bias",
] as const;

/** "Conv2d(2,4,3,padding=1)" as a module: positions, then options. */
function parseLayer(text: string): nn.Layer {
  const [, name, list = ""] = /^(\w+)(?:\((.*)\))?$/.exec(text)!;
  const args = list.split(",").filter(Boolean);
  const options = args.filter((arg) => arg.includes("=")).map((arg) => arg.split("="));
  const given: unknown[] = args.filter((arg) => !arg.includes("=")).map(Number);
  if (options.length) given.push(camelKeys(Object.fromEntries(options.map(([key, value]) => [key, Number(value)]))));
  return new (nn as any)[name](...given);
}

/** Modules by torch's name. */
const modules: Readonly<Record<string, Known>> = {
  BatchNorm1d: running(nn.BatchNorm1d),
  BatchNorm2d: running(nn.BatchNorm2d),
  Bilinear: known(nn.Bilinear, ["in1_features", "in2_features", "out_features"], ["bias"]),
  Conv1d: convolution(nn.Conv1d),
  Conv2d: convolution(nn.Conv2d),
  Conv3d: convolution(nn.Conv3d),
  ConvTranspose1d: convolution(nn.ConvTranspose1d, ["output_padding"]),
  ConvTranspose2d: convolution(nn.ConvTranspose2d, ["output_padding"]),
  Embedding: known(nn.Embedding, ["num_embeddings", "embedding_dim"], ["padding_idx"]),
  EmbeddingBag: known(
    nn.EmbeddingBag,
    ["num_embeddings", "embedding_dim"],
    ["mode"],
    (module: nn.EmbeddingBag, { ids, offsets, weights }) => ({ out: module.forward(ids, offsets, weights) }),
  ),
  GroupNorm: known(nn.GroupNorm, ["num_groups", "num_channels"], ["eps", "affine"]),
  GRU: recurrent(nn.GRU),
  GRUCell: cell(nn.GRUCell),
  InstanceNorm2d: running(nn.InstanceNorm2d),
  LayerNorm: known(nn.LayerNorm, ["normalized_shape", "eps"], []),
  Linear: known(nn.Linear, ["in_features", "out_features"], ["bias"]),
  LSTM: recurrent(nn.LSTM, ["proj_size"]),
  LSTMCell: cell(nn.LSTMCell),
  MultiheadAttention: known(
    nn.MultiheadAttention,
    ["embed_dim", "num_heads"],
    ["dropout", "bias", "kdim", "vdim", "batch_first"],
    (module: nn.MultiheadAttention, { query, key, value, attn_mask, key_padding_mask }, args) => {
      const masks = { attnMask: attn_mask, keyPaddingMask: key_padding_mask };
      const [out, weights] = module.forward(query, key, value, { ...masks, ...camelKeys(args) });
      return { out, weights };
    },
  ),
  PReLU: known(nn.PReLU, ["num_parameters"], []),
  RNN: recurrent(nn.RNN, ["nonlinearity"]),
  RNNCell: cell(nn.RNNCell, ["nonlinearity"]),
  Sequential: {
    keys: ["layers"],
    make: ({ layers }) => new nn.Sequential(...layers.map(parseLayer)),
    call: (module: nn.Sequential, { x }, { dropout }) => {
      for (const layer of module.modules())
        if (layer instanceof nn.Dropout && dropout !== undefined) Object.assign(layer, { p: dropout });
      return { out: module.forward(x) };
    },
  },
  Transformer: {
    keys: ["d_model", "nhead", "num_encoder_layers", "num_decoder_layers", ...layerOptions],
    make: (config) => new nn.Transformer(camelKeys(config)),
    call: withOptions("src", "tgt"),
  },
  TransformerDecoderLayer: known(
    nn.TransformerDecoderLayer,
    ["d_model", "nhead"],
    layerOptions,
    withOptions("tgt", "memory"),
  ),
  TransformerEncoder: {
    keys: ["num_layers", "norm", "layer"],
    make: ({ num_layers, norm, layer: { d_model, nhead, ...options } }) =>
      new nn.TransformerEncoder(new nn.TransformerEncoderLayer(d_model, nhead, camelKeys(options)), num_layers, {
        norm: norm ? new nn.LayerNorm(d_model) : undefined,
      }),
    call: withOptions("src"),
  },
  TransformerEncoderLayer: known(nn.TransformerEncoderLayer, ["d_model", "nhead"], layerOptions, withOptions("src")),
};

/** What the module lacks for this case: itself, or arguments that are not neutral. Empty: it runs. */
export function lackingModule({ json: { module, config } }: Case): string[] {
  const found = modules[module];
  if (!found) return [module];
  return Object.keys(config).filter((key) => config[key] && !found.keys.includes(key));
}

/** Everything wrong with one scenario: outputs, buffers after the call, gradients of parameters and inputs. */
export async function scenarioProblems({ path, json }: Case, scenario: string): Promise<string[]> {
  const { mode, grads, args = {} } = json.scenarios[scenario];
  const [weights, given, outputs] = await Promise.all(["model", "inputs", "outputs"].map((f) => openFile(path, f)));
  const { make, call = (module: any, x: Inputs) => ({ out: module.forward(...Object.values(x)) }) } =
    modules[json.module];
  const module = make(json.config);
  module.loadStateDict(
    Object.fromEntries(await Promise.all(weights.names.map(async (n) => [n, await weights.read(n)]))),
  );
  module.train(mode === "train");
  const read = async (key: string): Promise<Tensor> => {
    const { data, shape, dtype } = await given.read(`${scenario}/${key}`);
    const x = sg.tensor(data, { shape, dtype });
    return /mask/.test(key) && dtype !== "f32" ? x.to("bool") : x;
  };
  const own = given.names
    .filter((name) => name.startsWith(`${scenario}/`))
    .map((name) => name.slice(scenario.length + 1));
  const inputs: Inputs = {};
  for (const key of own.filter((name) => !name.startsWith("gout"))) inputs[key] = await read(key);
  for (const key of grads as string[]) inputs[key]?.requiresGrad_();

  const found: Record<string, { shape: readonly number[]; data: ArrayLike<number> }> = {};
  const note = async (name: string, x: Tensor): Promise<void> => {
    found[name] = { shape: x.shape, data: (await x.data()).slice() };
  };
  const parameters = Object.fromEntries(module.namedParameters());
  const gradients = (): Map<string, Tensor> =>
    new Map(
      (grads as string[]).flatMap((key) => {
        const g = (inputs[key] ?? parameters[key])?.grad;
        return g ? [[key, g] as const] : [];
      }),
    );
  // One call; or a call for each batch x0, x1, … with outputs out0, state0.*, …
  const batches = "x0" in inputs ? Object.keys(inputs) : [""];
  for (const batch of batches) {
    const n = batch.slice(1);
    const results = call(module, batch ? { x: inputs[batch] } : inputs, args);
    for (const [name, output] of Object.entries(results)) {
      const key = `${name}${n}`;
      output.keep();
      const g = own.includes(`gout.${key}`) ? `gout.${key}` : key === "out" ? "gout" : undefined;
      if (grads.length && g) output.backward(await read(g));
    }
    // Together: one plan, and nothing is computed twice.
    await sg.flush(...Object.values(results), ...gradients().values());
    for (const [name, output] of Object.entries(results)) await note(`${name}${n}`, output);
    for (const [name, buffer] of module.namedBuffers()) await note(`state${n}.${name}`, buffer);
  }
  for (const [key, g] of gradients()) await note(`grad.${key}`, g);

  const problems: string[] = [];
  const check = async (name: string, how: (got: any, want: any) => string | undefined) => {
    const file = name.startsWith("grad.") ? await openFile(path, "grads") : outputs;
    const want = await file.read(`${scenario}/${name}`);
    const got = found[name];
    const fits = got && got.shape.join() === want.shape.join();
    const problem = fits ? how(got.data, want.data) : `shape [${got?.shape}], expected [${want.shape}]`;
    if (problem) problems.push(`${name}: ${problem}`);
  };
  const wanted = outputs.names.filter((name) => name.startsWith(`${scenario}/`));
  for (const name of wanted.map((full) => full.slice(scenario.length + 1)))
    await check(name, (g, w) => mismatch(g, w, json.tol.out));
  for (const key of grads as string[]) await check(`grad.${key}`, (g, w) => gradientMismatch(g, w, json.tol.grad));
  return problems;
}

/** A file of a case; without tensors where a module has none. */
const openFile = async (path: string, file: string) =>
  (await openCase(path, file).catch(() => undefined)) ?? {
    names: [],
    read: () => Promise.reject(new Error(`no ${file}`)),
  };
