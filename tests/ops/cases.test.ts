/**
 * Small inputs and right values by kind of fault (PyTorch's semantics). The files are `numerics.json` in the folders of
 * SHADEGRAD_CASES (a list, as PATH is), else in ../shared/cases*. A case is an expression over the exports of the package.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import * as models from "../../models/index.ts";
import { root } from "../../scripts/environment.mjs";
import * as sg from "../../src/index.ts";
import * as io from "../../src/io/index.ts";
import * as nn from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import { flush } from "../../src/tensor/engine.ts";

/** Kinds that wait for another change. Take off the line of a kind whose cases pass. */
const waiting: Readonly<Record<string, string>> = {
  "EXIF, tRNS and IEND of images": "image decoder",
};

interface Case {
  readonly id: string;
  readonly kind: string;
  readonly js: string;
  readonly want?: readonly unknown[];
  /** An error at the call that matches. */
  readonly throws?: string;
  readonly rtol?: number;
  readonly atol?: number;
  readonly init?: { readonly f16?: "native" | "storage" };
  readonly backends?: readonly string[];
}

function listFiles(given = process.env.SHADEGRAD_CASES): string[] {
  const shared = join(root, "../shared");
  const folders = existsSync(shared) ? readdirSync(shared).filter((name) => /^cases/.test(name)) : [];
  const roots = given ? given.split(delimiter) : folders.map((name) => join(shared, name));
  return roots.map((path) => join(path, "numerics.json")).filter((path) => existsSync(path));
}

const cases = listFiles().flatMap((path) => JSON.parse(readFileSync(path, "utf8")).cases as Case[]);
test.skipIf(cases.length > 0)("no folder of SHADEGRAD_CASES or ../shared/cases has a numerics.json", () => undefined);

const scope: Record<string, unknown> = { ...io, ...models, ...nn, ...sg };
const names = Object.keys(scope).filter((name) => name !== "default");
const evaluate = (js: string): unknown =>
  new Function(...names, `"use strict"; return (\n${js}\n);`)(...names.map((name) => scope[name]));

/** All numbers of a result: of a tensor, a number, a boolean, a string, or nested lists of these. */
async function valuesOf(result: unknown): Promise<unknown[]> {
  const value = await result;
  if (value instanceof sg.Tensor) return [...(await value.data())];
  if (ArrayBuffer.isView(value)) return [...(value as Float32Array)];
  if (!Array.isArray(value)) return [typeof value === "boolean" ? Number(value) : value];
  const parts: unknown[] = [];
  for (const part of value) parts.push(...(await valuesOf(part)));
  return parts;
}

const special: Readonly<Record<string, number>> = { NaN, Infinity, "-Infinity": -Infinity, "-0": -0 };

/** Whether a value is the wanted one. A wanted 0 is either zero, "-0" the negative one alone. */
function isSame(got: unknown, want: unknown, { rtol = 0, atol = 0 }: Case): boolean {
  if (typeof want === "string" && !(want in special)) return got === want; // a dtype
  if (typeof got !== "number") return false;
  const w = typeof want === "string" ? special[want] : Number(want);
  if (Number.isNaN(w) || Object.is(w, -0)) return Object.is(got, w);
  if (got === w || got === Math.fround(w)) return true;
  return Number.isFinite(got) && Number.isFinite(w) && Math.abs(got - w) <= atol + rtol * Math.abs(w);
}

async function check(c: Case): Promise<void> {
  sg.manualSeed(0);
  if (c.throws) {
    await expect((async () => evaluate(c.js))()).rejects.toThrow(new RegExp(c.throws, "i"));
    return;
  }
  const got = await valuesOf(evaluate(c.js));
  const want = [c.want].flat(9);
  const same = got.length === want.length && got.every((x, i) => isSame(x, want[i], c));
  if (!same) expect(got, c.js).toEqual(want.map((w) => special[w as string] ?? w));
  expect(same, c.js).toBe(true);
}

describe.each(cases.length > 0 ? (["reference", "webgpu"] as const) : [])("numeric cases on %s", (backend) => {
  const own = cases.filter(({ backends }) => !backends || backends.includes(backend));
  const byInit = new Map<string, Case[]>();
  for (const c of own)
    byInit.set(JSON.stringify(c.init ?? {}), [...(byInit.get(JSON.stringify(c.init ?? {})) ?? []), c]);

  describe.each([...byInit])("init(%s)", (options, group) => {
    let isMissing = false; // this adapter has no shader-f16
    beforeAll(async () => {
      await init({ backend, tune: false, ...JSON.parse(options) }).catch((error: Error) => {
        if (!/shader-f16/.test(error.message)) throw error;
        isMissing = true;
      });
    });

    test.each(group.filter(({ kind }) => !(kind in waiting)).map((c) => ({ ...c, c })))(
      "$id $kind",
      async ({ c }) => {
        if (isMissing) return;
        await check(c);
        await flush();
      },
      60_000,
    );
  });

  test.skip.each(Object.entries(waiting))("%s: waits for %s", () => undefined);
});
