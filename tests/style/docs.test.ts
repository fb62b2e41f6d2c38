import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import { list, read } from "./files.ts";

const pages = ["README.md", "CONTRIBUTING.md", ...list("docs", /\.md$/).filter((path) => path !== "docs/log.md")];

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

describe.each(["guide", "models"])("examples of docs/%s.md", (page) => {
  const sections = read(`docs/${page}.md`).split(/^## /m).slice(1);
  const examples = sections.flatMap((section) => {
    const code = /```ts\n([\s\S]*?)```/.exec(section)?.[1];
    return code ? [{ title: section.split("\n")[0], code }] : [];
  });

  test.each(examples)("$title", async ({ title, code }) => {
    const folder = join(root, ".build", page);
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `${title.replace(/\W+/g, "-")}.ts`);
    writeFileSync(file, code);
    const bundled = await bundle(file);
    if (code.includes('"path/to/')) return; // needs a checkpoint: its imports exist
    const printed = execFileSync(process.execPath, [bundled], { encoding: "utf8", env: childEnvironment() });
    // A line that prints may say what, at its end; descriptions begin with an article.
    for (const [, comment] of code.matchAll(/console\.log\(.*\); \/\/ (?!an? )(.*)$/gm)) {
      expect(printed.replace(/\s+/g, " ")).toContain(
        comment.replace(/\s+/g, " ").replaceAll("[", "[ ").replaceAll("]", " ]"),
      );
    }
  });
});
