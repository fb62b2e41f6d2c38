/**
 * ResNet-18 (https://arxiv.org/abs/1512.03385) in its form for 32 x 32 images, on patterns of ten classes:
 * `node scripts/run.mjs examples/torch/resnet.ts`.
 */
import { crossEntropy, init, manualSeed, noGrad, type Tensor, tensor } from "../../src/index.ts";
import { BatchNorm2d, Conv2d, Linear, Module, Sequential, SGD } from "../../src/nn/index.ts";
import { integers, isMain, uniform } from "./shared.ts";

const [BATCH, SIDE, CLASSES] = [4, 32, 10];

class BasicBlock extends Module {
  conv1: Conv2d;
  bn1: BatchNorm2d;
  conv2: Conv2d;
  bn2: BatchNorm2d;
  shortcut: Sequential;

  constructor(inPlanes: number, planes: number, stride: number) {
    super();
    this.conv1 = new Conv2d(inPlanes, planes, 3, { stride, padding: 1, bias: false });
    this.bn1 = new BatchNorm2d(planes);
    this.conv2 = new Conv2d(planes, planes, 3, { padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(planes);
    this.shortcut =
      stride === 1 && inPlanes === planes
        ? new Sequential()
        : new Sequential(new Conv2d(inPlanes, planes, 1, { stride, bias: false }), new BatchNorm2d(planes));
  }
  forward(x: Tensor): Tensor {
    const y = this.bn1.forward(this.conv1.forward(x)).relu();
    return this.bn2.forward(this.conv2.forward(y)).add(this.shortcut.forward(x)).relu();
  }
}

const stage = (inPlanes: number, planes: number, stride: number): Sequential =>
  new Sequential(new BasicBlock(inPlanes, planes, stride), new BasicBlock(planes, planes, 1));

export class ResNet18 extends Module {
  conv1 = new Conv2d(3, 64, 3, { padding: 1, bias: false });
  bn1 = new BatchNorm2d(64);
  layer1 = stage(64, 64, 1);
  layer2 = stage(64, 128, 2);
  layer3 = stage(128, 256, 2);
  layer4 = stage(256, 512, 2);
  linear = new Linear(512, CLASSES);

  /** x [B, 3, 32, 32] -> scores [B, 10]. */
  forward(x: Tensor): Tensor {
    let y = this.bn1.forward(this.conv1.forward(x)).relu();
    for (const layer of [this.layer1, this.layer2, this.layer3, this.layer4]) y = layer.forward(y);
    return this.linear.forward(y.mean([2, 3]));
  }
}

/** Batch `step`: waves whose direction and colour follow from the class, with noise. */
export function batch(step: number): [Tensor, Tensor] {
  const labels = integers(3000 + step, BATCH, CLASSES);
  const noise = uniform(4000 + step, BATCH * 3 * SIDE * SIDE, -0.5, 0.5);
  const pixels = noise.map((n, i) => {
    const [x, y, c] = [i % SIDE, Math.floor(i / SIDE) % SIDE, Math.floor(i / (SIDE * SIDE)) % 3];
    const label = labels[Math.floor(i / (3 * SIDE * SIDE))];
    const angle = (Math.PI * label) / CLASSES;
    return n + Math.sin((x * Math.cos(angle) + y * Math.sin(angle)) * 0.8 + c * label);
  });
  return [tensor(pixels, { shape: [BATCH, 3, SIDE, SIDE] }), tensor(labels)];
}

export async function train(model: ResNet18, steps: number, log: (step: number, loss: number) => void): Promise<void> {
  const optimizer = new SGD(model.parameters(), { lr: 0.001, momentum: 0.9, weightDecay: 5e-4 });
  for (let step = 0; step < steps; step++) {
    const [x, y] = batch(step);
    const loss = crossEntropy(model.forward(x), y);
    loss.backward();
    await optimizer.step();
    log(step, await loss.item());
  }
}

/** Share of right classes in eight batches that were not trained on. */
export async function accuracy(model: ResNet18): Promise<number> {
  model.eval();
  let right = 0;
  for (let i = 1; i <= 8; i++) {
    const [x, y] = batch(-i);
    right += await noGrad(() => model.forward(x).argmax(1).eq(y).sum()).item();
  }
  return right / (8 * BATCH);
}

if (isMain(import.meta.url)) {
  await init();
  manualSeed(1);
  const model = new ResNet18();
  await train(model, 100, (step, loss) => step % 5 === 0 && console.log(`step ${step}: loss ${loss.toFixed(4)}`));
  console.log(`right classes: ${(100 * (await accuracy(model))).toFixed(1)} %`);
}
