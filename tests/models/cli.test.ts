import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";

const folder = mkdtempSync(join(tmpdir(), "shadegrad-chat-"));
afterAll(() => rmSync(folder, { recursive: true }));
const model = join(root, "examples/demo/checkpoint");
const single = join(root, "examples/demo/samples/single.png");
let cli: string;
beforeAll(async () => void (cli = await bundle(join(root, "scripts/cli/main.ts"))));

function chat(args: string[], input = "") {
  const env = { ...childEnvironment(), NO_COLOR: "1" };
  const done = spawnSync(process.execPath, [cli, "chat", ...args], { encoding: "utf8", env, input });
  return { ...done, stderr: done.stderr.replace(/^Warning: max.*\n/gm, "") }; // of the WebGPU implementation
}

test("the demo's checkpoint answers about its picture, once and over turns", () => {
  const once = chat([model, "--image", single, "--prompt", "What is this?"]);
  expect(once.stderr).toBe("");
  expect(once.status).toBe(0);
  expect(once.stdout).toBe("pineapple\n");
  const lines = `/image ${single}\nWhat is this?\nWhat color is it?\n\n/new\n/image ${single}\nWhat is this?\n/exit\nnever read\n`;
  const talk = chat([model, "--prompt-lookup", "4"], lines);
  expect(talk.status).toBe(0);
  const answers = talk.stdout.trim().split("\n");
  expect(answers.length).toBe(3);
  expect(answers[0]).toBe(once.stdout.trim());
  expect(answers[2]).toBe(answers[0]);
});

test("a mistake in a line is said in one, and the conversation goes on", () => {
  const { stdout, stderr, status } = chat(
    [model],
    `/image none.png\n/what\n/image\nWhat is this?\n/image ${single}\nWhat is this?\n`,
  );
  expect(stderr).toContain("none.png: no such file\n");
  expect(stderr).toContain("there is no /what; there are /image FILE, /new and /exit\n");
  expect(stderr).toContain("/image takes a file\n");
  expect(stderr).toContain("room for 1 image(s), the conversation has 0\n");
  expect(stdout.trim()).not.toBe("");
  expect(status).toBe(1);
});

test.each([
  [[], /one model expected, got 0/],
  [["nowhere", "--image", single], /nowhere/],
  [[model, "--image", "none.png", "--prompt", "what?"], /none\.png: no such file/],
  [[model, "--image", "text.png", "--prompt", "what?"], /text\.png: decodeImage: neither PNG nor JPEG/],
  [[model, "--temperature", "hot"], /--temperature takes a number, got "hot"/],
  [[model, "--cache-type", "f8"], /--cache-type takes one of f32, f16, int8, got "f8"/],
  [[model, "--image", single, "--prompt", " "], /the message is empty/],
  [[model, "--image", single, "--prompt", "what?", "--top-p", "2"], /topP must be in \(0, 1\], got 2/],
  [[model, "--template", "nope", "--prompt", "what?"], /no template "nope"/],
])("%j is refused in one line", (args, message) => {
  const file = join(folder, "text.png");
  writeFileSync(file, "this is text");
  const { stdout, stderr, status } = chat(args.map((arg) => (arg === "text.png" ? file : arg)));
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/^shadegrad chat: [^\n]*\n$/);
  expect(stdout.trim()).toBe("");
  expect(status).toBe(1);
});

test("--help names every option", () => {
  const { stdout } = chat(["--help"]);
  for (const option of [
    "--image",
    "--prompt",
    "--template",
    "--dtype",
    "--cache-type",
    "--temperature",
    "--seed",
    "/new",
  ])
    expect(stdout).toContain(option);
});
