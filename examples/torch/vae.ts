/**
 * A variational autoencoder on images of discs, after PyTorch's example: `node scripts/run.mjs examples/torch/vae.ts`.
 * Prints the loss, then draws discs of its own.
 */
import { binaryCrossEntropyWithLogits, init, manualSeed, noGrad, randn, type Tensor, tensor } from "../../src/index.ts";
import { Adam, Linear, Module } from "../../src/nn/index.ts";
import { isMain, uniform } from "./shared.ts";

const [SIDE, LATENT, BATCH] = [20, 8, 64];

export class VAE extends Module {
  fc1 = new Linear(SIDE * SIDE, 128);
  fc21 = new Linear(128, LATENT);
  fc22 = new Linear(128, LATENT);
  fc3 = new Linear(LATENT, 128);
  fc4 = new Linear(128, SIDE * SIDE);

  encode(x: Tensor): [Tensor, Tensor] {
    const h = this.fc1.forward(x).relu();
    return [this.fc21.forward(h), this.fc22.forward(h)];
  }
  /** Logits of the pixels. */
  decode(z: Tensor): Tensor {
    return this.fc4.forward(this.fc3.forward(z).relu());
  }
  forward(x: Tensor, noise: Tensor): { logits: Tensor; mu: Tensor; logvar: Tensor } {
    const [mu, logvar] = this.encode(x);
    const z = mu.add(noise.mul(logvar.mul(0.5).exp()));
    return { logits: this.decode(z), mu, logvar };
  }
}

/** Reconstruction and divergence from the normal distribution, summed over a batch (https://arxiv.org/abs/1312.6114). */
export function lossOf({ logits, mu, logvar }: ReturnType<VAE["forward"]>, x: Tensor): Tensor {
  const reconstruction = binaryCrossEntropyWithLogits(logits, x, { reduction: "sum" });
  const divergence = logvar.add(1).sub(mu.square()).sub(logvar.exp()).sum().mul(-0.5);
  return reconstruction.add(divergence);
}

/** Batch `step`: discs of random place and size. */
export function batch(step: number): Tensor {
  const random = uniform(2000 + step, 3 * BATCH);
  const pixels = Float32Array.from({ length: BATCH * SIDE * SIDE }, (_, i) => {
    const n = Math.floor(i / (SIDE * SIDE));
    const [y, x] = [Math.floor(i / SIDE) % SIDE, i % SIDE];
    const [cx, cy, r] = [5 + 10 * random[3 * n], 5 + 10 * random[3 * n + 1], 2 + 3 * random[3 * n + 2]];
    return Number((x - cx) ** 2 + (y - cy) ** 2 < r * r);
  });
  return tensor(pixels, { shape: [BATCH, SIDE * SIDE] });
}

export async function train(
  model: VAE,
  steps: number,
  log: (step: number, loss: number) => void,
  noise: (step: number) => Tensor = () => randn(BATCH, LATENT),
): Promise<void> {
  const optimizer = new Adam(model.parameters(), { lr: 1e-3 });
  for (let step = 0; step < steps; step++) {
    const x = batch(step);
    const loss = lossOf(model.forward(x, noise(step)), x);
    loss.backward();
    await optimizer.step();
    log(step, (await loss.item()) / BATCH);
  }
}

if (isMain(import.meta.url)) {
  await init();
  manualSeed(1);
  const model = new VAE();
  await train(model, 1500, (step, loss) => step % 100 === 0 && console.log(`step ${step}: loss ${loss.toFixed(2)}`));
  const drawn = (await noGrad(() => model.decode(randn(4, LATENT)).sigmoid())
    .reshape([4, SIDE, SIDE])
    .tolist()) as number[][][];
  for (let y = 0; y < SIDE; y++)
    console.log(
      drawn.map((image) => image[y].map((v) => " .:*#"[Math.min(4, Math.floor(v * 5))]).join("")).join(" | "),
    );
}
