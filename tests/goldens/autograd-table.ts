import * as sg from "../../src/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import type { Inputs } from "./ops-table.ts";

const { grad } = sg;

/** The functions of the autograd cases, as their `function` says in torch's notation. */
export const functions: Readonly<Record<string, (x: Inputs) => Tensor>> = {
  activations: ({ x, a }) =>
    [x.gelu(), x.silu(), x.softplus(), x.sigmoid(), x.tanh(), x.erf(), x.gelu({ approximate: "tanh" })]
      .map((y, i) => y.mul(a.select(0, i)))
      .reduce((sum, y) => sum.add(y))
      .sum(),
  attention: ({ q, k, v, a }) => q.matmul(k.t()).div(Math.sqrt(q.shape[1])).softmax(-1).matmul(v).square().mul(a).sum(),
  conv: ({ x, w, b }) =>
    sg
      .avgPool2d(sg.conv2d(x, w, b, { padding: 1 }).tanh(), 2)
      .square()
      .sum(),
  "cross-entropy": ({ x, w, target }) => sg.crossEntropy(x.matmul(w.t()), target),
  elementary: ({ x, a }) =>
    [x.mul(x.log()), x.sqrt().mul(x.neg().exp()), x.mul(3).sin().div(x), x.pow(1.5), x.cos().mul(x.add(1).rsqrt())]
      .reduce((sum, y) => sum.add(y))
      .mul(a)
      .sum(),
  "gradient-penalty": ({ x, w1, b1, w2 }) => {
    const leaf = x.detach().requiresGrad_();
    const score = leaf.matmul(w1.t()).add(b1).tanh().matmul(w2).sum();
    const [slope] = grad(score, [leaf], { createGraph: true });
    return slope.square().sum(1).sqrt().sub(1).square().mean();
  },
  indexing: ({ x, idx }) =>
    x
      .cumsum(0)
      .indexSelect(0, idx)
      .pow(3)
      .sum()
      .add(
        x
          .max()
          .square()
          .mul(sg.cat([x, x.square()]).mean()),
      ),
  "layer-norm": ({ x, weight, bias, a }) => sg.layerNorm(x, weight, bias, 1e-5).square().mul(a).sum(),
  logdet: ({ a, b }) => a.slogdet().logabsdet.add(b.dot(a.inverse().mv(b))),
  logsumexp: ({ x }) => x.logsumexp(0),
  mlp: ({ x, y, w1, b1, w2, b2 }) => sg.mseLoss(x.matmul(w1.t()).add(b1).tanh().matmul(w2.t()).add(b2), y),
  "normalize-jacobian": ({ x }) => x.div(x.square().sum().sqrt()),
  "relu-squared": ({ x, w }) =>
    w
      .matmul(x)
      .relu()
      .square()
      .sum()
      .add(sg.where(x.gt(0), x.pow(3), x.square()).sum())
      .add(x.clamp({ min: -1, max: 1 }).mul(x).sum()),
  rosenbrock: ({ x }) => {
    const [head, tail] = [x.slice([[null, -1]]), x.slice([[1]])];
    return tail.sub(head.square()).square().mul(100).add(head.neg().add(1).square()).sum();
  },
  "softmax-jacobian": ({ x }) => x.softmax(-1),
  third: ({ x }) => x.sin().exp().add(x.pow(4).div(10)),
  "two-inputs-jacobian": ({ a, x, y }) => a.matmul(x).sin().mul(y.neg().exp()),
};
