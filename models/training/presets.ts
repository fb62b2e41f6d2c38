import type { Recipe } from "./recipe.ts";

type Preset = Readonly<Partial<Recipe>>;

// A preset has every hyper-parameter that its source gives, with the source in a comment. Keys that no source gives have the
// defaults of recipe.ts, which are those of the scripts' argument classes and of transformers' Trainer: AdamW with betas 0.9 and
// 0.999, gradients clipped to norm 1.

// LLaVA 1.0: arXiv 2304.08485, section 5; haotian-liu/LLaVA: the README's table of hyper-parameters (batch, rate, epochs,
// length, decay of both stages) and scripts/{pretrain,finetune_full_schedule}.sh (schedule, warm-up, layer). The second
// script runs 16 samples on each of 8 GPUs, the table and the paper say a batch of 32: the paper's is taken.
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
// scripts/finetune_lora.sh: 16 samples on each of 8 GPUs, one epoch of Instruct-80K; r, alpha and dropout are the defaults
// of llava/train/train.py. The projector trains together with the LoRA, at its rate.
const llavaV1Lora: Preset = {
  ...llavaV1Stage2,
  trainable: ["projector"],
  lora_enable: true,
  lora_r: 64,
  lora_alpha: 16,
  lora_dropout: 0.05,
  train_batch_size: 128,
  num_train_epochs: 1,
};

// LLaVA 1.5: arXiv 2310.03744, table of hyper-parameters; haotian-liu/LLaVA scripts/v1_5/{pretrain,finetune,finetune_lora}.sh.
const llava15: Preset = { ...llavaV1, mm_projector_type: "mlp2x_gelu", num_train_epochs: 1 };
const llava15Stage1: Preset = {
  ...llava15,
  version: "plain",
  trainable: ["projector"],
  learning_rate: 1e-3,
  train_batch_size: 256,
};
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

// LLaVA-NeXT: LLaVA-VL/LLaVA-NeXT scripts/train/finetune_clip.sh (rates, schedule, images in tiles, all parts train); its
// length of 32,768 is that of Qwen2, a Vicuna has 4,096. 4 samples on each of 32 GPUs make the batch. Its first stage is
// that of LLaVA 1.5 (pretrain_clip.sh: the projector on whole images, rate 1e-3).
const llavaNext: Preset = {
  ...llava15Stage2,
  image_aspect_ratio: "anyres",
  image_grid_pinpoints: [
    [336, 672],
    [672, 336],
    [672, 672],
    [1008, 336],
    [336, 1008],
  ],
  mm_patch_merge_type: "spatial_unpad",
  trainable: ["vision", "projector", "language"],
  learning_rate: 1e-5,
  mm_vision_tower_lr: 2e-6,
  model_max_length: 4096,
};

// mPLUG-Owl: arXiv 2304.14178, section 4. Its images are "randomly resized"; the range is that of configs/v0.yaml.
const owl: Preset = {
  architecture: "mplug-owl",
  version: "mplug_owl",
  lr_scheduler_type: "cosine",
  model_max_length: 2048,
  augment_crop: [0.5, 1],
};
// X-PLUG/mPLUG-Owl scripts/train_it.sh and train_it_wo_lora.sh: 3 epochs, 4,236 steps of 256 samples (the paper: 2,000).
// Images go through its CaptionProcessor: crops of at least half the area, half of them mirrored.
const owlStage2: Preset = {
  ...owl,
  train_batch_size: 256,
  num_train_epochs: 3,
  warmup_steps: 50,
  min_lr: 1e-6,
  weight_decay: 1e-4,
  adam_beta1: 0.9,
  adam_beta2: 0.999,
  max_grad_norm: 1,
  gradient_checkpointing: true,
  augment_flip: true,
};

// mPLUG-Owl2: X-PLUG/mPLUG-Owl, mPLUG-Owl2/scripts/finetune.sh and finetune_lora.sh: 2 samples × 8 accumulated on each of
// 8 GPUs. They name the template v1; the one that the released model is asked with is taken. Their trainer looks for
// parameters that are called visual_abstractor_lr, finds none, and so trains the abstractor at the LoRA's rate; here it has
// the rate that the script gives it.
const owl2Stage2: Preset = {
  architecture: "mplug-owl2",
  version: "mplug_owl2",
  image_aspect_ratio: "pad",
  group_by_modality_length: true,
  trainable: ["projector", "language"],
  learning_rate: 2e-5,
  weight_decay: 0,
  lr_scheduler_type: "cosine",
  warmup_ratio: 0.03,
  train_batch_size: 128,
  num_train_epochs: 1,
  model_max_length: 2048,
  gradient_checkpointing: true,
};

// Chinese-LLaVA publishes no training code: the recipe of LLaVA 1.0, whose structure it has, with its own templates.
const chinese = (version: string): Preset => ({ ...llavaV1Stage2, version });

/** The hyper-parameters of the papers. */
export const presets: Readonly<Record<string, Preset>> = {
  "llava-v1-stage1": llavaV1Stage1,
  "llava-v1-stage2": llavaV1Stage2,
  // ScienceQA, 12 epochs (arXiv 2304.08485, section 5.2; scripts/finetune_sqa.sh).
  "llava-v1-scienceqa": { ...llavaV1Stage2, num_train_epochs: 12 },
  "llava-v1-stage2-lora": llavaV1Lora,
  // scripts/finetune_qlora.sh: the same with 4 bits; nf4 is train.py's default.
  "llava-v1-stage2-qlora": { ...llavaV1Lora, bits: 4, quant_type: "nf4" },
  "llava-1.5-stage1": llava15Stage1,
  "llava-1.5-stage2": llava15Stage2,
  "llava-1.5-stage2-lora": llava15Lora,
  // No script of its own: the LoRA's values, and nf4 as in finetune_qlora.sh.
  "llava-1.5-stage2-qlora": { ...llava15Lora, bits: 4, quant_type: "nf4" },
  "llava-next-stage1": llava15Stage1,
  "llava-next-stage2": llavaNext,
  "chinese-llava-stage1": llavaV1Stage1,
  "chinese-llava-stage2": chinese("chinese_llama2"),
  "chinese-llava-baichuan-stage2": chinese("chinese_baichuan"),
  // The paper: AdamW with beta (0.9, 0.98), rate 1e-4, decay 0.1, 2,000 steps of warm-up, 50,000 steps. It counts the batch
  // in tokens, 2.1 M: 1,024 rows of 2,048.
  "mplug-owl-stage1": {
    ...owl,
    trainable: ["vision", "projector"],
    learning_rate: 1e-4,
    adam_beta1: 0.9,
    adam_beta2: 0.98,
    weight_decay: 0.1,
    warmup_steps: 2000,
    train_batch_size: 1024,
    max_steps: 50_000,
  },
  // train_it_wo_lora.sh: the language model alone.
  "mplug-owl-stage2": { ...owlStage2, trainable: ["language"], learning_rate: 1e-5 },
  // train_it.sh: a LoRA alone, r and the rest from pipeline/train.py. The paper trains the abstractor too: "trainable": ["projector"].
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
  "mplug-owl2-stage2": owl2Stage2,
  "mplug-owl2-stage2-lora": {
    ...owl2Stage2,
    trainable: ["projector"],
    lora_enable: true,
    lora_r: 128,
    lora_alpha: 256,
    lora_dropout: 0.05,
    learning_rate: 1e-4,
    mm_projector_lr: 2e-5,
  },
};
