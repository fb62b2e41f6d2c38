/**
 * The recogniser of PP-OCRv4: a convolutional backbone (PP-LCNetV3), a neck with two transformer blocks (SVTR,
 * arXiv 2205.00159) and a CTC head. Lines of text 48 pixels high, Chinese and English.
 */
import { avgPool2d, cat, ones, scaledDotProductAttention, type Tensor, zeros } from "../../src/index.ts";
import { activation, Conv2d, FrozenBatchNorm2d, LayerNorm, Linear, Module } from "../../src/nn/index.ts";

const hardswish = activation("hardswish");
const silu = activation("silu");

/** A learned scale and shift for the whole tensor. */
class Affine extends Module {
  scale: Tensor = ones([1]);
  shift: Tensor = zeros([1]);

  forward(x: Tensor): Tensor {
    return x.mul(this.scale).add(this.shift);
  }
}

/** Convolution, affine, hard swish, affine: a reparameterised layer at inference. */
class RepLayer extends Module {
  conv: Conv2d;
  lab = new Affine();
  act_lab = new Affine();

  constructor(inChannels: number, outChannels: number, kernel: number, stride: readonly [number, number], groups = 1) {
    super();
    this.conv = new Conv2d(inChannels, outChannels, kernel, { stride, padding: (kernel - 1) / 2, groups });
  }

  forward(x: Tensor): Tensor {
    return this.act_lab.forward(hardswish(this.lab.forward(this.conv.forward(x))));
  }
}

/** Squeeze and excitation: scales channels by a small MLP of their means (arXiv 1709.01507). */
class SqueezeExcite extends Module {
  conv1: Conv2d;
  conv2: Conv2d;

  constructor(channels: number) {
    super();
    this.conv1 = new Conv2d(channels, channels / 4, 1);
    this.conv2 = new Conv2d(channels / 4, channels, 1);
  }

  forward(x: Tensor): Tensor {
    const mean = x.mean([2, 3], true); // [B, C, 1, 1]
    return x.mul(activation("hardsigmoid")(this.conv2.forward(this.conv1.forward(mean).relu())));
  }
}

/** Depthwise convolution, then 1 x 1. */
class LCNetBlock extends Module {
  dw_conv: RepLayer;
  se?: SqueezeExcite;
  pw_conv: RepLayer;

  constructor({ kernel, from, to, stride = [1, 1], se = false }: BlockShape) {
    super();
    this.dw_conv = new RepLayer(from, from, kernel, stride, from);
    if (se) this.se = new SqueezeExcite(from);
    this.pw_conv = new RepLayer(from, to, 1, [1, 1]);
  }

  forward(x: Tensor): Tensor {
    const y = this.dw_conv.forward(x);
    return this.pw_conv.forward(this.se ? this.se.forward(y) : y);
  }
}

interface BlockShape {
  kernel: number;
  from: number;
  to: number;
  stride?: readonly [number, number];
  se?: boolean;
}
/** The backbone's blocks in order. */
const blocks: readonly BlockShape[] = [
  { kernel: 3, from: 16, to: 32 },
  { kernel: 3, from: 32, to: 64 },
  { kernel: 3, from: 64, to: 64 },
  { kernel: 3, from: 64, to: 128, stride: [2, 1] },
  { kernel: 3, from: 128, to: 128 },
  { kernel: 3, from: 128, to: 240, stride: [1, 2] },
  ...Array.from({ length: 4 }, () => ({ kernel: 5, from: 240, to: 240 })),
  { kernel: 5, from: 240, to: 480, stride: [2, 1], se: true },
  { kernel: 5, from: 480, to: 480, se: true },
  { kernel: 5, from: 480, to: 480, stride: [2, 1] },
  { kernel: 5, from: 480, to: 480 },
];

/** Convolution without bias, batch norm, swish. */
class ConvNorm extends Module {
  conv: Conv2d;
  norm: FrozenBatchNorm2d;

  constructor(from: number, to: number, kernel: readonly [number, number] = [1, 1]) {
    super();
    const padding = kernel.map((k) => (k - 1) / 2) as [number, number];
    this.conv = new Conv2d(from, to, kernel, { padding, bias: false });
    this.norm = new FrozenBatchNorm2d(to);
  }

  forward(x: Tensor): Tensor {
    return silu(this.norm.forward(this.conv.forward(x)));
  }
}

const DIM = 120;
const HEADS = 8;

class Attention extends Module {
  qkv = new Linear(DIM, 3 * DIM);
  proj = new Linear(DIM, DIM);

  forward(x: Tensor): Tensor {
    const [b, t] = x.shape;
    const qkv = this.qkv.forward(x).reshape([b, t, 3, HEADS, DIM / HEADS]);
    const part = (i: number) => qkv.select(2, i).transpose(1, 2); // [B, H, T, D]
    const y = scaledDotProductAttention(part(0), part(1), part(2));
    return this.proj.forward(y.transpose(1, 2).reshape([b, t, DIM]));
  }
}

/** A pre-norm transformer block. */
class Block extends Module {
  norm1 = new LayerNorm(DIM);
  mixer = new Attention();
  norm2 = new LayerNorm(DIM);
  fc1 = new Linear(DIM, 2 * DIM);
  fc2 = new Linear(2 * DIM, DIM);

  forward(x: Tensor): Tensor {
    const y = x.add(this.mixer.forward(this.norm1.forward(x)));
    return y.add(this.fc2.forward(silu(this.fc1.forward(this.norm2.forward(y)))));
  }
}

/** Reduces the channels, mixes the positions of the line, and concatenates its input. */
class Neck extends Module {
  conv1 = new ConvNorm(480, 60, [1, 3]);
  conv2 = new ConvNorm(60, DIM);
  blocks = [new Block(), new Block()];
  norm = new LayerNorm(DIM);
  conv3 = new ConvNorm(DIM, 480);
  conv4 = new ConvNorm(960, 60, [1, 3]);
  conv1x1 = new ConvNorm(60, DIM);

  /** [B, 480, 1, T] to [B, T, 120]. */
  forward(x: Tensor): Tensor {
    const [b, , , t] = x.shape;
    let y = this.conv2.forward(this.conv1.forward(x)).flatten(2).transpose(1, 2); // [B, T, D]
    for (const block of this.blocks) y = block.forward(y);
    const mixed = this.norm.forward(y).transpose(1, 2).reshape([b, DIM, 1, t]);
    const joined = cat([x, this.conv3.forward(mixed)], 1); // [B, 960, 1, T]
    return this.conv1x1.forward(this.conv4.forward(joined)).flatten(2).transpose(1, 2);
  }
}

export class TextRecognizer extends Module {
  stem = new Conv2d(3, 16, 3, { stride: 2, padding: 1, bias: false });
  stem_norm = new FrozenBatchNorm2d(16);
  backbone = blocks.map((shape) => new LCNetBlock(shape));
  neck = new Neck();
  head: Linear;

  constructor(readonly classes: number) {
    super();
    this.head = new Linear(DIM, classes);
  }

  /** pixels [B, 3, 48, W], W a multiple of 8, to the input of the head, [B, W / 8, 120]. */
  features(pixels: Tensor): Tensor {
    const [, c, h, w] = pixels.shape;
    if (pixels.ndim !== 4 || c !== 3 || h !== 48 || w % 8)
      throw new Error(`TextRecognizer: pixels must be [B, 3, 48, W] with W a multiple of 8, got [${pixels.shape}]`);
    let x = this.stem_norm.forward(this.stem.forward(pixels));
    for (const block of this.backbone) x = block.forward(x); // at the end [B, 480, 3, W / 4]
    return this.neck.forward(avgPool2d(x, [3, 2]));
  }

  /** Probabilities of the classes (0 = blank) at each position, [B, W / 8, classes]. */
  forward(pixels: Tensor): Tensor {
    return this.head.forward(this.features(pixels)).softmax(-1);
  }
}
