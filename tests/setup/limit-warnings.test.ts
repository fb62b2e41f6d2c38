/** Dawn's two limit warnings are held back, and nothing else that is written to stderr. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { childEnvironment, LIMIT_WARNING, limitWarningFilter, root } from "../../scripts/environment.mjs";
import { bundle } from "../../scripts/run.mjs";
import { LIMIT_WARNING as libraryWarning } from "../../src/runtime/node.ts";

const folder = join(root, ".build/limit-warnings");

/** Writes a program and returns the path of its bundle. */
async function program(name: string, code: string): Promise<string> {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.ts`), code);
  return bundle(join(folder, `${name}.ts`));
}

/** Runs a shell command with NODE and FILE in its environment; returns what it prints. */
const shell = (command: string, file: string, env: Record<string, string> = {}) =>
  execFileSync("sh", ["-c", command], {
    encoding: "utf8",
    env: { ...childEnvironment(), ...env, NODE: process.execPath, FILE: file },
    stdio: ["ignore", "pipe", "inherit"],
  });

const warnings = ["Uniform", "Storage"].map(
  (kind) =>
    `Warning: maxDynamic${kind}BuffersPerPipelineLayout artificially reduced from 1000000 to 16 to fit dynamic offset allocation limit.`,
);

test("the scripts and the library know the same lines", () => {
  expect([LIMIT_WARNING.source, LIMIT_WARNING.flags]).toEqual([libraryWarning.source, libraryWarning.flags]);
  expect(`${warnings.join("\n")}\n`.replace(LIMIT_WARNING, "")).toBe("");
  for (const other of [
    "Warning: maxDynamicUniformBuffersPerPipelineLayout is odd.\n",
    "Warning: maxBindGroups artificially reduced from 8 to 4 to fit dynamic offset allocation limit.\n",
    `x ${warnings[0]}\n`,
  ])
    expect(other.replace(LIMIT_WARNING, "")).toBe(other);
});

test("a filter finds a warning that comes in two pieces, and gives everything else in order", () => {
  const warning = `${warnings[0]}\n`;
  for (let cut = "Warning: maxDynamic".length; cut < warning.length; cut++) {
    const filter = limitWarningFilter();
    const pieces = [`a\n${warning.slice(0, cut)}`, `${warning.slice(cut)}b`, "c\nWarning: maxDynamic", "s are many\n"];
    expect(pieces.map(filter)).toEqual(["a\n", "b", "c\n", "Warning: maxDynamics are many\n"]);
  }
});

describe.skipIf(process.platform !== "linux")("a library that writes to descriptor 2", () => {
  let file: string;
  const output = ["before", "Warning: another", "child", "after"];

  beforeAll(async () => {
    file = await program(
      "writes",
      `import { spawnSync } from "node:child_process";
import { readdirSync, readFile, writeSync } from "node:fs";
import { withoutLimitWarnings } from "../../src/runtime/node.ts";
const descriptors = () => readdirSync("/proc/self/fd").length;
writeSync(2, "before\\n");
const open = descriptors();
if (process.env.READS) readFile("/proc/self/status", () => {});
const value = await withoutLimitWarnings(() => {
  writeSync(2, ${JSON.stringify(`${warnings[0]}\nWarning: another\n`)});
  spawnSync("sh", ["-c", "echo child >&2"], { stdio: "inherit" });
  writeSync(2, ${JSON.stringify(`${warnings[1]}\n`)});
  if (process.env.THROWS) throw new Error("discovery failed");
  return 7;
}).catch((error) => error.message);
writeSync(2, "after\\n");
console.log(value, descriptors() - open);`,
    );
  });

  test.each<[string, Record<string, string>, string]>([
    ["gives the others in order", {}, "7 0"],
    ["waits for files that are being read", { READS: "1" }, "7 0"],
    ["passes an error on", { THROWS: "1" }, "discovery failed 0"],
  ])("to a pipe: %s", (_what, env, result) => {
    expect(shell('"$NODE" "$FILE" 2>&1 | cat', file, env).trim().split("\n")).toEqual([...output, result]);
  });

  test("to a pipe: SHADEGRAD_DEBUG shows all", () => {
    const printed = shell('"$NODE" "$FILE" 2>&1 | cat', file, { SHADEGRAD_DEBUG: "1" });
    expect(printed).toContain(`before\n${warnings[0]}\nWarning: another\nchild\n${warnings[1]}\nafter\n`);
  });

  test("to a pipe that nobody reads any more: goes on", () => {
    const command = '{ "$NODE" "$FILE" 2>&1 >&3 | true; } 3>&1';
    expect(shell(command, file).trim()).toMatch(/^(7 0)?$/); // nothing where the first line already ends the process
  });

  test("to a file: stays as it is, shared with the shell's own position", () => {
    const log = join(folder, "log.txt");
    shell(`{ "$NODE" "$FILE"; echo end >&2; } > "${log}" 2>&1`, file);
    expect(readFileSync(log, "utf8").split("\n").slice(0, -3)).toEqual([
      "before",
      warnings[0],
      "Warning: another",
      "child",
      warnings[1],
      "after",
    ]);
  });

  test.skipIf(spawnSync("script", ["--version"]).status !== 0)("to a terminal: gives the others in order", () => {
    const printed = shell('script -qec "\\"$NODE\\" \\"$FILE\\"" /dev/null < /dev/null', file, { NO_COLOR: "1" });
    expect(printed.replaceAll("\r", "").trim().split("\n")).toEqual([...output, "7 0"]);
  });

  test("below scripts/run.mjs: to files and sockets too, with the rest of a last line", () => {
    const source = join(folder, "writes.ts");
    const args = [join(root, "scripts/run.mjs"), source];
    const { stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8", env: childEnvironment() });
    expect(stderr.trim().split("\n")).toEqual(output);
    const log = join(folder, "log.txt");
    shell(`"$NODE" "${args[0]}" "$FILE" > "${log}" 2>&1`, source);
    expect(readFileSync(log, "utf8")).not.toContain("artificially");
  });
});

test.skipIf(process.platform !== "linux")("the first output of a user's program is its own", async () => {
  const file = await program(
    "user",
    `import { init, ones } from "../../src/index.ts";
await init({ backend: "webgpu" });
console.log(await ones(3).sum().item());`,
  );
  expect(shell('"$NODE" "$FILE" 2>&1 | cat', file)).toBe("3\n");
});
