import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { HostArray } from "../../src/graph/dtype.ts";
import { TensorFiles } from "../../src/io/tensors.ts";
import { folder } from "../../src/runtime/node.ts";

const here = dirname(fileURLToPath(import.meta.url));
const shared = join(here, "../../../shared/goldens");

/** The folder of golden cases: SHADEGRAD_GOLDENS, else the shared one, else the compact copy beside this file. */
export const goldens = process.env.SHADEGRAD_GOLDENS ?? (existsSync(shared) ? shared : here);

export interface Case {
  readonly name: string;
  readonly path: string;
  readonly json: any;
}

/** All cases below `kind` ("optim", "models", …): the folders that hold a case.json. */
export function listCases(kind: string): Case[] {
  const root = join(goldens, kind);
  if (!existsSync(root)) return [];
  const found = readdirSync(root, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.name === "case.json",
  );
  return found
    .map((entry) => entry.parentPath)
    .sort()
    .map((path) => ({
      name: path.slice(root.length + 1),
      path,
      json: JSON.parse(readFileSync(join(path, "case.json"), "utf8")),
    }));
}

export const openCase = (path: string, file: string): Promise<TensorFiles> =>
  TensorFiles.open(folder(path), `${file}.safetensors`);

export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

/** The element furthest outside `atol + rtol*|want|`, as a message; undefined when all are within. */
export function mismatch(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tol: Tolerance,
  keep?: (i: number) => boolean,
): string | undefined {
  if (got.length !== want.length) return `${got.length} values, expected ${want.length}`;
  let worst = 1;
  let message: string | undefined;
  for (let i = 0; i < want.length; i++) {
    if ((keep && !keep(i)) || got[i] === want[i]) continue;
    const excess = Math.abs(got[i] - want[i]) / (tol.atol + tol.rtol * Math.abs(want[i]));
    if (Number.isNaN(excess) || excess > worst) {
      worst = excess;
      message = `at ${i}: got ${got[i]}, want ${want[i]} (${excess.toFixed(1)} times the tolerance)`;
      if (Number.isNaN(excess)) break;
    }
  }
  return message;
}

/** The rule for gradients of whole tensors: ||got - want|| <= relL2 ||want|| + floor sqrt(n). */
export function gradientMismatch(
  got: HostArray,
  want: HostArray,
  tol: { rel_l2: number; abs_floor: number },
): string | undefined {
  if (got.length !== want.length) return `${got.length} values, expected ${want.length}`;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    difference += (got[i] - want[i]) ** 2;
    norm += want[i] ** 2;
  }
  const limit = tol.rel_l2 * Math.sqrt(norm) + tol.abs_floor * Math.sqrt(want.length);
  return Math.sqrt(difference) <= limit ? undefined : `||got - want|| = ${Math.sqrt(difference)}, allowed ${limit}`;
}
