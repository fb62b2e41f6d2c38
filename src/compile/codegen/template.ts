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
  code.replace(/\/\/.*|\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/.+/g, (line) => " ".repeat(line.length)));

/** The bindings of a kernel in order of their numbers. */
export function bindings(code: string): Binding[] {
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
}

/** The parameters of a template, with types and defaults, and its hooks. */
export function declarations(code: string): {
  params: Map<string, { type: string; value: string }>;
  hooks: Set<string>;
} {
  const params = new Map<string, { type: string; value: string }>();
  const hooks = new Set<string>();
  for (const line of code.split("\n")) {
    const param = PARAM.exec(line);
    if (param) params.set(param[1] ?? param[3], { type: param[2] ?? "alias", value: param[4].trim() });
    const hook = HOOK.exec(line);
    if (hook) hooks.add(hook[1]);
  }
  return { params, hooks };
}

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
  for (const full of code.split("\n")) {
    let line = full;
    if (depth > 0) {
      let end: number;
      ({ depth, end } = endOfBody(line, depth));
      if (depth > 0) continue;
      line = line.slice(end);
    }
    const param = PARAM.exec(line);
    const name = param ? (param[1] ?? param[3]) : HOOK.exec(line)?.[1];
    if (param && name !== undefined && name in params) {
      const value = literal(name, param[2] ?? "alias", params[name]);
      out.push(param[2] ? `const ${name}: ${param[2]} = ${value};` : `alias ${name} = ${value};`);
    } else if (!param && name !== undefined && name in hooks) {
      out.push(line, hooks[name]);
      depth = 1;
    } else {
      out.push(line);
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
