import { show } from "../../graph/shape.ts";
import { type FormatOptions, formatValues } from "../format.ts";
import { Tensor } from "../tensor.ts";
import { addMethods } from "./add.ts";

declare module "../tensor.ts" {
  interface Tensor {
    /**
     * As torch prints: the values if they are on the host (given by `tensor(...)`, or read before), else shape, dtype and
     * "pending". It never computes. `console.log(x)` and notebooks show the same.
     */
    toString(options?: FormatOptions): string;
    /** Computes the values and logs them. Returns this. */
    print(options?: FormatOptions): Promise<this>;
  }
}

const PREFIX = "tensor(";

function text(x: Tensor, options?: FormatOptions): string {
  const { host } = x.node;
  const facts = [
    ...(host && x.numel > 0 ? [] : [`shape: ${show(x.shape)}`]),
    ...(host && x.dtype === "f32" && x.numel > 0 ? [] : [`dtype: ${x.dtype}`]),
    ...(x.requiresGrad ? ["requiresGrad: true"] : []),
  ];
  const values = host ? formatValues(host, x.shape, x.dtype, PREFIX.length, options) : "pending";
  return `${PREFIX}${[values, ...facts].join(", ")})`;
}

const shown = { configurable: true, writable: true, enumerable: false } as const;
Object.defineProperty(Tensor.prototype, "toString", {
  ...shown,
  value(this: Tensor, options?: FormatOptions) {
    return text(this, options);
  },
});
// console.log of Node, Bun and Deno; cells of Deno's notebooks.
for (const key of ["nodejs.util.inspect.custom", "Deno.customInspect"])
  Object.defineProperty(Tensor.prototype, Symbol.for(key), {
    ...shown,
    value(this: Tensor) {
      return text(this);
    },
  });
Object.defineProperty(Tensor.prototype, Symbol.for("Jupyter.display"), {
  ...shown,
  value(this: Tensor) {
    return { "text/plain": text(this) };
  },
});

// Consoles of browsers, where custom formatters are on.
const page = globalThis as { document?: unknown; devtoolsFormatters?: unknown[] };
if (page.document) {
  page.devtoolsFormatters ??= [];
  page.devtoolsFormatters.push({
    header: (x: unknown) => (x instanceof Tensor ? ["pre", {}, text(x)] : null),
    hasBody: () => false,
  });
}

addMethods({
  async print(options?: FormatOptions) {
    await this.data();
    console.log(text(this, options));
    return this;
  },
});
