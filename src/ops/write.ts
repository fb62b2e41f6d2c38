import { numel, type Shape, show } from "../graph/shape.ts";
import { apply, type Tensor } from "../tensor/tensor.ts";
import { defineOp } from "./define.ts";
import { where } from "./elementwise.ts";
import { positionsAlong } from "./reduce.ts";
import { splitWrite } from "./split.ts";

/**
 * Sources: cache [B, H, S, D], value [B, H, t, D], position i32 [] or [B]. Output: the cache, with its rows position to
 * position + t - 1 replaced.
 */
const writeAtOp = defineOp({
  name: "write_at",
  kind: "kernel",
  inPlace: [0],
  strided: [1],
  split: splitWrite,
  vjp: (g, _y, [cache, value, position]) => {
    const [B, H, S, D] = cache.shape;
    const t = value.shape[2];
    const start = position.reshape([-1, 1, 1, 1]);
    const row = positionsAlong(2, S, 4);
    const written = row.ge(start).logicalAnd(row.lt(start.add(t)));
    const rows = start.add(positionsAlong(2, t, 4)).expand([B, H, t, D]);
    return [where(written, 0, g), g.gather(2, rows), null];
  },
  reference: ([cache, value, position], _attrs, { shape, dtype }) => {
    const data = cache.data.slice();
    const [B, H, S, D] = shape;
    const t = value.shape[2];
    for (let b = 0; b < B; b++) {
      const at = position.data[position.data.length === 1 ? 0 : b];
      for (let h = 0; h < H; h++)
        for (let i = 0; i < t; i++) {
          const [from, row] = [((b * H + h) * t + i) * D, at + i];
          if (row >= 0 && row < S) data.set(value.data.subarray(from, from + D), ((b * H + h) * S + row) * D);
        }
    }
    return { data, shape, dtype };
  },
});

/** @throws unless value [B, H, t, D] fits a cache [B, H, S, D] at `position`. A position on the host must leave room. */
export function checkWrite(op: string, [B, H, S, D]: Shape, value: Tensor, position: Tensor): void {
  const t = value.shape[2];
  if (value.ndim !== 4 || value.shape[0] !== B || value.shape[1] !== H || value.shape[3] !== D || !(t <= S)) {
    throw new Error(
      `${op}: value ${show(value.shape)} does not fit cache ${show([B, H, S, D])}: expected [${B},${H},t,${D}] with t <= ${S}`,
    );
  }
  if (position.dtype !== "i32" || (position.numel !== 1 && numel(position.shape) !== B)) {
    throw new Error(`${op}: position must be i32, one or [${B}], got ${position.dtype} ${show(position.shape)}`);
  }
  const bad = position.node.host?.find((p) => p < 0 || p + t > S);
  if (bad !== undefined)
    throw new RangeError(`${op}: ${t} rows from ${bad} do not lie in a cache of ${S}: expected position 0 to ${S - t}`);
}

/**
 * Cache [B, H, S, D] whose rows from `position` on are value [B, H, t, D]. Position is i32, one number or one per sample.
 * After `assign(cache, writeAt(cache, value, position))` the write happens in place.
 * @throws if the value does not fit, or a position on the host leaves no room.
 */
export function writeAt(cache: Tensor, value: Tensor, position: Tensor): Tensor {
  checkWrite("writeAt", cache.shape, value, position);
  return apply(writeAtOp, [cache, value.to(cache.dtype), position], {}, cache.shape, cache.dtype);
}
