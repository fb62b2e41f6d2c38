import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Assistant } from "../../models/chat/assistant.ts";
import { parseRecipe } from "../../models/training/recipe.ts";
import { trainRecipe } from "../../models/training/run.ts";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import { decodeImage } from "../../src/image/decode.ts";
import { init } from "../../src/index.ts";
import { colourNames, imageOf, png, tinyWorld } from "../support/tiny-world.ts";

let world: string;
let cli: string;
beforeAll(async () => {
  await init({ backend: "reference" });
  world = await tinyWorld();
  cli = await bundle(join(root, "scripts/cli/main.ts"));
  const places = { model_name_or_path: join(world, "model"), image_folder: join(world, "images") };
  const common = { ...places, learning_rate: 0.02, train_batch_size: 4, micro_batch_size: 4, max_steps: 2 };
  await trainRecipe(
    parseRecipe({
      preset: "llava-v1-stage1",
      ...common,
      data_path: join(world, "pairs.json"),
      output_dir: join(world, "projector"),
    }),
  );
  await trainRecipe(
    parseRecipe({
      ...{
        preset: "llava-1.5-stage2-lora",
        ...common,
        data_path: join(world, "talks.json"),
        output_dir: join(world, "lora"),
      },
      ...{ lora_r: 2, model_max_length: 256, gradient_checkpointing: false },
      pretrain_mm_mlp_adapter: join(world, "projector/mm_projector.safetensors"),
    }),
  );
  const captions = colourNames.map((colour) => ({
    image: imageOf(colour).slice("images/".length),
    caption: `a ${colour} square`,
  }));
  writeFileSync(join(world, "images/captions.json"), JSON.stringify(captions));
  mkdirSync(join(world, "science/images/test/1"), { recursive: true });
  writeFileSync(join(world, "science/images/test/1/image.png"), png("red"));
  const problem = {
    question: "Which?",
    choices: ["ice", "steam"],
    answer: 1,
    hint: "",
    subject: "natural science",
    grade: "grade2",
  };
  const rest = { lecture: "", solution: "" };
  writeFileSync(
    join(world, "science/problems.json"),
    JSON.stringify({ 1: { ...problem, ...rest, image: "image.png" }, 2: { ...problem, ...rest, image: null } }),
  );
  writeFileSync(join(world, "science/pid_splits.json"), JSON.stringify({ test: ["1", "2"] }));
  const lines = (list: unknown[]) => list.map((line) => JSON.stringify(line)).join("\n");
  mkdirSync(join(world, "bench/images"), { recursive: true });
  writeFileSync(join(world, "bench/images/a.png"), png("blue"));
  writeFileSync(
    join(world, "bench/questions.jsonl"),
    lines([{ question_id: 0, image: "a.png", category: "conv", text: "What?" }]),
  );
  writeFileSync(join(world, "bench/context.jsonl"), lines([{ image: "a.png", caption: "blue" }]));
  writeFileSync(join(world, "bench/answers_gpt4.jsonl"), lines([{ question_id: 0, text: "Blue." }]));
  writeFileSync(
    join(world, "judge.mjs"),
    'export default (prompt) => (prompt.includes("Blue.") ? (prompt.includes("STRICT") ? "8 4" : "8 6") : "no");',
  );
  mkdirSync(join(world, "owl/cases"), { recursive: true });
  writeFileSync(join(world, "owl/cases/a.png"), png("blue"));
  writeFileSync(join(world, "owl/questions.jsonl"), lines([{ question_id: 5, image: "a.png", question: "Who?" }]));
}, 300_000);
afterAll(() => rmSync(world, { recursive: true, force: true }));

/** Both streams, and the exit code. */
function shadegrad(...args: string[]): { text: string; code: number } {
  const env = { ...childEnvironment(), SHADEGRAD_BACKEND: "reference", NO_COLOR: "1" };
  try {
    return {
      text: execFileSync(process.execPath, [cli, ...args], { encoding: "utf8", env, stdio: "pipe", cwd: world }),
      code: 0,
    };
  } catch (error) {
    const { stdout, stderr, status } = error as { stdout: string; stderr: string; status: number };
    return { text: stdout + stderr, code: status };
  }
}
const results = (name: string) => JSON.parse(readFileSync(join(world, name, "results.json"), "utf8"));

test("captions by a LoRA that a recipe trained: a bar, a table, results, answers", () => {
  const { text, code } = shadegrad(
    "evaluate",
    "captions",
    "lora",
    "--data",
    "images/captions.json",
    "--max-new-tokens",
    "4",
  );
  expect(text).toMatch(/captions .*4\/4 +answers +[\d.]+ (answers\/s|s each)/);
  expect(text).toMatch(/exact match +\d+\.\d\d %/);
  expect(text).toMatch(/CIDEr +\d+\.\d\d/);
  expect(code).toBe(0);
  expect(results("evaluation/captions")).toMatchObject({ task: "captions", model_id: "lora", count: 4 });
  const answers = readFileSync(join(world, "evaluation/captions/answers.jsonl"), "utf8").trim().split("\n");
  expect(answers.length).toBe(4);
  // Scoring the file gives the same, without a model.
  const scored = ["--answers", "evaluation/captions/answers.jsonl", "--output", "scored"];
  expect(shadegrad("evaluate", "captions", ...scored, "--data", "images/captions.json").code).toBe(0);
  expect(results("scored")).toEqual(results("evaluation/captions"));
});

test("ScienceQA by a projector that a recipe trained, with the second pass; and by a checkpoint with an adapter", () => {
  const common = ["--data", "science", "--max-new-tokens", "3", "--template", "v1"];
  const first = shadegrad("evaluate", "scienceqa", "projector", ...common, "--answer-prompter", "always");
  expect(first.text).toMatch(/all +[012] +2 +\d+\.\d\d %/);
  expect(first.text).toMatch(/IMG +[01] +1 /);
  const lines = readFileSync(join(world, "evaluation/scienceqa/answers.jsonl"), "utf8").trim().split("\n");
  for (const line of lines) expect(JSON.parse(line).text).toContain("\n The answer is ");
  expect(results("evaluation/scienceqa")).toMatchObject({ answerPrompter: "always", format: "QCM-LEA" });
  const limited = ["--adapter", "lora", "--text-only", "--limit", "1", "--output", "limited"];
  expect(shadegrad("evaluate", "scienceqa", "model", ...common, ...limited).text).toMatch(/all +[01] +1 /);
});

test("LLaVA-Bench with a judge's module, OwlEval with a page", () => {
  const short = ["--max-new-tokens", "3"];
  const bench = shadegrad("evaluate", "llava-bench", "model", "--data", "bench", "--judge", "judge.mjs", ...short);
  expect(bench.text).toMatch(/conv +1 +8\.00 +6\.00 +75\.0 %/);
  writeFileSync(
    join(world, "rule.json"),
    JSON.stringify({ llava_bench_conv: { role: "Assistant", prompt: "STRICT" } }),
  );
  const strict = ["--rules", "rule.json", "--answers", "evaluation/llava-bench/answers.jsonl", "--output", "strict"];
  const again = shadegrad("evaluate", "llava-bench", "--data", "bench", "--judge", "judge.mjs", ...strict);
  expect(again.text).toMatch(/conv +1 +8\.00 +4\.00 +50\.0 %/);
  const owl = shadegrad("evaluate", "owleval", "model", "--data", "owl", ...short);
  expect(owl.text).toContain("1 questions, answers of model");
  expect(readFileSync(join(world, "evaluation/owleval/page.html"), "utf8")).toContain('src="../../owl/cases/a.png"');
});

test("a log.json from elsewhere does not choose the model", async () => {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url!);
    response.writeHead(404).end();
  }).listen(0);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model`;
  const log = JSON.parse(readFileSync(join(world, "lora/log.json"), "utf8"));
  const copy = join(world, "copy");
  cpSync(join(world, "lora"), copy, { recursive: true });
  const named = (places: object) =>
    writeFileSync(join(copy, "log.json"), JSON.stringify({ ...log, recipe: { ...log.recipe, ...places } }));
  const base = join(world, "model");

  named({ model_name_or_path: url, output_dir: copy });
  await expect(Assistant.open(copy)).rejects.toThrow(
    `${copy}/log.json: model_name_or_path "${url}" is a URL: give the model as base (--base)`,
  );
  named({ vision_tower: url, output_dir: copy });
  await expect(Assistant.open(copy)).rejects.toThrow(`vision_tower "${url}" is a URL`);
  named({ output_dir: url });
  await expect(Assistant.open(copy)).rejects.toThrow(/model_name_or_path .* counts only where it was trained/);
  named({ output_dir: join(world, "projector") }); // a folder that is here, but not with this log
  await expect(Assistant.open(copy)).rejects.toThrow(/model_name_or_path .* counts only where it was trained/);
  expect((await Assistant.open(copy, { base })).parts).toMatchObject({ template: "v1" });
  expect(shadegrad("chat", "copy", "--prompt", "Hi", "--max-new-tokens", "1").text).toContain("--base");
  expect(shadegrad("chat", "copy", "--base", "model", "--prompt", "Hi", "--max-new-tokens", "1").code).toBe(0);
  writeFileSync(join(copy, "log.json"), "null");
  await expect(Assistant.open(copy)).rejects.toThrow(`${copy}/log.json`);
  server.close();
  expect(asked).toEqual([]);
});

test("chat takes what a recipe trained, on its model, by its template, images padded as in training", async () => {
  const assistant = await Assistant.open(join(world, "lora"));
  expect(assistant.parts).toMatchObject({ template: "v1", processor: { options: { aspect: "pad" } } });
  const image = await decodeImage(readFileSync(join(world, imageOf("red"))));
  let want = "";
  const options = { maxNewTokens: 12, temperature: 2, seed: 1 };
  for await (const piece of assistant.chat([{ role: "user", content: [image, "What is it?"] }], options)) want += piece;
  const args = [
    "--image",
    imageOf("red"),
    "--prompt",
    "What is it?",
    "--max-new-tokens",
    "12",
    "--temperature",
    "2",
    "--seed",
    "1",
  ];
  expect(shadegrad("chat", "lora", ...args)).toMatchObject({ text: `${want}\n`, code: 0 });
  expect(want.trim()).not.toBe("");
});

test("errors are one line that names the cause, and exit code 1", () => {
  for (const [args, message] of [
    [["vqa"], "one task expected of scienceqa, captions, owleval, llava-bench, got vqa"],
    [["captions", "model"], "captions needs --data"],
    [["captions", "--data", "x.json"], "one model expected, or --answers"],
    [["captions", "images", "--data", "images/captions.json"], "has no config.json, so it is no checkpoint"],
    [["scienceqa", "model", "--data", "science", "--answer-prompter", "often"], "takes one of always, missing"],
    [["scienceqa", "model", "--data", "science", "--split", "train"], "has no split train: test"],
    [["llava-bench", "model", "--data", "bench"], "llava-bench needs --judge"],
    [["captions", "model", "--data", "images/captions.json", "--limit", "x"], '--limit takes a number, got "x"'],
  ] as const) {
    const { text, code } = shadegrad("evaluate", ...args);
    expect(text).toContain(message);
    expect(text).not.toContain("    at ");
    expect(code).toBe(1);
  }
});
