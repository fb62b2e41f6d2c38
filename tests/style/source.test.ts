import { builtinModules } from "node:module";
import { describe, expect, test } from "vitest";
import { list, read } from "./files.ts";

const library = [...list("src", /\.ts$/), ...list("models", /\.ts$/)];
const code = [
  ...library,
  ...list("kernels", /\.(wgsl|ts)$/),
  ...list("tests", /\.ts$/),
  ...list("bench", /\.(ts|mjs)$/),
  ...list("examples", /\.(ts|mjs|html)$/),
  ...list("scripts", /\.mjs$/),
];
const texts = [...code, ...list("docs", /\.md$/), ...list("kernels", /\.md$/), "README.md", "CONTRIBUTING.md"];

describe("the library runs anywhere", () => {
  const NODE_ONLY = "src/runtime/node.ts";
  const builtins = builtinModules.join("|").replaceAll("/", "\\/");
  const fromNode = new RegExp(`(?:from|import|[(])\\s*["'\`](?:node:|(?:${builtins})["'\`])`);

  test("only one file imports Node's modules", () => {
    expect(library.filter((path) => fromNode.test(read(path)))).toEqual([NODE_ONLY]);
  });

  test("and it is loaded when it is needed, never by a static import", () => {
    const loads = /^(?:import|export) (?!type )[^;]*runtime\/node\.ts/m;
    expect(library.filter((path) => loads.test(read(path)))).toEqual([]);
  });

  test("no file uses Node's own globals", () => {
    const globals = /\b(?:Buffer\.|__dirname|__filename)|(?<!globalThis\.|\.)\bprocess\.\w/;
    expect(library.filter((path) => path !== NODE_ONLY && globals.test(read(path)))).toEqual([]);
  });

  test("no file imports a package, except the two that the build bundles", () => {
    const bundled = "@huggingface/(?:tokenizers|jinja)";
    const packages = new RegExp(`(?:from|import\\()\\s*["'](?!\\.|node:|${bundled}["'])`);
    expect(library.filter((path) => packages.test(read(path)))).toEqual([]);
  });

  test("the rule knows the ways to import", () => {
    for (const bad of [
      `import { x } from "node:fs"`,
      `await import("fs/promises")`,
      `require('path')`,
      `import "os"`,
    ]) {
      expect(bad).toMatch(fromNode);
    }
    expect(`import { x } from "./path.ts"; import("../fs.ts")`).not.toMatch(fromNode);
  });
});

describe("finished work only", () => {
  // In pieces, so that this file does not find itself.
  const markers = new RegExp(["TO" + "DO", "FIX" + "ME", "X" + "XX", "not (yet )?imple" + "mented"].join("|"));
  const off = new RegExp(`\\b(?:test|it|describe)\\.(?:on${""}ly|to${""}do)\\(`);

  test("no file has a marker of unfinished work", () => {
    expect(texts.filter((path) => markers.test(read(path)))).toEqual([]);
  });

  test("no test is switched off", () => {
    expect(list("tests", /\.test\.ts$/).filter((path) => off.test(read(path)))).toEqual([]);
  });
});
