import type { Range } from "../../graph/index-map.ts";
import type { BufferRef } from "../../graph/kernel-call.ts";
import type { Node } from "../../graph/node.ts";
import type { Origin } from "../../graph/op.ts";
import { numel } from "../../graph/shape.ts";
import { type Expr, walk } from "../expression/expr.ts";
import { bufferDeclaration, type Emitter, numbersDeclaration } from "./emit.ts";
import type { BindingKind } from "./template.ts";

/** One binding of a kernel: a uniform of these words, or a buffer. */
export type Bound = { readonly words: readonly number[] } | { readonly ref: BufferRef; readonly write: boolean };

/** One dispatch, ready to compile. `bind` is @binding(0), @binding(1), … */
export interface Kernel {
  readonly label: string;
  readonly code: string;
  readonly bind: readonly Bound[];
  readonly grid: readonly [number, number, number];
  readonly flops?: number;
  /** Where the user's ops and kernels in it were defined. */
  readonly origins?: readonly Origin[];
}

/** The binding kinds of a kernel, which its pipeline needs. */
export const kindsOf = ({ bind }: Pick<Kernel, "bind">): BindingKind[] =>
  bind.map((b) => ("words" in b ? "uniform" : b.write ? "read_write" : "read"));

const WORKGROUP = 64; // invocations

/** Workgroups for `count` invocations within the limit of 65,535 per dim. */
function gridFor(count: number): [number, number, number] {
  const groups = Math.ceil(count / WORKGROUP);
  return groups <= 65_535 ? [groups, 1, 1] : [32_768, Math.ceil(groups / 32_768), 1];
}

/** Statements that decode a linear position into variables, innermost last. The variable `vectorAt` advances by 4. */
export function decode(
  emitter: Emitter,
  position: string,
  names: readonly string[],
  sizes: readonly number[],
  vectorAt: number,
): string[] {
  const lines: string[] = [];
  const counts = sizes.map((size, d) => (d === vectorAt ? Math.ceil(size / 4) : size));
  let limit = numel(counts);
  let rest = position;
  for (let d = sizes.length - 1; d >= 0; d--) {
    let value = rest;
    if (d > 0) {
      lines.push(`let q${names[d]} = ${emitter.quotient(rest, counts[d], limit)};`);
      value = `${rest} - q${names[d]} * ${emitter.word(counts[d])}`;
      rest = `q${names[d]}`;
      limit = Math.ceil(limit / counts[d]);
    }
    lines.push(`let ${names[d]} = ${d === vectorAt ? `(${value}) * 4u` : value};`);
  }
  return lines;
}

interface Output {
  readonly ref: BufferRef;
  readonly node: Node;
  readonly vector: boolean;
}

/** Makes a kernel of a body: adds declarations and `main`, which returns early in invocations from `count` on. */
export function assemble(
  label: string,
  emitter: Emitter,
  outputs: readonly Output[],
  scratch: { ref: BufferRef; name: string; type: string; write: boolean }[],
  count: number,
  body: string,
): Kernel {
  const grid = gridFor(count);
  const position = grid[1] === 1 ? "group.x" : `(group.y * ${emitter.word(grid[0])} + group.x)`;
  const limit = emitter.word(count);
  const bind: Bound[] = [{ words: emitter.numbers }];
  const declarations: string[] = [];
  for (const b of emitter.buffers.values()) {
    declarations.push(bufferDeclaration(bind.length, b.name, b.node.dtype, b.vector, "read"));
    bind.push({ ref: b.node, write: false });
  }
  for (const t of scratch) {
    declarations.push(
      `@group(0) @binding(${bind.length}) var<storage, ${t.write ? "read_write" : "read"}> ${t.name}: array<${t.type}>;`,
    );
    bind.push({ ref: t.ref, write: t.write });
  }
  outputs.forEach((o, i) => {
    declarations.push(bufferDeclaration(bind.length, `out${i}`, o.node.dtype, o.vector, "read_write"));
    bind.push({ ref: o.ref, write: true });
  });
  const code = `${emitter.directives}${numbersDeclaration(0, "n", emitter.numbers.length)}
${declarations.join("\n")}
${[...emitter.helpers].join("\n")}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
let id = ${position} * ${WORKGROUP}u + lane;
if (id >= ${limit}) { return; }
${body}
}
`;
  return { label, code, bind, grid, origins: [...emitter.origins] };
}

export const variables = (prefix: string, sizes: readonly number[]): string[] => sizes.map((_, d) => `${prefix}${d}`);

/** A guard belongs to padding, or to a gather, whose positions are computed. */
const guardName = (ranges: readonly Range[]): string =>
  ranges.some(({ index }) => index.terms.some(({ atom }) => atom.kind === "value")) ? "gather" : "pad";

/** The ops of an expression, for reports: "mul·add·gelu". */
export function describe(exprs: readonly Expr[]): string {
  const names = walk(exprs).flatMap((e) =>
    e.kind === "op" ? [e.op.name] : e.kind === "guard" ? [guardName(e.ranges)] : [],
  );
  if (names.length === 0) return "copy";
  return names.length > 6 ? `${names.slice(0, 5).join("·")}·+${names.length - 5}` : names.join("·");
}
