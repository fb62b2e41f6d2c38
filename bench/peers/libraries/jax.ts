import type * as Jaxjs from "@jax-js/jax";
import { type Case, concat, type Input } from "../../workloads/workload.ts";
import { type Opened, opening } from "../common/adapter.ts";

type Array = Jaxjs.numpy.Array;

export interface Jax {
  readonly name: string;
  readonly version: string;
  readonly opened: Opened;
  readonly jax: typeof Jaxjs;
  readonly np: typeof Jaxjs.numpy;
  put(input: Input): Array;
  /** A case of a jitted function of resident inputs. */
  bench(f: (...x: Array[]) => Array | Array[], ...inputs: Input[]): Case;
  /** The same without jit: one kernel per op. */
  eager(f: (...x: Array[]) => Array | Array[], ...inputs: Input[]): Case;
  /** A case of a jitted training step: (state, constants, scalars of step t) → (state, loss). */
  steps(state: Input[], constants: Input[], scalars: (t: number) => number[], step: (...x: Array[]) => Array[]): Case;
}

/** Adds iterator methods `map` and `filter`, which jax-js needs and Node has only since version 22. */
function addIteratorHelpers(): void {
  const iterator = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));
  for (const name of ["map", "filter"] as const) {
    if (name in iterator) continue;
    const value = function (this: Iterable<any>, f: (x: any) => any) {
      return ([...this] as any)[name](f)[Symbol.iterator]();
    };
    Object.defineProperty(iterator, name, { value, configurable: true, writable: true });
  }
}

export async function loadJax(): Promise<Jax> {
  addIteratorHelpers();
  const jax = await import("@jax-js/jax");
  const [, opened] = await opening(async () => {
    await jax.init("webgpu");
    jax.defaultDevice("webgpu");
  });
  const np = jax.numpy;
  const put = ({ data, shape }: Input) =>
    np.array(data as Float32Array<ArrayBuffer>, {
      shape: [...shape],
      dtype: data instanceof Int32Array ? jax.DType.Int32 : jax.DType.Float32,
    });
  const runner = (f: (...x: Array[]) => Array | Array[], inputs: Input[], done: () => void): Case => {
    const resident = inputs.map(put);
    let outputs: Array[] = [];
    return {
      async run() {
        for (const output of outputs) output.dispose();
        outputs = [f(...resident.map((x) => x.ref))].flat() as Array[];
        await jax.blockUntilReady(outputs);
      },
      result: async () => concat(await Promise.all(outputs.map((x) => x.ref.data()))),
      dispose() {
        for (const x of [...outputs, ...resident]) x.dispose();
        done();
      },
    };
  };
  return {
    name: "jax-js",
    version: "0.1.25",
    opened,
    jax,
    np,
    put,
    bench(f, ...inputs) {
      const jitted = jax.jit(f as any) as any;
      return runner(jitted, inputs, () => jitted.dispose());
    },
    eager: (f, ...inputs) => runner(f, inputs, () => {}),
    steps: (...x) => trainingCase({ jax, np, put }, ...x),
  };
}

/** The case of `Jax.steps`. */
function trainingCase(
  { jax, np, put }: Pick<Jax, "jax" | "np" | "put">,
  ...[state, constants, scalars, step]: Parameters<Jax["steps"]>
): Case {
  const jitted = jax.jit(step as any) as any;
  let current = state.map(put);
  const fixed = constants.map(put);
  const losses: number[] = [];
  let t = 0;
  return {
    async run() {
      const now = scalars(++t).map((x) => np.array(new Float32Array([x]), { shape: [] }));
      const outputs: Array[] = jitted(...current, ...fixed.map((x) => x.ref), ...now);
      const loss = outputs.pop()!;
      current = outputs;
      await jax.blockUntilReady([...outputs, loss]);
      if (t <= 3) losses.push(((await loss.data()) as Float32Array)[0]);
      else loss.dispose();
    },
    result: async () => Float32Array.from(losses),
    dispose() {
      for (const x of [...current, ...fixed]) x.dispose();
      jitted.dispose();
    },
  };
}
