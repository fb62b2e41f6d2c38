import { addKernel, kernelNames } from "../../kernels/index.ts";
import { type BindingKind, bindings, declarations, withoutComments } from "../compile/codegen/template.ts";
import type { Origin } from "../graph/op.ts";
import { definitionError, kindOf } from "./definition.ts";

/** What a dispatch is checked against. */
export interface WgslFile {
  /** Name in the kernel registry. */
  readonly kernel: string;
  /** Storage bindings in order. `element`: type of the array's elements, if the file names a plain one. */
  readonly storage: readonly { readonly name: string; readonly kind: BindingKind; readonly element?: string }[];
  /** Words of the uniform struct, and of what its alignment adds at the end; undefined if that is not known. */
  readonly uniformWords?: readonly [number, number];
  /** Types of the parameters, and their defaults. */
  readonly parameters: ReadonlyMap<string, { readonly type: string; readonly value: string }>;
  /** Hooks by name. */
  readonly hooks: ReadonlyMap<string, Hook>;
  /** The file without comments. */
  readonly code: string;
}

interface Hook {
  /** Type of its value, by the name in the file. */
  readonly type: string;
  readonly epilogue: boolean;
}

/** A user's WGSL: one file, or several by name. */
export type Wgsl = string | Readonly<Record<string, string>>;

/**
 * Registers WGSL files as kernels, whose names begin with `name`; errors call the op `what`. Returns them by the user's names ("" = the only one). If a
 * file has a fault, none is registered, so that the definition can be repeated.
 */
export function addFiles(name: string, what: string, wgsl: Wgsl, origin: Origin): Map<string, WgslFile> {
  const taken = new Set(kernelNames());
  const files = Object.entries(typeof wgsl === "string" ? { "": wgsl } : wgsl);
  if (files.length === 0) throw definitionError(what, origin, "wgsl has no file");
  const kernelOf = (file: string): string => (file ? `${base}.${file}` : base);
  let base = name;
  for (let n = 1; files.some(([file]) => taken.has(kernelOf(file))); n++) base = `${name}~${n}`;
  const parsed = files.map(([file, text]) => {
    const source = typeof text === "string" ? normalized(text) : text;
    return { file, source, facts: parse(kernelOf(file), file ? `${what}, file ${file}` : what, source, origin) };
  });
  for (const { source, facts } of parsed) addKernel(facts.kernel, source, origin.place);
  return new Map(parsed.map(({ file, facts }) => [file, facts]));
}

/** The text with \n at line ends, and the lines that templates look for from the first column on. */
const normalized = (text: string): string =>
  text.replace(/\r\n?/g, "\n").replace(/^[ \t]+(?=(?:fn|const|alias)\b.*\/\/ (?:hook|param)\b)/gm, "");

/** The forms of hooks: reads of an input, and the epilogue. */
const READ_HOOK = /^fn (\w+)\(at: u32(?:, i: vec3u)?\) -> ([\w<>]+) \{ \/\/ hook/;
const EPILOGUE_HOOK = /^fn (epilogue)\(value: ([\w<>]+), i: vec3u\) -> \2 \{ \/\/ hook/;

function parse(kernel: string, what: string, text: string, origin: Origin): WgslFile {
  const fail = (problem: string): never => {
    throw definitionError(what, origin, problem);
  };
  if (typeof text !== "string") fail(`the WGSL must be a string, got ${kindOf(text)}`);
  const code = withoutComments(text);
  if (!/@compute\b[^;{}]*\bfn main\s*\(/.test(code)) fail("the WGSL has no entry point `@compute … fn main`");
  const storage = storageOf(code, fail);
  const { params: parameters } = declarations(text);
  const hooks = new Map<string, Hook>();
  text.split("\n").forEach((line, i) => {
    const own = (what: string): never => fail(`line ${i + 1} of the WGSL is no ${what}\n    ${line.trim()}`);
    const form = READ_HOOK.exec(line) ?? EPILOGUE_HOOK.exec(line);
    if (form) hooks.set(form[1], { type: form[2], epilogue: form[1] === "epilogue" });
    if (/\/\/ hook\b/.test(line) && (!form || (form[1] === "epilogue" && !EPILOGUE_HOOK.test(line))))
      own(
        "hook in a known form: `fn NAME(at: u32) -> T { // hook`, `fn NAME(at: u32, i: vec3u) -> T { // hook` or `fn epilogue(value: T, i: vec3u) -> T { // hook`",
      );
    if (/\/\/ param\b/.test(line) && !/^(?:const \w+\s*:\s*\w+|alias \w+)\s*=[^;]+;\s*\/\/ param\b/.test(line))
      own("parameter in a known form: `const NAME: type = value; // param` or `alias NAME = type; // param`");
  });
  return { kernel, storage, uniformWords: uniformWordsOf(code), parameters, hooks, code };
}

/** The storage bindings; throws unless all bindings are in group 0, numbered from 0 on, with the uniform first. */
function storageOf(code: string, fail: (problem: string) => never): WgslFile["storage"] {
  let found: ReturnType<typeof bindings> = [];
  try {
    found = bindings(code);
  } catch (error) {
    fail((error as Error).message);
  }
  const declared = code.match(/\bvar\s*<\s*(?:uniform|storage)/g)?.length ?? 0;
  if (declared !== found.length)
    fail(
      `${declared - found.length} of ${declared} buffers are not declared as \`@group(0) @binding(n) var<uniform>\` or \`var<storage, read>\` or \`var<storage, read_write>\``,
    );
  if (found[0]?.kind !== "uniform") fail("the WGSL must have `@group(0) @binding(0) var<uniform>`, for its sizes");
  if (found.slice(1).some((b) => b.kind === "uniform")) fail("the WGSL has more than one uniform");
  return found.slice(1).map(({ name, kind }) => {
    const element = new RegExp(`>\\s*${name}\\s*:\\s*array<\\s*(\\w+(?:<\\w+>)?)`).exec(code)?.[1];
    return { name, kind, element: element && scalarOf(element) && element };
  });
}

/** The scalar of a WGSL scalar or vector type ("vec4f" → "f32"); undefined for other types. */
export function scalarOf(type: string): string | undefined {
  const vector = /^vec[234](?:([fiuh])|<(\w+)>)$/.exec(type);
  const scalar = vector ? (vector[2] ?? { f: "f32", i: "i32", u: "u32", h: "f16" }[vector[1]]) : type;
  return scalar && /^(?:[fiu]32|f16)$/.test(scalar) ? scalar : undefined;
}

/** Components that a hook passes at a time: 1 or 4. Follows aliases and the dispatch's parameters; undefined for other types. */
export function widthOf(file: WgslFile, type: string, given: Readonly<Record<string, unknown>>): 1 | 4 | undefined {
  const alias = given[type] ?? file.parameters.get(type)?.value ?? aliasIn(file.code, type);
  if (alias !== undefined && alias !== type) return widthOf(file, String(alias), given);
  if (/^[fiu]32$/.test(type)) return 1;
  return /^vec4/.test(type) && scalarOf(type) !== undefined ? 4 : undefined;
}

const aliasIn = (code: string, name: string): string | undefined =>
  new RegExp(`\\balias\\s+${name}\\s*=\\s*([\\w<>]+)\\s*;`).exec(code)?.[1];

/** Alignment and size of what a uniform struct may hold, in words. */
function layoutOf(type: string): { align: number; words: number } | undefined {
  if (/^[fiu]32$/.test(type)) return { align: 1, words: 1 };
  const components = Number(/^vec([234])/.exec(type)?.[1]);
  return components && /32$/.test(scalarOf(type) ?? "")
    ? { align: components === 2 ? 2 : 4, words: components }
    : undefined;
}

/** Words of the uniform: those of its members, and those with its alignment. Undefined where a member is not a plain one. */
function uniformWordsOf(code: string): [number, number] | undefined {
  const type = /\bvar\s*<\s*uniform\s*>\s*\w+\s*:\s*([\w<>]+)/.exec(code)?.[1] ?? "";
  const body = new RegExp(`\\bstruct\\s+${type}\\s*\\{([^}]*)\\}`).exec(code)?.[1];
  const members = body?.split(/,(?![^<]*>)/).filter((member) => member.trim() !== "") ?? [type];
  let [words, align] = [0, 1];
  for (const member of members) {
    const layout = layoutOf(/^(?:\s*\w+\s*:)?\s*([\w<>]+)\s*$/.exec(member)?.[1] ?? "");
    if (!layout) return undefined;
    words = Math.ceil(words / layout.align) * layout.align + layout.words;
    align = Math.max(align, layout.align);
  }
  return [words, Math.ceil(words / align) * align];
}

/** Whether the file reads or writes the buffer `name` outside of `hooks`. */
export function usedOutside(file: WgslFile, name: string, hooks: readonly string[]): boolean {
  const own = hooks.reduce((code, hook) => withoutFunction(code, hook), file.code);
  return new RegExp(`(?<![.\\w])${name}\\s*\\[|&\\s*${name}\\b`).test(own);
}

function withoutFunction(code: string, name: string): string {
  const start = code.search(new RegExp(`\\bfn\\s+${name}\\s*\\(`));
  const open = code.indexOf("{", start);
  if (start < 0 || open < 0) return code;
  let depth = 0;
  for (let at = open; at < code.length; at++) {
    if (code[at] === "{") depth++;
    if (code[at] === "}" && --depth === 0) return code.slice(0, start) + code.slice(at + 1);
  }
  return code;
}
