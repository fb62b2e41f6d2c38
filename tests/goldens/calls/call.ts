/** How golden cases are called: helpers of the tables. */
import type { Tensor } from "../../../src/tensor/tensor.ts";

export type Inputs = Record<string, Tensor>;
type Results = Tensor | readonly Tensor[];
/** Where the shape of a result is data, a promise. */
export type Call = (x: Inputs, attrs: any) => Results | Promise<Results>;

export const unary =
  (f: (x: Tensor) => Tensor): Call =>
  ({ x }) =>
    f(x);
export const binary =
  (f: (a: Tensor, b: Tensor) => Tensor): Call =>
  ({ a, b }) =>
    f(a, b);
export const along =
  (f: (x: Tensor, dim: any, keepdim: boolean) => Tensor): Call =>
  ({ x }, { dim, keepdim }) =>
    f(x, dim, keepdim);
export const extremum =
  (
    all: (x: Tensor) => Tensor,
    part: (x: Tensor, dim: number, keepdim: boolean) => { values: Tensor; indices: Tensor },
  ): Call =>
  ({ x }, { dim, keepdim }) => {
    if (dim === undefined) return all(x);
    const { values, indices } = part(x, dim, keepdim);
    return [values, indices];
  };
export const joined =
  (f: (parts: Tensor[], dim: number) => Tensor): Call =>
  (x, { dim }) =>
    f(Object.values(x), dim);
/** x[name](...args), the method in camelCase: "log_softmax" is `logSoftmax`. */
export const method = (x: Tensor, name: string, ...args: unknown[]): Tensor =>
  (x as unknown as Record<string, (...a: unknown[]) => Tensor>)[camelCase(name)](...args);

/** "keep_dim" → "keepDim". */
export const camelCase = (name: string): string => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** Options as the library spells them, the values as they are: what it does not know it must refuse or the case fails. */
export const options = (attrs: Record<string, unknown>): any =>
  Object.fromEntries(Object.entries(attrs).map(([name, value]) => [camelCase(name), value]));

/** The file writes infinities as strings. */
export const number = (value: number | string): number =>
  typeof value === "string" ? Number(value.replace("inf", "Infinity")) : value;
export const pairOf = (x: { values: Tensor; indices: Tensor }): Tensor[] => [x.values, x.indices];
