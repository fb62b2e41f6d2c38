import { describe, expect, test } from "vitest";
import { kernelSources, sharedBlocks, withSharedBlocks } from "../../scripts/kernel-shared.mjs";

const sources: Map<string, string> = kernelSources();

describe("blocks that kernels share", () => {
  test.each([...sources.keys()])("%s holds its owners' text, byte by byte", (name) => {
    // A difference here: edit the owner that the marker names, then `npm run kernels:sync`.
    expect(sources.get(name)).toBe(withSharedBlocks(sources).get(name));
  });

  test("each block has a copy", () => {
    const blocks = [...sharedBlocks(sources)] as [string, { copies: string[] }][];
    expect(blocks.length).toBeGreaterThan(20);
    expect(blocks.filter(([, { copies }]) => copies.length === 0)).toEqual([]);
  });

  test("no two kernels repeat six lines of code outside of such blocks", () => {
    expect(repeats(sources, 6)).toEqual([]);
  });
});

/** Pairs `a:line ~ b:line` of runs of `count` equal lines of code outside of shared blocks. */
function repeats(texts: Map<string, string>, count: number): string[] {
  const seen = new Map<string, string>();
  const found: string[] = [];
  for (const [name, text] of texts) {
    let shared = false;
    let run: { at: number; code: string }[] = [];
    text.split("\n").forEach((line, i) => {
      if (/^\s*\/\/ (end )?shared\b/.test(line)) {
        shared = !line.includes("end shared");
        run = [];
      }
      const code = line.replace(/\/\/.*/, "").trim();
      if (shared || /^[\s{}();]*$/.test(code)) return;
      run.push({ at: i + 1, code });
      if (run.length < count) return;
      const window = run.slice(-count);
      const key = window.map((l) => l.code).join("\n");
      const place = `${name}:${window[0].at}`;
      if (seen.has(key)) found.push(`${seen.get(key)} ~ ${place}`);
      else seen.set(key, place);
    });
  }
  return found;
}

test("the search for repeats finds them, but not in shared blocks", () => {
  const lines = ["let a = 1;", "let b = 2;", "}", "let c = 3; // why"];
  const shared = ["// shared: x", ...lines, "// end shared"];
  const of = (a: string[], b: string[]) =>
    repeats(
      new Map([
        ["a", a.join("\n")],
        ["b", b.join("\n")],
      ]),
      3,
    );
  expect(of(lines, ["", ...lines])).toEqual(["a:1 ~ b:2"]);
  expect(of(lines, shared)).toEqual([]);
  expect(of(lines, lines.slice(1))).toEqual([]);
});

describe("sync", () => {
  const owner = "// shared: loads\nfn load() {}\n// end shared\n";
  const kernels = (b: string, a = owner) =>
    new Map([
      ["a", a],
      ["b", b],
    ]);

  test("writes the owner's block into a copy and nothing else", () => {
    const copy = "// B.\n  // shared: loads from a\n  old();\n  // end shared\nfn main() {}";
    expect(withSharedBlocks(kernels(copy)).get("b")).toBe(
      "// B.\n  // shared: loads from a\nfn load() {}\n  // end shared\nfn main() {}",
    );
    expect(withSharedBlocks(kernels(copy)).get("a")).toBe(owner);
  });

  test.each([
    ["// shared: loads from a\nfn f() {}", "b.wgsl: shared block loads has no `// end shared`"],
    ["// shared: loads from c\n// end shared", "b.wgsl: there is no shared block c.wgsl: loads"],
    ["// shared: stores from a\n// end shared", "b.wgsl: there is no shared block a.wgsl: stores"],
    ["\n// end shared", "b.wgsl:2: `// end shared` without `// shared: NAME`"],
    ["// shared: x\n// shared: y\n// end shared", "b.wgsl:2: shared block y begins inside x"],
    ["// shared: x\n// end shared\n// shared: x\n// end shared", "b.wgsl: two shared blocks have the name x"],
    ["// shared loads from a\n// end shared", "b.wgsl:1: write `// shared: NAME` or `// shared: NAME from OWNER`"],
  ])("refuses %j", (b, message) => {
    expect(() => withSharedBlocks(kernels(b))).toThrow(message);
  });
});
