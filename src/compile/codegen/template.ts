import type { Specialization } from "../../graph/kernel-call.ts";

/** Kind of a binding: a uniform, a buffer that is only read, or a buffer that is written. */
export type BindingKind = "uniform" | "read" | "read_write";

export interface Binding {
  readonly index: number;
  readonly name: string;
  readonly kind: BindingKind;
}

const PARAM = /^(?:const (\w+)\s*:\s*(\w+)\s*=|alias (\w+)\s*=)\s*([^;]+);\s*\/\/ param\b/;
const HOOK = /^fn (\w+)\(.*\{ \/\/ hook\b/;
const BINDING =
  /(?:@group\(0\)\s*@binding\((\d+)\)|@binding\((\d+)\)\s*@group\(0\))\s*var\s*<\s*(uniform|storage(?:\s*,\s*(read|read_write))?)\s*>\s*(\w+)/g;

/** The code with blanks in the place of its comments. */
export const withoutComments = (code: string): string =>
  code.replace(/\/\/.*|\/\*[\s\S]*?\*\//g, (comment) =>
    comment.includes("\n") ? comment.replace(/.+/g, (line) => " ".repeat(line.length)) : " ".repeat(comment.length),
  );

const KEPT = 256; // results that `once` keeps: more than there are kernel files

/** `parse`, which remembers its results: plans specialise the same few files again and again. */
function once<T>(parse: (code: string) => T): (code: string) => T {
  const known = new Map<string, T>();
  return (code) => {
    let result = known.get(code);
    if (result === undefined) {
      result = parse(code);
      if (known.size >= KEPT) known.clear();
      known.set(code, result);
    }
    return result;
  };
}

/** The bindings of a kernel in order of their numbers. @throws unless they are numbered from 0 without gaps. */
export const bindings: (code: string) => readonly Binding[] = once((code) => {
  const list = [...withoutComments(code).matchAll(BINDING)].map((m): Binding => {
    const kind = m[3] === "uniform" ? "uniform" : m[4] === "read_write" ? "read_write" : "read";
    return { index: Number(m[1] ?? m[2]), name: m[5], kind };
  });
  list.sort((a, b) => a.index - b.index);
  list.forEach((b, i) => {
    if (b.index !== i)
      throw new Error(
        `kernel: binding ${i} is missing or taken twice (near ${b.name}): number bindings from 0 without gaps`,
      );
  });
  return list;
});

interface Declarations {
  readonly params: ReadonlyMap<string, { readonly type: string; readonly value: string }>;
  readonly hooks: ReadonlySet<string>;
}

/** The parameters of a template, with types and defaults, and its hooks. */
export const declarations: (code: string) => Declarations = once((code) => {
  const params = new Map<string, { type: string; value: string }>();
  const hooks = new Set<string>();
  for (const { param, hook, type, value } of linesOf(code)) {
    if (param !== undefined) params.set(param, { type, value });
    if (hook !== undefined) hooks.add(hook);
  }
  return { params, hooks };
});

/** A line of a template, and the parameter or the hook that it declares. */
interface Line {
  readonly text: string;
  readonly param?: string;
  readonly hook?: string;
  /** Type of the parameter; "alias" if it is a type. */
  readonly type: string;
  readonly value: string;
}

const linesOf: (code: string) => readonly Line[] = once((code) =>
  code.split("\n").map((text): Line => {
    const [, constant, type = "alias", alias, value = ""] = PARAM.exec(text) ?? [];
    return { text, param: constant ?? alias, hook: HOOK.exec(text)?.[1], type, value: value.trim() };
  }),
);

/** The template with these parameters and hook bodies. @throws unless every name exists and every value fits its type. */
export function specialize(
  code: string,
  { params = {}, hooks = {}, writes, halves, extraBindings = [], directives, helpers }: Specialization,
): string {
  const known = declarations(code);
  for (const name of Object.keys(params)) {
    if (!known.params.has(name))
      throw new Error(`kernel has no param ${name}; it has ${[...known.params.keys()].join(", ") || "none"}`);
  }
  for (const name of Object.keys(hooks)) {
    if (!known.hooks.has(name))
      throw new Error(`kernel has no hook ${name}; it has ${[...known.hooks].join(", ") || "none"}`);
  }
  const out: string[] = directives ? [directives] : [];
  let depth = 0; // of braces, inside the old body of a replaced hook
  for (const { text, param, hook, type } of linesOf(code)) {
    if (depth > 0) {
      let end: number;
      ({ depth, end } = endOfBody(text, depth));
      if (depth === 0) out.push(text.slice(end)); // from the brace on: no declaration
    } else if (param !== undefined && param in params) {
      const value = literal(param, type, params[param]);
      out.push(type === "alias" ? `alias ${param} = ${value};` : `const ${param}: ${type} = ${value};`);
    } else if (hook !== undefined && hook in hooks) {
      out.push(text, hooks[hook]);
      depth = 1;
    } else {
      out.push(text);
    }
  }
  let next = bindings(code).length;
  for (const declaration of extraBindings)
    out.push(`@group(0) @binding(${next++}) ${declaration.replace(/;?\s*$/, ";")}`);
  if (helpers) out.push(helpers);
  let shader = out.join("\n");
  if (writes) shader = shader.replace(`var<storage, read> ${writes}:`, `var<storage, read_write> ${writes}:`);
  if (halves)
    shader = shader.replace(new RegExp(`(var<storage, read_write> ${halves}:) array<\\w+>`), "$1 array<vec2u>");
  return shader;
}

/** The depth of braces after a line, or 0 and the position of the brace that closes the body. */
function endOfBody(line: string, depth: number): { depth: number; end: number } {
  for (const { 0: brace, index } of withoutComments(line).matchAll(/[{}]/g)) {
    depth += brace === "{" ? 1 : -1;
    if (depth === 0) return { depth, end: index };
  }
  return { depth, end: line.length };
}

function literal(name: string, type: string, value: number | string | boolean): string {
  const fail = (): never => {
    throw new Error(`kernel param ${name}: ${type} does not hold ${JSON.stringify(value)}`);
  };
  switch (type) {
    case "alias":
      return typeof value === "string" && /^[\w<>, ]+$/.test(value) ? value : fail();
    case "bool":
      return typeof value === "boolean" ? String(value) : value === 0 || value === 1 ? String(value === 1) : fail();
    case "u32":
      return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 32
        ? `${value}u`
        : fail();
    case "i32":
      return typeof value === "number" && Number.isInteger(value) && Math.abs(value) < 2 ** 31 ? `${value}i` : fail();
    case "f32":
      return typeof value === "number" && Number.isFinite(value) ? `f32(${Math.fround(value)})` : fail();
    default:
      return fail();
  }
}
