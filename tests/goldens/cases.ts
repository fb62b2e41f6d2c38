import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "vitest";
import { TensorFiles } from "../../src/io/tensors.ts";
import { folder } from "../../src/runtime/node.ts";

const here = dirname(fileURLToPath(import.meta.url));
const shared = join(here, "../../../shared");

/** A folder of golden data: `<path>/<kind>/<case>/case.json`. */
export interface Root {
  readonly name: string;
  readonly path: string;
}

/** One folder with a case.json. */
export interface Case {
  readonly root: Root;
  /** "ops", "models", "optim", … */
  readonly kind: string;
  /** The folder below the kind: "softmax". */
  readonly name: string;
  readonly path: string;
  readonly json: any;
}

/** "ops/softmax": what the lists of `not-yet.ts` call it, whatever its root. */
export const idOf = ({ kind, name }: Case): string => (name ? `${kind}/${name}` : kind);

/** SHADEGRAD_GOLDENS (a list, as PATH is), else every ../shared/goldens* there is, else the small copies in this folder. */
export function listRoots(given = process.env.SHADEGRAD_GOLDENS): Root[] {
  if (given) return given.split(delimiter).map((path) => ({ name: basename(path), path }));
  const found = existsSync(shared) ? readdirSync(shared).filter((name) => /^goldens/.test(name)) : [];
  if (found.length) return found.sort().map((name) => ({ name, path: join(shared, name) }));
  return [
    { name: "goldens", path: here },
    { name: "goldens-torch", path: join(here, "torch") },
    { name: "goldens-family", path: join(here, "family") },
  ];
}

const named = listRoots();
export const roots = named.filter(({ path }) => existsSync(path));
/** Roots that were asked for and are not there. */
export const missingRoots = named.filter(({ path }) => !existsSync(path));

/** A file or folder of the first root that has it, else of the copies in this folder. */
export const goldenFile = (...path: string[]): string | undefined =>
  [...roots.map((root) => root.path), here].map((root) => join(root, ...path)).find((found) => existsSync(found));

const kinds = [
  "ops",
  "nn",
  "optim",
  "autograd",
  "models",
  "training",
  "conversation",
  "formats",
  "preprocess",
  "tokenizer",
];

/** All cases of `kind`, of every root. */
export const listCases = (kind: string): Case[] => roots.flatMap((root) => casesOf(root, [kind]));

/** All cases of one root. */
export function casesOf(root: Root, of: readonly string[] = kinds): Case[] {
  return of.flatMap((kind) => {
    const path = join(root.path, kind);
    if (!existsSync(path)) return [];
    return readdirSync(path, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.name === "case.json")
      .map((entry) => entry.parentPath)
      .sort()
      .map((found) => ({
        root,
        kind,
        name: found.slice(path.length + 1),
        path: found,
        json: JSON.parse(readFileSync(join(found, "case.json"), "utf8")),
      }));
  });
}

/** Counts as one skipped test where the roots have no case of a kind that runs. */
export function skipIfNone(kind: string, cases: readonly unknown[]): void {
  if (cases.length > 0) return;
  const where = named.map(({ path }) => path).join(", ");
  console.warn(`skipped: no golden ${kind} to run at ${where}`);
  test.skip(`no golden ${kind} to run at ${where}`, () => {});
}

export const openCase = (path: string, file: string): Promise<TensorFiles> =>
  TensorFiles.open(folder(path), `${file}.safetensors`);

export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

/**
 * The element furthest outside `atol + rtol*|want|`, as a message; undefined when all are within.
 * NaN equals NaN, an infinity equals itself alone.
 */
export function mismatch(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { atol, rtol }: Tolerance,
  keep?: (i: number) => boolean,
): string | undefined {
  if (got.length !== want.length) return `${got.length} values, expected ${want.length}`;
  let worst = 1;
  let message: string | undefined;
  for (let i = 0; i < want.length; i++) {
    const [g, w] = [got[i], want[i]];
    if ((keep && !keep(i)) || Object.is(g, w) || g === w) continue;
    const finite = Number.isFinite(g) && Number.isFinite(w);
    const excess = finite ? Math.abs(g - w) / (atol + rtol * Math.abs(w)) : Infinity;
    if (excess > worst) {
      worst = excess;
      message = `at ${i}: got ${g}, want ${w}${finite ? ` (${excess.toFixed(1)} times the tolerance)` : ""}`;
    }
  }
  return message;
}

/** The rule for gradients of whole tensors: ||got - want|| <= rel_l2 ||want|| + abs_floor sqrt(n). */
export function gradientMismatch(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  tol: { rel_l2: number; abs_floor: number },
): string | undefined {
  if (got.length !== want.length) return `${got.length} values, expected ${want.length}`;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < want.length; i++) {
    if (Object.is(got[i], want[i]) && !Number.isFinite(want[i])) continue; // the same infinity, or NaN
    difference += (got[i] - want[i]) ** 2;
    norm += want[i] ** 2;
  }
  const limit = tol.rel_l2 * Math.sqrt(norm) + tol.abs_floor * Math.sqrt(want.length);
  return Math.sqrt(difference) <= limit ? undefined : `||got - want|| = ${Math.sqrt(difference)}, allowed ${limit}`;
}
