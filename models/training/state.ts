/** Checkpoints of a run: all state that it needs to continue with equal results. */

import { getRngState, setRngState, tensor } from "../../src/index.ts";
import {
  type FileSource,
  jsonBytes,
  namedPath,
  readJson,
  saveSafetensors,
  subfolder,
  TensorFiles,
  writeFile,
} from "../../src/io/index.ts";
import { type LossScaler, type Module, type Optimizer, type StateDict, setParameter } from "../../src/nn/index.ts";
import type { Evaluation } from "./train.ts";

/** The state of a run besides tensors. */
export interface RunState {
  readonly step: number;
  readonly losses: readonly number[];
  readonly evaluations: readonly Evaluation[];
  /** Values that must be equal for the run to continue: keys of the recipe, and figures of the data. */
  readonly identity: Identity;
}

export type Identity = Readonly<Record<string, unknown>>;

interface Parts {
  model: Module;
  optimizer: Optimizer;
  scaler?: LossScaler;
}

/** Two folders that alternate, so that one is complete while the other is written. */
const SLOTS = ["checkpoint-a", "checkpoint-b"] as const;
const LATEST = "latest.json";

const trained = (model: Module): StateDict =>
  Object.fromEntries([...model.namedParameters()].filter(([, t]) => t.requiresGrad));

const entries = (state: StateDict) =>
  Object.fromEntries(
    Object.entries(state).map(([name, t]) => [name, { shape: t.shape, dtype: t.dtype, read: () => t.data() }]),
  );

/** Writes the trained tensors, the optimizer, the generator and `state`, and last the pointer to them. */
export async function saveRun(output: FileSource, { model, optimizer, scaler }: Parts, state: RunState): Promise<void> {
  const known = (await output.size(LATEST)) !== undefined;
  const last = known ? (await readJson(output, LATEST).catch(() => undefined))?.folder : undefined;
  const folder = SLOTS[last === SLOTS[0] ? 1 : 0];
  const slot = subfolder(output, folder);
  await saveSafetensors(slot, "model.safetensors", entries(trained(model)));
  await saveSafetensors(slot, "optimizer.safetensors", entries(optimizer.stateDict()));
  const scaling = scaler?.state;
  await writeFile(slot, "state.json", [jsonBytes({ ...state, generator: getRngState(), scaling })]);
  await writeFile(output, LATEST, [jsonBytes({ folder, step: state.step })]);
}

/**
 * Restores the last checkpoint of `output`. Returns undefined if there is none.
 * @throws if it belongs to another run, with other data, recipe or parameters
 */
export async function resumeRun(
  output: FileSource,
  { model, optimizer, scaler }: Parts,
  identity: Identity,
): Promise<RunState | undefined> {
  if ((await output.size(LATEST)) === undefined) return undefined;
  const { location } = output;
  const { folder } = (await readJson(output, LATEST)) ?? {};
  const slot = subfolder(output, namedPath(folder, location, `${location}/${LATEST}: folder`));
  const { generator, scaling, ...state } = await readJson(slot, "state.json");
  const changed = Object.keys({ ...state.identity, ...identity }).filter(
    (key) => JSON.stringify(state.identity[key]) !== JSON.stringify(identity[key]),
  );
  if (changed.length) {
    const lines = changed.map(
      (key) => `${key} was ${JSON.stringify(state.identity[key])}, is ${JSON.stringify(identity[key])}`,
    );
    throw new Error(`${slot.location} is a checkpoint of another run: ${lines.join("; ")}`);
  }
  await loadAll(slot, "model.safetensors", trained(model));
  const file = await TensorFiles.open(slot, "optimizer.safetensors");
  const saved: StateDict = {};
  for (const name of file.names) {
    const { data, shape, dtype } = await file.read(name);
    saved[name] = tensor(data, { shape, dtype });
  }
  await optimizer.loadStateDict(saved);
  setRngState(generator);
  if (scaler) scaler.state = scaling;
  return state;
}

async function loadAll(slot: FileSource, name: string, own: StateDict): Promise<void> {
  const file = await TensorFiles.open(slot, name);
  const problems = Object.entries(own).flatMap(([key, { shape }]) => {
    if (!file.has(key)) return [`missing ${key}`];
    return String(file.entry(key).shape) === String(shape)
      ? []
      : [`${key} has shape [${file.entry(key).shape}], expected [${shape}]`];
  });
  problems.push(...file.names.filter((key) => !own[key]).map((key) => `unexpected ${key}`));
  if (problems.length) throw new Error(`${slot.location}/${name}: other parameters train here: ${problems.join("; ")}`);
  for (const [key, target] of Object.entries(own)) setParameter(target, await file.read(key));
}
