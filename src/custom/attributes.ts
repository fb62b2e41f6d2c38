import type { Attrs } from "../graph/node.ts";
import type { Origin } from "../graph/op.ts";
import { Tensor } from "../tensor/tensor.ts";
import { definitionError, kindOf } from "./definition.ts";

/** Numbers, strings, booleans, and lists and objects of them, that specialise an op. Each combination is compiled apart. */
export type Attributes = Attrs;

/** Arguments of an op: operands, then its attributes. They may be absent only if none of them is required. */
export type Arguments<X, A> = Record<never, never> extends A ? [...X[], A] | X[] : [...X[], A];

/** Splits the arguments of a call into operands and attributes: a plain object that comes last. */
export function splitArguments<A extends object>(args: readonly unknown[]): { operands: unknown[]; attributes: A } {
  const last = args.at(-1);
  if (kindOf(last) === "object") return { operands: args.slice(0, -1), attributes: last as A };
  return { operands: last === undefined ? args.slice(0, -1) : [...args], attributes: {} as A };
}

/** A copy of a call's attributes, which later changes do not reach; throws unless they are plain data. */
export const copiedAttributes = <A extends object>(name: string, origin: Origin, attributes: A): A & Attributes =>
  copyOf(name, origin, attributes, []) as A & Attributes;

function copyOf(name: string, origin: Origin, value: unknown, path: readonly string[]): unknown {
  const copy = (x: unknown, key: string): unknown => copyOf(name, origin, x, [...path, key]);
  const kind = kindOf(value);
  if (["number", "string", "boolean", "undefined", "null"].includes(kind)) return value;
  if (path.length > MAX_DEPTH) throw definitionError(name, origin, `attribute ${path[0]} contains itself`);
  if (Array.isArray(value)) return value.map((x, i) => copy(x, String(i)));
  if (ArrayBuffer.isView(value) && "slice" in value) return (value as Float32Array).slice();
  if (kind === "object")
    return Object.fromEntries(Object.entries(value as object).map(([key, x]) => [key, copy(x, key)]));
  throw definitionError(
    name,
    origin,
    `attribute ${path.join(".")} must be plain data (numbers, strings, booleans, lists and objects of them), got ${kind}${value instanceof Tensor ? "; a tensor is an input" : ""}`,
  );
}

const MAX_DEPTH = 32;

/** Attributes as text: two that differ have different texts. JSON has one text for NaN, the infinities and null. */
export function attributesKey(value: unknown): string {
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (Array.isArray(value)) return `[${value.map(attributesKey).join()}]`;
  if (ArrayBuffer.isView(value)) return `${kindOf(value)}${attributesKey([...(value as Float32Array)])}`;
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value)
      .map(([key, x]) => `${JSON.stringify(key)}:${attributesKey(x)}`)
      .join()}}`;
  return JSON.stringify(value) ?? "undefined";
}
