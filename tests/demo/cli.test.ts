import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { bundle } from "../../scripts/run.mjs";

const folder = mkdtempSync(join(tmpdir(), "shadegrad-cli-"));
afterAll(() => rmSync(folder, { recursive: true }));
let demo: string;
beforeAll(async () => {
  demo = await bundle("examples/demo/main.ts");
});

const run = (...args: string[]) => spawnSync(process.execPath, [demo, ...args], { encoding: "utf8", cwd: folder });

it("explains itself", () => {
  const { stdout, status } = run("--help");
  expect(status).toBe(0);
  for (const option of ["--quick", "--full", "--image", "--ask", "--seed", "--out", "--checkpoint"])
    expect(stdout).toContain(option);
});

it.each([
  [["--quick", "--full"], /exclude each other/],
  [["--seed", "one"], /--seed takes a whole number, got "one"/],
  [["--scale", "0"], /--scale takes a positive number/],
  [["--sede", "1"], /Unknown option '--sede'/],
  [["--ask", "what?"], /--ask needs a picture/],
  [["--image", "none.png", "--ask", "what?"], /there is no file none\.png/],
  [["--image", "text.png", "--ask", "what?"], /text\.png is not a PNG image/],
  [["--image", "text.png", "--ask", "  "], /--ask is empty/],
  [["--image", "text.png", "--ask", "what?", "--temperature=-1"], /--temperature takes a number of at least 0/],
])("says what is wrong with %j", (args, message) => {
  writeFileSync(join(folder, "text.png"), "this is text");
  const { stdout, stderr, status } = run(...args);
  expect(status).toBe(1);
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/^demo: /);
  expect(stderr.trim().split("\n").length).toBe(1);
  expect(stdout).toBe("");
});
