import type { Kernel } from "./kernel.ts";
import { withoutComments } from "./template.ts";

/** Workgroups per dimension that every WebGPU adapter takes. */
const MAX = 65_535;

const ENTRY = /@workgroup_size\(([^)]*)\)\s*fn main\s*\(([\s\S]*?)\)\s*\{/;
const BUILTIN = /@builtin\((\w+)\)\s*(\w+)\s*:\s*[\w<>]+/g;

/**
 * A kernel whose grid exceeds WebGPU's limit, as one with an equal number of workgroups within it: the shader unfolds
 * `workgroup_id`, and what follows from it, into the grid of the kernel. Other kernels stay as they are. The sizes are
 * constants of the shader: grids this large are rare enough to compile each.
 */
export function foldGrid(kernel: Kernel): Kernel {
  const [X, Y, Z] = kernel.grid;
  if (X <= MAX && Y <= MAX && Z <= MAX) return kernel;
  const count = X * Y * Z;
  if (count >= 2 ** 32)
    throw new RangeError(
      `${kernel.label}: ${X} x ${Y} x ${Z} workgroups: at most 2^32 - 1 can be numbered; split the work`,
    );
  const x = MAX;
  const y = Math.min(MAX, Math.ceil(count / x));
  const grid = [x, y, Math.ceil(count / (x * y))] as const;
  return { ...kernel, grid, code: unfolded(kernel, grid, count) };
}

function unfolded({ code, grid: [X, Y, Z], label }: Kernel, [x, y]: readonly number[], count: number): string {
  const plain = withoutComments(code); // equally long
  const entry = ENTRY.exec(plain);
  if (!entry) throw new Error(`internal: kernel ${label} has no entry point main`);
  const [whole, size, params] = entry;
  const builtins = new Map(Array.from(params.matchAll(BUILTIN), ([, builtin, name]) => [builtin, name]));
  const kept = [...builtins].filter(
    ([builtin]) => !["workgroup_id", "num_workgroups", "global_invocation_id"].includes(builtin),
  );
  const local = builtins.get("local_invocation_id") ?? "folded_local";
  const global = builtins.get("global_invocation_id");
  if (global && !builtins.has("local_invocation_id")) kept.push(["local_invocation_id", local]);
  const group = builtins.get("workgroup_id") ?? "unfolded_group";
  const sizes = [
    ...size
      .split(",")
      .map((n) => n.trim())
      .filter(Boolean),
    "1",
    "1",
  ].slice(0, 3);
  const groups = builtins.get("num_workgroups");
  const head = `@workgroup_size(${size})
fn main(@builtin(workgroup_id) folded: vec3u${[...kept].map(([builtin, name]) => `, @builtin(${builtin}) ${name}: ${typeOf(builtin)}`).join("")}) {
  let folded_id = folded.x + ${x}u * (folded.y + ${y}u * folded.z);
  if (folded_id >= ${count}u) { return; }
  let ${group} = vec3u(folded_id % ${X}u, folded_id / ${X}u % ${Y}u, folded_id / ${X * Y}u);
${groups ? `  let ${groups} = vec3u(${X}u, ${Y}u, ${Z}u);\n` : ""}${global ? `  let ${global} = ${group} * vec3u(${sizes.map((n) => `u32(${n})`).join(", ")}) + ${local};\n` : ""}`;
  return code.slice(0, entry.index) + head + code.slice(entry.index + whole.length);
}

const typeOf = (builtin: string): string => (builtin === "local_invocation_id" ? "vec3u" : "u32");
