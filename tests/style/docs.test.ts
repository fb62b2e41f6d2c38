import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import { list, read } from "./files.ts";

const pages = [
  ...["README.md", "CONTRIBUTING.md", "CHANGELOG.md"],
  ...list("docs", /\.md$/).filter((path) => path !== "docs/log.md"),
  ...list("examples", /\.md$/),
];

describe.each(pages)("%s", (page) => {
  test("names only files that exist", () => {
    const quoted = [
      ...read(page).matchAll(/`((?:src|models|kernels|tests|bench|examples|docs|scripts)\/[\w./-]*)`/g),
    ].map((m) => m[1]);
    const linked = [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map((m) => join(page, "..", m[1]));
    expect([...quoted, ...linked].filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  test("names only npm scripts that exist", () => {
    const { scripts } = JSON.parse(read("package.json"));
    const named = [...read(page).matchAll(/npm (?:run ([a-z][\w:]*)|(test)\b)/g)].map((m) => m[1] ?? m[2]);
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });
});

interface Example {
  readonly title: string;
  readonly language: string;
  /** The rest of the fence's first line: "" (it runs), "no-run: why", "fragment: why". */
  readonly note: string;
  readonly code: string;
  /** The example as a file of its own. */
  readonly file: string;
}

const folder = join(root, ".build/examples");

/** Every fence of a page that holds a program. */
const examples: readonly Example[] = pages.flatMap((page) =>
  Array.from(read(page).matchAll(/^```(ts|tsx|js|mjs|html)\b([^\n]*)\n([\s\S]*?)^```/gm), (match) => {
    const [, language, note, code] = match;
    const line = read(page).slice(0, match.index).split("\n").length;
    const name = `${page.replace(/\.md$/, "").replaceAll("/", "-")}-${line}.${language}`;
    return { title: `${page}:${line}`, language, note: note.trim(), code, file: join(folder, name) };
  }),
);
const programs = examples.filter(({ language, note }) => language === "ts" && !note.startsWith("fragment"));

describe("examples", () => {
  beforeAll(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    for (const { file, code } of programs) writeFileSync(file, code);
  });

  test("run, or say in the fence why not: a reason of three words or more", () => {
    expect(programs.length).toBeGreaterThan(15);
    const good = /^$|^(?:no-run|fragment): \S+( \S+){2,}$/;
    expect(examples.filter(({ note }) => !good.test(note)).map(({ title }) => title)).toEqual([]);
    // tests/smoke runs the README's page in Chromium, from the packed package.
    const others = examples.filter(({ title, language }) => language !== "ts" && !title.startsWith("README.md"));
    expect(others.filter(({ note }) => !note).map(({ title }) => title)).toEqual([]);
  });

  test("are right TypeScript, in strict mode", () => {
    const { exports } = JSON.parse(read("package.json"));
    const paths = Object.entries<{ types?: string }>(exports).flatMap(([name, { types }]) =>
      types
        ? [[name.replace(/^\./, "shadegrad"), [types.replace("./dist/types/", "../../").replace(".d.ts", ".ts")]]]
        : [],
    );
    const compilerOptions = { noUnusedLocals: false, noUnusedParameters: false, paths: Object.fromEntries(paths) };
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({ extends: "../../tsconfig.json", compilerOptions, include: ["*.ts", "../../kernels/*.d.ts"] }),
    );
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const { stdout, status } = spawnSync(process.execPath, [tsc, "-p", folder, "--pretty", "false"], {
      encoding: "utf8",
    });
    expect(stdout).toBe("");
    expect(status).toBe(0);
  });

  test.each(programs.filter(({ note }) => !note))("$title runs", async ({ file, code }) => {
    const printed = execFileSync(process.execPath, [await bundle(file)], {
      encoding: "utf8",
      env: childEnvironment(),
    });
    // A line that prints may say what, at its end; descriptions begin with an article.
    for (const [, comment] of code.matchAll(/console\.log\(.*\); \/\/ (?!an? )(.*)$/gm)) {
      expect(printed.replace(/\s+/g, " ")).toContain(
        comment.replace(/\s+/g, " ").replaceAll("[", "[ ").replaceAll("]", " ]"),
      );
    }
  });

  const resting = examples.filter(({ note }) => note);
  test.skip.each(resting.map(({ title, note }) => `${title}: ${note}`))("%s", () => {});
});
