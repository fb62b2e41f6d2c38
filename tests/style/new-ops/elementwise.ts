import { float, row } from "../../../src/ops/elementwise.ts";

export const softsign = row({
  name: "softsign",
  rule: float,
  wgsl: ([x]) => `(${x} / (1.0 + abs(${x})))`,
  js: (x) => x / (1 + Math.abs(x)),
  vjp: (g, _y, [x]) => [g.div(x.abs().add(1).square())],
});
