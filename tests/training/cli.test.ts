import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { childEnvironment, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import { tinyWorld } from "../support/tiny-world.ts";

let world: string;
let cli: string;
beforeAll(async () => {
  world = await tinyWorld();
  cli = await bundle(join(root, "scripts/cli/main.ts"));
  const recipe = {
    preset: "llava-v1-stage1",
    model_name_or_path: join(world, "model"),
    data_path: join(world, "pairs.json"),
    image_folder: join(world, "images"),
    output_dir: join(world, "out"),
    train_batch_size: 4,
    micro_batch_size: 4,
    num_train_epochs: 3,
    save_steps: 1,
  };
  writeFileSync(join(world, "recipe.json"), JSON.stringify(recipe));
});
afterAll(() => rmSync(world, { recursive: true, force: true }));

/** Both streams, and the exit code. */
function shadegrad(...args: string[]): { text: string; code: number } {
  const env = { ...childEnvironment(), SHADEGRAD_BACKEND: "reference", NO_COLOR: "1" };
  try {
    return { text: execFileSync(process.execPath, [cli, ...args], { encoding: "utf8", env, stdio: "pipe" }), code: 0 };
  } catch (error) {
    const { stdout, stderr, status } = error as { stdout: string; stderr: string; status: number };
    return { text: stdout + stderr, code: status };
  }
}

test("prints what trains and what it takes, then trains, and goes on from a checkpoint", () => {
  const { text, code } = shadegrad("train", join(world, "recipe.json"), "--set", "seed=3");
  expect(text).toMatch(/vision_tower +[\d.]+ k +frozen +0 %/);
  expect(text).toMatch(/multi_modal_projector +544 +544 +100 %/);
  expect(text).toMatch(/weights +[\d.]+ MiB/);
  expect(text).toContain("4 samples, 3 steps");
  expect(text).toMatch(/recipe\.json .*3\/3 .*loss \d.*tokens\/s/);
  expect(text).toContain("mm_projector.safetensors, with loss.svg and log.json");
  expect(code).toBe(0);
  expect(JSON.parse(readFileSync(join(world, "out/log.json"), "utf8"))).toMatchObject({ recipe: { seed: 3 } });
  const again = shadegrad("train", join(world, "recipe.json"), "--set", "seed=3", "--resume", "--dry-run");
  expect(again.text).toContain("going on from step 2");
});

test("errors are one line that names the cause, and exit code 1", () => {
  for (const [args, message] of [
    [["--set", "learning=1"], 'recipe.json: unknown key "learning" (learning_rate?)'],
    [["--set", "image_folder=nowhere"], "4 image file(s) are not in nowhere"],
    [["--set", "data_path=none.json"], "none.json: no such file"],
    [["--set", "version=v9"], 'no template "v9"'],
  ] as const) {
    const { text, code } = shadegrad("train", join(world, "recipe.json"), ...args);
    expect(text).toContain(message);
    expect(text).not.toContain("    at ");
    expect(code).toBe(1);
  }
  expect(shadegrad("train", "--presets").text).toContain("llava-1.5-stage2-qlora");
});
