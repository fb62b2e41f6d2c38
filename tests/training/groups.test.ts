import { beforeAll, describe, expect, test } from "vitest";
import { Llava } from "../../models/llava.ts";
import { parameterGroups, prepareModel } from "../../models/training/model.ts";
import { parseRecipe } from "../../models/training/recipe.ts";
import { init, type Tensor } from "../../src/index.ts";
import { config } from "../support/tiny-world.ts";

beforeAll(() => init({ backend: "reference" }));

describe("parameter groups", () => {
  /** Learning rate and decay of every parameter that trains, by name. */
  const groupsOf = (keys: object) => {
    const model = new Llava({ ...config, mm_projector_type: "mlp2x_gelu" });
    const recipe = parseRecipe({
      model_name_or_path: "m",
      data_path: "d",
      output_dir: "o",
      learning_rate: 0.1,
      train_batch_size: 1,
      weight_decay: 0.2,
      ...keys,
    });
    prepareModel(model, recipe);
    const found = new Map<Tensor, { lr?: number; weightDecay?: number }>();
    for (const { params, lr, weightDecay } of parameterGroups(model, recipe))
      for (const p of params) found.set(p as Tensor, { lr, weightDecay });
    return Object.fromEntries(
      [...model.namedParameters()].flatMap(([name, t]) => (found.has(t) ? [[name, found.get(t)!]] : [])),
    );
  };

  test("each part has its rate; norms and biases do not decay", () => {
    const groups = groupsOf({
      trainable: ["vision", "projector", "language"],
      mm_projector_lr: 0.02,
      mm_vision_tower_lr: 0.003,
    });
    const block = "vision_tower.vision_model.encoder.layers.0";
    expect(groups[`${block}.self_attn.q_proj.weight`]).toEqual({ lr: 0.003, weightDecay: 0.2 });
    expect(groups[`${block}.self_attn.q_proj.bias`]).toEqual({ lr: 0.003, weightDecay: 0 });
    expect(groups[`${block}.layer_norm1.weight`]).toEqual({ lr: 0.003, weightDecay: 0 });
    expect(groups["multi_modal_projector.linear_2.weight"]).toEqual({ lr: 0.02, weightDecay: 0.2 });
    expect(groups["multi_modal_projector.linear_2.bias"]).toEqual({ lr: 0.02, weightDecay: 0 });
    expect(groups["language_model.model.layers.1.mlp.down_proj.weight"]).toEqual({ lr: 0.1, weightDecay: 0.2 });
    expect(groups["language_model.model.layers.1.input_layernorm.weight"]).toEqual({ lr: 0.1, weightDecay: 0 });
    expect(groups["language_model.model.norm.weight"]).toEqual({ lr: 0.1, weightDecay: 0 });
    expect(groups["language_model.model.embed_tokens.weight"]).toEqual({ lr: 0.1, weightDecay: 0.2 });
    expect(Object.keys(groups).length).toBe([...new Llava(config).namedParameters()].length + 2); // of the second projector layer
  });

  test("what is frozen is in none; a LoRA has the language model's rate", () => {
    const groups = groupsOf({ lora_enable: true, lora_r: 2, mm_projector_lr: 0.02 });
    const [projector, rest] = [/^multi_modal_projector\./, /^language_model\..*\.lora_[AB]$/];
    for (const [name, { lr }] of Object.entries(groups)) {
      expect(projector.test(name) || rest.test(name)).toBe(true);
      expect(lr).toBe(projector.test(name) ? 0.02 : 0.1);
    }
    expect(Object.keys(groups).filter((name) => rest.test(name)).length).toBe(2 * 14);
  });
});
