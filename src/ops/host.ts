import type { HostArray } from "../graph/dtype.ts";
import { numel, type Shape, show } from "../graph/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Host values of a tensor, or undefined if they are only on the device. */
export const hostOf = (x: Tensor): HostArray | Float64Array | undefined => x.node.host;

/**
 * Values that decide the shape of a result. They must be on the host: given by the user, or read before.
 * @throws if they are still on the device
 */
export function onHost(op: string, what: string, x: Tensor): HostArray | Float64Array {
  const { host } = x.node;
  if (!host)
    throw new Error(
      `${op}: the shape of the result depends on the values of ${what} ${show(x.shape)}, which are not on the host: \`await\` its data() first`,
    );
  return host;
}

/** Row-major positions of the elements that are not 0. NaN counts. */
export function positionsOf(values: ArrayLike<number>): Int32Array<ArrayBuffer> {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) count++;
  const at = new Int32Array(count);
  count = 0;
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) at[count++] = i;
  return at;
}

/** The coordinates of row-major positions, one list per dim. */
export function coordinatesOf(positions: Int32Array, shape: Shape): Int32Array<ArrayBuffer>[] {
  return shape.map((n, d) => {
    const stride = numel(shape.slice(d + 1));
    return positions.map((p) => Math.floor(p / stride) % n);
  });
}
