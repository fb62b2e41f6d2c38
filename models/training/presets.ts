import type { Recipe } from "./recipe.ts";

type Preset = Readonly<Partial<Recipe>>;

// LLaVA 1.0: arXiv 2304.08485, section 5 and appendix; haotian-liu/LLaVA scripts/pretrain.sh and finetune_full_schedule.sh.
const llavaV1: Preset = {
  architecture: "llava",
  mm_projector_type: "linear",
  mm_vision_select_layer: -2,
  weight_decay: 0,
  lr_scheduler_type: "cosine",
  warmup_ratio: 0.03,
  model_max_length: 2048,
  gradient_checkpointing: true,
};
const llavaV1Stage1: Preset = {
  ...llavaV1,
  version: "plain",
  trainable: ["projector"],
  learning_rate: 2e-3,
  train_batch_size: 128,
  num_train_epochs: 1, // of CC-595K
};
const llavaV1Stage2: Preset = {
  ...llavaV1,
  version: "v1",
  trainable: ["projector", "language"],
  learning_rate: 2e-5,
  train_batch_size: 32,
  num_train_epochs: 3, // of Instruct-158K
};

// LLaVA 1.5: arXiv 2310.03744, table of hyper-parameters; haotian-liu/LLaVA scripts/v1_5/*.sh.
const llava15: Preset = { ...llavaV1, mm_projector_type: "mlp2x_gelu", num_train_epochs: 1 };
const llava15Stage2: Preset = {
  ...llava15,
  version: "v1",
  image_aspect_ratio: "pad",
  group_by_modality_length: true,
  trainable: ["projector", "language"],
  learning_rate: 2e-5,
  train_batch_size: 128,
};
const llava15Lora: Preset = {
  ...llava15Stage2,
  trainable: ["projector"],
  lora_enable: true,
  lora_r: 128,
  lora_alpha: 256,
  lora_dropout: 0.05,
  learning_rate: 2e-4,
  mm_projector_lr: 2e-5,
};

// mPLUG-Owl: arXiv 2304.14178, section 4; stage 2 by X-PLUG/mPLUG-Owl scripts/train_it*.sh.
const owl: Preset = {
  architecture: "mplug-owl",
  version: "mplug_owl",
  lr_scheduler_type: "cosine",
  model_max_length: 2048,
};
const owlStage2: Preset = {
  ...owl,
  train_batch_size: 256,
  num_train_epochs: 3,
  warmup_steps: 50,
  min_lr: 1e-6,
  weight_decay: 1e-4,
  max_grad_norm: 1,
  gradient_checkpointing: true,
};

// Chinese-LLaVA publishes no training code: the recipe of LLaVA 1.0, whose structure it has, with its own templates.
const chinese = (version: string): Preset => ({ ...llavaV1Stage2, version });

/** The hyper-parameters of the papers. */
export const presets: Readonly<Record<string, Preset>> = {
  "llava-v1-stage1": llavaV1Stage1,
  "llava-v1-stage2": llavaV1Stage2,
  // ScienceQA, 12 epochs (arXiv 2304.08485, section 5.2).
  "llava-v1-scienceqa": { ...llavaV1Stage2, num_train_epochs: 12 },
  // scripts/finetune_qlora.sh: one epoch of Instruct-80K; r and alpha are train.py's defaults.
  "llava-v1-stage2-qlora": {
    ...llavaV1Stage2,
    trainable: ["projector"],
    lora_enable: true,
    lora_r: 64,
    lora_alpha: 16,
    lora_dropout: 0.05,
    bits: 4,
    quant_type: "nf4",
    train_batch_size: 128,
    num_train_epochs: 1,
  },
  "llava-1.5-stage1": {
    ...llava15,
    version: "plain",
    trainable: ["projector"],
    learning_rate: 1e-3,
    train_batch_size: 256,
  },
  "llava-1.5-stage2": llava15Stage2,
  "llava-1.5-stage2-lora": llava15Lora,
  "llava-1.5-stage2-qlora": { ...llava15Lora, bits: 4, quant_type: "nf4" },
  "chinese-llava-stage1": llavaV1Stage1,
  "chinese-llava-stage2": chinese("chinese_llama2"),
  "chinese-llava-baichuan-stage2": chinese("chinese_baichuan"),
  // The paper counts the batch in tokens, 2.1 M: 1,024 rows of 2,048.
  "mplug-owl-stage1": {
    ...owl,
    trainable: ["vision", "projector"],
    learning_rate: 1e-4,
    adam_beta2: 0.98,
    weight_decay: 0.1,
    warmup_steps: 2000,
    train_batch_size: 1024,
    max_steps: 50_000,
  },
  // scripts/train_it_wo_lora.sh: the language model alone.
  "mplug-owl-stage2": { ...owlStage2, trainable: ["language"], learning_rate: 1e-5 },
  // scripts/train_it.sh: a LoRA alone. The paper trains the abstractor too: "trainable": ["projector"].
  "mplug-owl-stage2-lora": {
    ...owlStage2,
    trainable: [],
    lora_enable: true,
    lora_r: 8,
    lora_alpha: 32,
    lora_dropout: 0.05,
    lora_target: "language_model.*\\.(q|v)_proj$",
    learning_rate: 2e-5,
  },
};
