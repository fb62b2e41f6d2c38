/** Set-up on invented machines: whatever goes wrong ends in one message that says why and what to do. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ensureAdapter, type probeAdapter, routes } from "../../scripts/adapter.mjs";
import { thisMachine } from "../../scripts/apt.mjs";
import { root } from "../../scripts/environment.mjs";

const fixtures = join(root, "tests/setup/sources");
let etc: string;
let printed: string[];

beforeEach(() => {
  etc = join(mkdtempSync(join(tmpdir(), "shadegrad-machine-")), "etc");
  mkdirSync(join(etc, "apt/sources.list.d"), { recursive: true });
  printed = [];
  for (const method of ["log", "error"] as const)
    vi.spyOn(console, method).mockImplementation((line) => void printed.push(String(line)));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(join(etc, ".."), { recursive: true });
});

interface Setting {
  platform?: NodeJS.Platform;
  uid?: number;
  terminal?: boolean;
  env?: Record<string, string>;
  /** Commands that do not exist. */
  without?: string[];
  sudo?: boolean;
  os?: string;
  /** A file of tests/setup/sources, installed as that of the system. */
  sources?: string;
  candidate?: string;
  /** What apt-get prints to stderr for "update" and "install"; an empty text is success. */
  update?: string;
  install?: string;
  write?: (path: string) => void;
}

/** A machine whose commands only answer, and the list of those that it was to run. */
function invent(setting: Setting) {
  const ran: string[] = [];
  writeFileSync(join(etc, "os-release"), setting.os ?? 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n');
  if (setting.sources) {
    const name = setting.sources;
    const target = name.endsWith(".list") ? "sources.list" : "sources.list.d/debian.sources";
    writeFileSync(join(etc, "apt", target), readFileSync(join(fixtures, name)));
  }
  const missing = (name: string) => setting.without?.includes(name);
  const machine = {
    ...thisMachine,
    platform: setting.platform ?? "linux",
    uid: setting.uid ?? 0,
    terminal: setting.terminal ?? false,
    env: setting.env ?? {},
    etc,
    ask(command: string[], input?: string) {
      if (missing(command[0])) return { status: undefined, stdout: "", stderr: "ENOENT" };
      if (command[0] === "sudo" && command[1] === "-n" && !setting.sudo)
        return { status: 1, stdout: "", stderr: "password" };
      if (command.includes("tee")) ran.push(`tee ${command.at(-1)!.replace(etc, "/etc")}: ${input}`);
      if (command[0] === "apt-cache") {
        const stdout = `x:\n  Candidate: ${setting.candidate ?? "25.0.7-2~bpo12+1"}\n`;
        return { status: 0, stdout, stderr: "" };
      }
      if (command[0] === "dpkg-query") return { status: 0, stdout: "mesa-vulkan-drivers\t25.0.7", stderr: "" };
      return { status: 0, stdout: "", stderr: "" };
    },
    show(command: string[]) {
      ran.push(command.filter((word) => !/^-qq$|^-o$|::|^env$|=/.test(word)).join(" "));
      const stderr = (command.includes("update") ? setting.update : setting.install) ?? "";
      return { status: stderr === "" || stderr.startsWith("W:") ? 0 : 100, stderr };
    },
  };
  return { machine, ran };
}

type Probe = ReturnType<typeof probeAdapter>;

/** Sets the machine up; `second` is what the probe finds after an installation. */
function setUp(setting: Setting, second: Probe = { description: "llvmpipe" }) {
  const { machine, ran } = invent(setting);
  const answers: Probe[] = [{ problem: "no driver" }, second];
  const ok: boolean = ensureAdapter(machine, () => answers.shift()!);
  return { ok, ran, printed: printed.join("\n"), added: readdirSync(join(etc, "apt/sources.list.d")) };
}

const debian12 = { sources: "docker-debian-12.sources" };
const backports = "shadegrad-bookworm-backports.sources";

describe("installs the driver", () => {
  test("on Debian 12 as Docker ships it, from the backports of the mirror in use", () => {
    const { ok, ran } = setUp(debian12);
    expect(ok).toBe(true);
    expect(ran).toEqual([
      "apt-get update",
      "apt-get install -y --no-install-recommends -t bookworm-backports mesa-vulkan-drivers",
    ]);
    expect(readFileSync(join(etc, "apt/sources.list.d", backports), "utf8")).toBe(
      "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm-backports\nComponents: main\n" +
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    );
  });

  test("on a cloud image that has backports, without a new source", () => {
    const { ok, ran, added } = setUp({ sources: "cloud-debian-12.sources" });
    expect([ok, added, ran.length]).toEqual([true, ["debian.sources"], 2]);
  });

  test("takes backports from Debian's mirror, not from another vendor's suite of the same name", () => {
    const vendor = "Types: deb\nURIs: https://packages.example.com/cli/\nSuites: bookworm\nComponents: main\n";
    writeFileSync(join(etc, "apt/sources.list.d/a-vendor.sources"), vendor);
    setUp(debian12);
    expect(readFileSync(join(etc, "apt/sources.list.d", backports), "utf8")).toContain(
      "URIs: http://deb.debian.org/debian\n",
    );
  });

  test("takes Debian's own archive where the sources say stable instead of bookworm", () => {
    writeFileSync(join(etc, "apt/sources.list"), "deb http://mirror.example/debian stable main\n");
    expect(setUp({}).ok).toBe(true);
    expect(readFileSync(join(etc, "apt/sources.list.d", backports), "utf8")).toContain(
      "URIs: http://deb.debian.org/debian\n",
    );
  });

  test("on Debian 13 without a new source", () => {
    const os = 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n';
    const { ok, ran } = setUp({ os, sources: "docker-debian-13.sources" });
    expect([ok, ran[1]]).toEqual([true, "apt-get install -y --no-install-recommends mesa-vulkan-drivers"]);
  });

  test("with sudo: the source is written and apt-get run by it", () => {
    const { ok, ran } = setUp({ ...debian12, uid: 1000, sudo: true });
    expect(ok).toBe(true);
    expect(ran[0]).toMatch(/^tee \/etc\/apt\/sources.list.d\/shadegrad-bookworm-backports.sources: Types: deb\n/);
    expect(ran[1]).toBe("sudo -n apt-get update");
  });

  test("although another source fails the update", () => {
    const update = "E: The repository 'http://gone.example x Release' does not have a Release file.";
    expect(setUp({ ...debian12, update }).ok).toBe(true);
  });
});

const noHost = "W: Failed to fetch http://deb.debian.org/x  Temporary failure resolving 'deb.debian.org'";
const failures: [string, Setting, string, RegExp, RegExp][] = [
  ["SHADEGRAD_NO_INSTALL", { env: { SHADEGRAD_NO_INSTALL: "1" } }, "", /SHADEGRAD_NO_INSTALL is set/, /unset it/],
  ["macOS", { platform: "darwin" }, "", /on macOS/, /Mac with a GPU/],
  ["Windows", { platform: "win32" }, "", /on Windows/, /graphics driver/],
  [
    "no apt",
    { without: ["apt-get"], os: 'PRETTY_NAME="Fedora 42"\nID=fedora\n' },
    "",
    /Fedora 42 has no apt-get/,
    /Fedora mesa-vulkan-drivers/,
  ],
  ["no rights", { ...debian12, uid: 1000 }, "", /not root and has no sudo/, /administrator run `npm run setup`/],
  ["no sudo at a terminal", { uid: 1000, terminal: true, without: ["sudo"] }, "", /not root/, /administrator/],
  [
    "offline",
    { ...debian12, update: noHost, install: "E: Unable to locate package mesa-vulkan-drivers" },
    "install",
    /apt-get update failed: Failed to fetch/,
    /connect this machine to the network/,
  ],
  [
    "a broken source",
    {
      ...debian12,
      update: "E: Malformed entry 1 in list file /etc/apt/x.list (URI)\nE: The list of sources could not be read.",
      install: "E: Malformed entry 1 in list file /etc/apt/x.list (URI)",
    },
    "install",
    /update failed: Malformed entry 1 in list file \/etc\/apt\/x.list \(URI\); The list/,
    /fix the source file/,
  ],
  [
    "a mirror without backports",
    {
      ...debian12,
      update:
        "E: The repository 'http://deb.debian.org/debian bookworm-backports Release' does not have a Release file.",
    },
    "update",
    /mirror has no suite bookworm-backports/,
    /add a mirror that has it: echo "deb /,
  ],
  [
    "a Mesa that is too old",
    { os: 'ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n', candidate: "20.3.5-1" },
    "update",
    /Debian 11 offers Mesa 20.3.5-1, which is too old/,
    /use a system .*Debian 12 or later/,
  ],
  [
    "a full disk",
    { ...debian12, install: "E: You don't have enough free space in /var: No space left on device" },
    "install",
    /install failed: You don't have/,
    /free disk space/,
  ],
  [
    "a failure without a message",
    { ...debian12, install: "dpkg: broken" },
    "install",
    /install failed: it gave no reason/,
    /make `apt-get update` and/,
  ],
];

describe("says why there is no adapter and what to do, and leaves no source behind", () => {
  test.each(failures)("%s", (_what, setting, lastStep, why, whatToDo) => {
    const { ok, ran, printed, added } = setUp(setting);
    expect(ok).toBe(false);
    expect(ran.at(-1)?.split(" ")[1] ?? "").toBe(lastStep);
    expect(printed).toMatch(
      new RegExp(`\nNo WebGPU adapter: .*\nWhy: .*${why.source}.*\nWhat to do: .*${whatToDo.source}`),
    );
    expect(printed).toContain("init({ device }) takes a GPUDevice of yours");
    expect(printed).not.toMatch(/^ +at /m);
    expect(added).not.toContain(backports);
  });

  test("a folder that cannot be written", () => {
    const { machine, ran } = invent(debian12);
    mkdirSync(join(etc, "apt/sources.list.d", backports)); // a folder where the file should go: fails for root too
    expect(ensureAdapter(machine, () => ({ problem: "no driver" }))).toBe(false);
    expect(ran).toEqual([]);
    expect(printed.join("\n")).toMatch(
      /Why: cannot write .*\nWhat to do: make it writable, or add the suite by hand:\n {4}Types: deb/,
    );
  });

  test("a driver that gives no adapter", () => {
    const { ok, printed } = setUp(debian12, { problem: "the driver ended the process with SIGSEGV" });
    expect(ok).toBe(false);
    expect(printed).toMatch(
      /No WebGPU adapter: the driver ended.*\nWhy: Mesa 25.0.7 is installed.*\nWhat to do: use a system that is known/,
    );
  });
});

test("the ways to get an adapter are those that the library's error lists", () => {
  expect(routes()).toMatch(/^Ways to get an adapter:\n- Node: /);
});
