import { beforeAll, describe, expect, test } from "vitest";
import type { DType } from "../../src/graph/dtype.ts";
import * as sg from "../../src/index.ts";
import type { TensorFiles } from "../../src/io/tensors.ts";
import { init } from "../../src/runtime/engine.ts";
import { flush } from "../../src/tensor/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { type Case, idOf, listCases, mismatch, openCase, skipIfNone, type Tolerance } from "./cases.ts";
import { notYet } from "./not-yet.ts";
import { calls, type Inputs } from "./ops-table.ts";

interface Variant {
  readonly name: string;
  readonly attrs: any;
  readonly inputs: Record<string, { dtype: string }>;
  readonly outputs: Record<string, unknown>;
  readonly grads: string[];
  readonly tol: { out: Tolerance; grad?: Tolerance };
}

const dtypes: Record<string, DType> = { F32: "f32", I32: "i32", U8: "bool" };

async function read(file: TensorFiles, name: string): Promise<Tensor> {
  const { data, shape } = await file.read(name);
  return sg.tensor(data, { shape, dtype: dtypes[file.entry(name).dtype] });
}

/** Everything wrong with one variant; empty when forward and gradients are within tolerance. */
async function problemsOf({ name }: Case, file: TensorFiles, v: Variant): Promise<string[]> {
  const inputs: Inputs = {};
  for (const key of Object.keys(v.inputs)) {
    inputs[key] = await read(file, `${v.name}/in.${key}`);
    if (v.grads.includes(key)) inputs[key].requiresGrad_();
  }
  const outputs = [await calls[name](inputs, v.attrs)].flat();
  const names = Object.keys(v.outputs);
  if (outputs.length !== names.length) return [`${outputs.length} outputs, expected ${names.length}`];
  for (const [i, output] of names.entries()) {
    const gout = `${v.name}/${output.replace("out", "gout")}`;
    if (v.grads.length > 0 && file.names.includes(gout)) outputs[i].backward(await read(file, gout));
  }
  const results = [
    ...names.map((output, i) => ({ output, got: outputs[i] as Tensor | null, tol: v.tol.out })),
    ...v.grads.map((key) => ({ output: `grad.${key}`, got: inputs[key].grad, tol: v.tol.grad! })),
  ];
  await flush(...results.flatMap(({ got }) => (got ? [got] : []))); // one plan for all
  const problems: string[] = [];
  for (const { output, got, tol } of results) {
    const want = await file.read(`${v.name}/${output}`);
    const dtype = dtypes[file.entry(`${v.name}/${output}`).dtype];
    const fits = got && got.shape.join() === want.shape.join() && got.dtype === dtype;
    const problem = fits
      ? mismatch(await got.data(), want.data, tol)
      : `${got?.dtype} [${got?.shape}], expected ${dtype} [${want.shape}]`;
    if (problem) problems.push(`${output}: ${problem}`);
  }
  return problems;
}

const cases = listCases("ops").filter(({ name }) => calls[name]);
const backends = process.env.SHADEGRAD_BACKEND ? [process.env.SHADEGRAD_BACKEND] : ["reference", "webgpu"];
/** Listed variants that failed on a backend, as they should. */
const stillFailing = new Set<string>();
const seen = new Set<string>();
/** The list was made on a software adapter; others may differ in NaN and infinities. */
let onSoftware = true;

skipIfNone("ops", cases);

describe.each(cases.length ? backends : [])("golden ops on %s", (backend) => {
  beforeAll(async () => {
    const device = await init({ backend: backend as "reference" | "webgpu" });
    if (device) onSoftware &&= device.kind === "software";
  });

  test.each(cases.map((golden) => ({ golden, title: `${golden.root.name}/ops/${golden.name}` })))(
    "$title",
    async ({ golden }) => {
      const file = await openCase(golden.path, "data");
      const problems: string[] = [];
      for (const variant of golden.json.variants as Variant[]) {
        const found = await problemsOf(golden, file, variant).catch((error: Error) => [error.message.split("\n")[0]]);
        const id = `${idOf(golden)}/${variant.name}`;
        if (id in notYet) {
          seen.add(id);
          if (found.length) stillFailing.add(id);
        } else problems.push(...found.map((problem) => `${variant.name} ${problem}`));
      }
      expect(problems).toEqual([]);
    },
  );
});

test("variants on the list of not-yet.ts fail; take those off that pass", () => {
  const checked = [...seen].filter((id) => onSoftware || notYet[id].why !== "numbers");
  expect(checked.filter((id) => !stillFailing.has(id))).toEqual([]);
});
