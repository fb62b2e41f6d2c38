/** What `npm test` and `npm run demo` do before they start, in processes of their own. */
import { spawnSync } from "node:child_process";
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { root } from "../../scripts/environment.mjs";

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "shadegrad-commands-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

/** Runs Node in the checkout. */
function node(args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
  return { status, stdout, stderr };
}

describe("Node's version", () => {
  const withVersion = (version: string, script: string) => {
    const code = `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "${version}" } })`;
    return node(["--import", `data:text/javascript,${encodeURIComponent(code)}`, `scripts/${script}`]);
  };

  test.each([
    ["18.20.8", "test.mjs"],
    ["20.15.1", "demo.mjs"],
    ["20.9.0", "setup.mjs"],
  ])("%s ends scripts/%s with a message", (version, script) => {
    const { status, stdout, stderr } = withVersion(version, script);
    expect(status).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^shadegrad needs Node 20\.16 or later; this is [^\n]*\n$/);
  });

  test.each(["20.16.0", "22.0.0", "100.0.0"])("%s is new enough", (version) => {
    expect(withVersion(version, "node-version.mjs")).toEqual({ status: 0, stdout: "", stderr: "" });
  });
});

test.skipIf(process.platform !== "linux")(
  "without an adapter, and not allowed to install one, a command ends with one message and code 1",
  () => {
    const env = {
      SHADEGRAD_NO_INSTALL: "1",
      VK_ICD_FILENAMES: join(scratch, "none.json"),
      VK_DRIVER_FILES: join(scratch, "none.json"),
    };
    const { status, stdout, stderr } = node(["scripts/demo.mjs", "--quick"], env);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(
      /^\nNo WebGPU adapter: .*\nWhy: SHADEGRAD_NO_INSTALL is set\nWhat to do: .*\n\nWays to get an adapter:\n/,
    );
    expect(stderr).not.toMatch(/^ +at /m);
  },
);

describe.skipIf(process.platform === "win32")("the folder for XDG_RUNTIME_DIR", () => {
  const code = `import { runtimeFolder } from "./scripts/environment.mjs";
    import { lstatSync } from "node:fs";
    const folder = runtimeFolder(process.argv[1]);
    console.log(folder, folder === runtimeFolder(process.argv[1]), (lstatSync(folder).mode & 0o777).toString(8));`;
  const chosen = () => node(["--input-type=module", "-e", code, scratch]).stdout.trim().split(" ");
  const fixed = () => join(scratch, `shadegrad-xdg-${process.getuid!()}`);

  test("has a fixed name, for this user alone", () => {
    expect(chosen()).toEqual([fixed(), "true", "700"]);
    expect(chosen()).toEqual([fixed(), "true", "700"]);
  });

  test.each<[string, () => void]>([
    ["others may enter", () => mkdirSync(fixed()) as undefined],
    ["others may write", () => (mkdirSync(fixed()), chmodSync(fixed(), 0o722))],
    ["it is a link", () => (mkdirSync(join(scratch, "x"), { mode: 0o700 }), symlinkSync(join(scratch, "x"), fixed()))],
    ["it is a file", () => writeFileSync(fixed(), "")],
  ])("is another one, removed at the end, where %s", (_what, make) => {
    make();
    const [folder, same, mode] = chosen();
    expect([folder === fixed(), same, mode]).toEqual([false, "true", "700"]);
    expect(() => lstatSync(folder)).toThrow("ENOENT");
  });
});
