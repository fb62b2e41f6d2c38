import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { aptSources, formatDeb822, parseDeb822, parseOneLine } from "../../scripts/apt-sources.mjs";
import { root } from "../../scripts/environment.mjs";

interface Source {
  uri: string;
  suite: string;
  components: string[];
  options: Record<string, string>;
}

const folder = join(root, "tests/setup/sources");
const scratch = mkdtempSync(join(tmpdir(), "shadegrad-sources-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const parse = (name: string, text: string): Source[] => (name.endsWith(".list") ? parseOneLine : parseDeb822)(text);
const fixture = (name: string) => readFileSync(join(folder, name), "utf8");
const shown = ({ uri, suite, components }: Source) => [uri, suite, ...components].join(" ");

/** As the images write them, and what apt reads from each. */
const expected: Record<string, string[]> = {
  "docker-debian-11.list": [
    "http://deb.debian.org/debian bullseye main",
    "http://deb.debian.org/debian-security bullseye-security main",
    "http://deb.debian.org/debian bullseye-updates main",
  ],
  "docker-debian-12.sources": [
    "http://deb.debian.org/debian bookworm main",
    "http://deb.debian.org/debian bookworm-updates main",
    "http://deb.debian.org/debian-security bookworm-security main",
  ],
  "docker-debian-13.sources": [
    "http://deb.debian.org/debian trixie main",
    "http://deb.debian.org/debian trixie-updates main",
    "http://deb.debian.org/debian-security trixie-security main",
  ],
  "cloud-debian-12.sources": [
    "mirror+file:///etc/apt/mirrors/debian.list bookworm main",
    "mirror+file:///etc/apt/mirrors/debian.list bookworm-updates main",
    "mirror+file:///etc/apt/mirrors/debian.list bookworm-backports main",
    "mirror+file:///etc/apt/mirrors/debian-security.list bookworm-security main",
  ],
  "installer-debian-12.list": [
    "http://ftp.de.debian.org/debian/ bookworm main non-free-firmware",
    "http://security.debian.org/debian-security bookworm-security main non-free-firmware",
    "http://ftp.de.debian.org/debian/ bookworm-updates main non-free-firmware",
  ],
  "dvd-debian-12.list": [
    "cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_ - Official amd64 DVD Binary-1 #1]/ bookworm main",
    "http://[2001:db8::1]:3142/debian bookworm main contrib",
  ],
  "docker-ubuntu-22.04.list": [
    "http://archive.ubuntu.com/ubuntu/ jammy main restricted",
    "http://archive.ubuntu.com/ubuntu/ jammy-updates main restricted",
    "http://archive.ubuntu.com/ubuntu/ jammy universe",
    "http://archive.ubuntu.com/ubuntu/ jammy-updates universe",
    "http://archive.ubuntu.com/ubuntu/ jammy-backports main restricted universe multiverse",
    "http://security.ubuntu.com/ubuntu/ jammy-security main restricted",
    "http://security.ubuntu.com/ubuntu/ jammy-security universe",
  ],
  "docker-ubuntu-24.04.sources": [
    "http://archive.ubuntu.com/ubuntu/ noble main universe restricted multiverse",
    "http://archive.ubuntu.com/ubuntu/ noble-updates main universe restricted multiverse",
    "http://archive.ubuntu.com/ubuntu/ noble-backports main universe restricted multiverse",
    "http://security.ubuntu.com/ubuntu/ noble-security main universe restricted multiverse",
  ],
  "cloud-ubuntu-24.04.sources": [
    "http://eu-central-1.ec2.archive.ubuntu.com/ubuntu/ noble main universe restricted multiverse",
    "http://eu-central-1.ec2.archive.ubuntu.com/ubuntu/ noble-updates main universe restricted multiverse",
    "http://eu-central-1.ec2.archive.ubuntu.com/ubuntu/ noble-backports main universe restricted multiverse",
    "http://security.ubuntu.com/ubuntu/ noble-security main universe restricted multiverse",
  ],
  "docker-ubuntu-26.04.sources": [
    "http://archive.ubuntu.com/ubuntu/ resolute main universe restricted multiverse",
    "http://archive.ubuntu.com/ubuntu/ resolute-updates main universe restricted multiverse",
    "http://archive.ubuntu.com/ubuntu/ resolute-backports main universe restricted multiverse",
    "http://security.ubuntu.com/ubuntu/ resolute-security main universe restricted multiverse",
  ],
  "nodesource.sources": ["https://deb.nodesource.com/node_22.x nodistro main"],
  "docker-ce.list": ["https://download.docker.com/linux/debian bookworm stable"],
  "manual.sources": [
    "https://one.example/debian/ bookworm main contrib",
    "https://one.example/debian/ bookworm-updates main contrib",
    "http://two.example/debian bookworm main contrib",
    "http://two.example/debian bookworm-updates main contrib",
    "file:///srv/packages ./",
  ],
};

test("every fixture has its expectation", () => {
  expect(readdirSync(folder).sort()).toEqual(Object.keys(expected).sort());
});

describe.each(Object.keys(expected))("%s", (name) => {
  test("gives the sources that apt reads", () => expect(parse(name, fixture(name)).map(shown)).toEqual(expected[name]));

  test("gives the same with CRLF, a byte order mark and no line end at the end", () => {
    const text = `\uFEFF${fixture(name).trimEnd().replaceAll("\n", "\r\n")}`;
    expect(parse(name, text)).toEqual(parse(name, fixture(name)));
  });

  test("keeps its meaning when written again in deb822 style", () => {
    const sources = parse(name, fixture(name)).filter(({ uri }) => !uri.includes(" ")); // a disc's name has no place there
    expect(parseDeb822(sources.map(formatDeb822).join("\n"))).toEqual(sources);
  });
});

const apt = spawnSync("apt-get", ["--version"]).status === 0;

/** The indexes that apt would download for a source file, without configuration, root or network. */
function aptReads(name: string, text: string): string[] {
  const parts = mkdtempSync(join(scratch, "parts-"));
  writeFileSync(join(parts, name), text);
  mkdirSync(join(parts, "lists/partial"), { recursive: true });
  const settings = [
    `Dir::Etc::SourceParts=${parts}`,
    "Dir::Etc::SourceList=/dev/null",
    `Dir::State::Lists=${parts}/lists`,
  ];
  const args = ["update", "--print-uris", ...settings.flatMap((setting) => ["-o", setting])];
  const { stdout, stderr, status } = spawnSync("apt-get", args, { encoding: "utf8" });
  expect(status, stderr).toBe(0);
  return [...stdout.matchAll(/^'(.*)\/InRelease'/gm)].map((m) => m[1]).sort();
}

// apt prints deb-src too; "file:///x" and "cdrom:x" it prints as "file:/x" and "cdrom://x".
const comparable = Object.keys(expected).filter((name) => !/manual|cdrom|dvd/.test(name));
test.skipIf(!apt).each(comparable)("apt itself reads the same from %s", (name) => {
  const releases = parse(name, fixture(name)).map(({ uri, suite }) => {
    const base = uri.replace(/\/?$/, "/").replace("file:///", "file:/");
    return suite.endsWith("/") ? `${base}${suite}`.slice(0, -1) : `${base}dists/${suite}`;
  });
  expect([...new Set(releases)].sort()).toEqual(aptReads(name, fixture(name)));
});

describe("deb822 style", () => {
  test("a comment line inside a stanza does not end it, an empty line does, one of blanks does not", () => {
    const stanza = (separator: string) =>
      parseDeb822(`Types: deb\n${separator}\nURIs: http://a.example\nSuites: s\nComponents: main`).length;
    expect([stanza("# comment"), stanza("#"), stanza("  "), stanza("")]).toEqual([1, 1, 1, 0]);
  });

  test.each(["no", "No", "false", "without", "off", "disable", "0"])("Enabled: %s switches a stanza off", (value) => {
    expect(parseDeb822(`Types: deb\nURIs: http://a\nSuites: s\nComponents: main\nEnabled: ${value}`)).toEqual([]);
  });

  test("keeps an embedded key with its lines, without the comments in it", () => {
    const key = parse("manual.sources", fixture("manual.sources"))[0].options["signed-by"];
    expect(key.split("\n")).toEqual([
      "",
      " -----BEGIN PGP PUBLIC KEY BLOCK-----",
      " .",
      " mDMEYCQjIxYJKwYBBAHaRw8BAQdAD",
      " =IE0r",
      " -----END PGP PUBLIC KEY BLOCK-----",
    ]);
  });

  test.each([
    ["a suite without components", "Suites: s"],
    ["an exact path with components", "Suites: s/\nComponents: main"],
    ["no suite", "Components: main"],
  ])("leaves out %s, which apt refuses", (_what, fields) => {
    expect(parseDeb822(`Types: deb\nURIs: http://a\n${fields}`)).toEqual([]);
  });
});

test("one-line style: options, quotes and comments", () => {
  expect(parseOneLine(fixture("dvd-debian-12.list"))[1].options).toEqual({
    architectures: "amd64 i386",
    "signed-by": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "languages-add": "de",
  });
  expect(
    parseOneLine("  deb\t[ trusted=yes ] http://x.example/z ./ # a path\ndeb-src http://x s main\ndeb\nrpm x y z"),
  ).toEqual([{ uri: "http://x.example/z", suite: "./", components: [], options: { trusted: "yes" } }]);
});

test("reads the files that apt reads, in its order, and no others", () => {
  const etc = join(scratch, "etc");
  mkdirSync(join(etc, "apt/sources.list.d"), { recursive: true });
  const put = (name: string, from: string) => cpSync(join(folder, from), join(etc, "apt", name));
  put("sources.list", "docker-debian-11.list");
  put("sources.list.d/z.sources", "nodesource.sources");
  put("sources.list.d/a.list", "docker-ce.list");
  put("sources.list.d/debian.sources.save", "docker-debian-12.sources");
  put("sources.list.d/debian 12.sources", "docker-debian-12.sources");
  expect(aptSources(etc).map((source: Source) => source.suite)).toEqual([
    "bullseye",
    "bullseye-security",
    "bullseye-updates",
    "bookworm",
    "nodistro",
  ]);
  expect(aptSources(join(scratch, "absent"))).toEqual([]);
});
