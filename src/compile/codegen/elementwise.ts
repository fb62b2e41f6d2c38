import type { DeviceInfo } from "../../graph/device-info.ts";
import {
  add,
  constant,
  type Index,
  type IndexVector,
  linearize,
  reshapeIndex,
  substitute,
  variable,
} from "../../graph/index-map.ts";
import type { Node } from "../../graph/node.ts";
import { numel } from "../../graph/shape.ts";
import { type Expr, ExprBuilder, type ExprScope, rewrite, walk } from "../expression/expr.ts";
import { normalize, type Space } from "../expression/space.ts";
import { bytesOf, cutOf, reach, stretches, windowOf } from "../expression/window.ts";
import { Emitter } from "./emit.ts";
import { assemble, decode, describe, type Kernel, variables } from "./kernel.ts";

const STREAM = 1 << 18; // a tensor of at least this many vec4f is a long stream

/** A part of an iteration space: first position and size of each variable. */
type Box = readonly { readonly start: number; readonly size: number }[];

/**
 * Kernels that compute `root` from buffers through elementwise nodes, views and gathers. Usually one kernel. If a buffer is
 * larger than a binding, each kernel computes a box of the elements from windows of the buffers.
 */
export function elementwiseKernels(root: Node, scope: ExprScope, device: DeviceInfo, part?: Box): Kernel[] {
  const { shape, dtype } = root;
  const half = dtype === "f16";
  // f16 is stored in pairs: one invocation must store four consecutive elements, whatever the shape.
  const flat = half && shape.at(-1)! % 4 !== 0;
  const box = part ?? (flat ? [numel(shape)] : shape).map((size) => ({ start: 0, size }));
  const at = box.map(({ start, size }, d) => add(variable(d, size), constant(start)));
  const index: IndexVector = flat ? reshapeIndex(at, [numel(shape)], shape) : at;
  const expr = new ExprBuilder(scope).build(root, index, true);
  const store = flat ? at[0] : linearize(index, shape);
  const loads = walk([expr]).filter((e) => e.kind === "load");
  const cut = cutOf([{ node: root, address: store }, ...loads], device.maxBindingBytes);
  if (!cut) return [boxKernel(root, expr, store, flat ? [box[0].size] : box.map((b) => b.size), device)];
  const { start, size } = box[cut.variable];
  const unit = half && cut.variable === box.length - 1 ? 4 : 1;
  return stretches(size, cut.parts, unit).flatMap((s) =>
    elementwiseKernels(
      root,
      scope,
      device,
      box.map((b, d) => (d === cut.variable ? { start: start + s.start, size: s.size } : b)),
    ),
  );
}

/** The kernel that computes a box of `root`: `value` is the element at a position, `store` its address. */
function boxKernel(root: Node, value: Expr, store: Index, box: readonly number[], device: DeviceInfo): Kernel {
  const half = root.dtype === "f16";
  const flat = half && root.shape.at(-1)! % 4 !== 0;
  const [first, end] = reach(store, numel(root.shape));
  const large = bytesOf(root) > device.maxBindingBytes;
  const { node: ref, start } = large ? windowOf(root, root.dtype, first, end) : { node: root, start: 0 };
  const address = start === 0 ? store : add(store, constant(-start));
  const { space, extra } = flat
    ? { space: { sizes: box, exprs: [value] }, extra: [address] }
    : inLoadOrder(normalize({ sizes: box.length ? box : [1], exprs: [value] }, [address]), half);
  const [to] = extra;
  const { sizes } = space;
  const last = sizes.length - 1;
  // The last vec4 of a single dim may extend past the end of the dim. That is harmless only at the end of the tensor.
  const over = sizes.length === 1 && (sizes[0] % 4 === 0 || end === numel(root.shape) - 1);
  const rows = to.terms.every(({ coef, atom }) => coef % 4 === 0 || (atom.kind === "var" && atom.id === last));
  const whole = rows && to.offset % 4 === 0 && (over || (sizes.length > 1 && sizes[last] % 4 === 0));
  const vector = numel(sizes) >= 4 && whole ? last : half ? last : -1;
  const width = vector >= 0 ? 4 : 1;
  const emitter = new Emitter({ variables: variables("i", sizes), vector, prefix: "", device });
  emitter.declare(space.exprs);
  // Long streams: two vec4 per invocation, half the tensor apart. This halves the number of workgroups to start.
  const count = Math.ceil(numel(sizes) / width);
  const iterations = sizes.length === 1 && count >= STREAM && count % 2 === 0 ? 2 : 1;
  const body =
    iterations === 2
      ? [`for (var half = 0u; half < 2u; half++) {`, `let at = id + half * ${emitter.word(count / 2)};`]
      : [];
  body.push(...decode(emitter, iterations === 2 ? "at" : "id", variables("i", sizes), sizes, vector));
  const result = emitter.emit(space.exprs[0], width);
  const strided = width === 4 && !half && strideOf(to, last) !== 1;
  const addresses = (strided ? [0, 1, 2, 3] : [0]).map((lane) => emitter.index(to, lane));
  body.push(emitter.take());
  const tail = width === 4 && sizes[last] % 4 !== 0;
  if (tail)
    body.push(
      `let inside = vec4u(i${last}, i${last} + 1u, i${last} + 2u, i${last} + 3u) < vec4u(${emitter.word(sizes[last])});`,
    );
  const { dtype } = root;
  const stored = tail ? `select(${emitter.type(dtype, width)}(), ${result}, inside)` : result;
  if (strided)
    addresses.forEach((at, lane) => body.push(emitter.store("out0", dtype, `${stored}.${"xyzw"[lane]}`, at, 1)));
  else body.push(emitter.store("out0", dtype, stored, addresses[0], width));
  const output = { ref, node: root, vector: width === 4 && !strided };
  if (iterations === 2) body.push("}");
  return assemble(describe(space.exprs), emitter, [output], [], count / iterations, body.join("\n"));
}

/**
 * Makes the dim along which most loads are contiguous the innermost dim, so that they become vec4 loads. It scatters the
 * store, so it pays off for many loads and one store (the gradient of a convolution).
 */
function inLoadOrder(normal: { space: Space; extra: Index[] }, half: boolean): { space: Space; extra: Index[] } {
  const { sizes, exprs } = normal.space;
  const last = sizes.length - 1;
  if (half || last < 1) return normal;
  const loads = walk(exprs).filter((e) => e.kind === "load");
  // A load that repeats elements, as a vector per channel does, comes from the cache: it counts by its share of elements.
  const share = (address: Index): number => {
    const read = sizes.filter((_, d) => strideOf(address, d) !== 0);
    return numel(read) / numel(sizes);
  };
  const contiguous = (d: number) => loads.filter((e) => strideOf(e.address, d) === 1);
  const score = (d: number): number =>
    sizes[d] % 4 === 0 ? contiguous(d).reduce((sum, e) => sum + share(e.address), 0) : 0;
  const best = sizes.map((_, d) => d).reduce((a, b) => (score(b) >= score(a) ? b : a));
  if (best === last || score(best) <= score(last) + 1) return normal;
  const move = (d: number): number => (d === best ? last : d > best ? d - 1 : d);
  const replace = (v: number, size: number): Index => variable(move(v), size);
  return {
    space: { sizes: [...sizes.filter((_, d) => d !== best), sizes[best]], exprs: rewrite(exprs, replace) },
    extra: normal.extra.map((index) => substitute(index, replace, (e) => e)),
  };
}

const strideOf = (index: Index, d: number): number =>
  index.terms.reduce((sum, { coef, atom }) => (atom.kind === "var" && atom.id === d ? sum + coef : sum), 0);
