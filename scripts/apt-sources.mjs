// Reads apt's source files, one-line style (.list) and deb822 style (.sources), as sources.list(5) defines them.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * A source is an archive of binary packages: { uri, suite, components, options }.
 * A suite that ends in a slash is an exact path, and has no components.
 * Options have their deb822 names in lower case ("signed-by", "trusted"). A value may have several lines.
 */

/** The sources of all files that apt reads below `etc` ("/etc"), in apt's order. Files that cannot be read count as empty. */
export function aptSources(etc) {
  const folder = join(etc, "apt/sources.list.d");
  const names = attempt(() => readdirSync(folder), []).filter((name) => /^[\w.-]+\.(list|sources)$/.test(name));
  const files = [join(etc, "apt/sources.list"), ...names.sort().map((name) => join(folder, name))];
  return files.flatMap((file) => {
    const text = attempt(() => readFileSync(file, "utf8"), "");
    return file.endsWith(".sources") ? parseDeb822(text) : parseOneLine(text);
  });
}

function attempt(read, otherwise) {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

const ONE_LINE_NAMES = { arch: "architectures", lang: "languages", target: "targets" };

/** One-line style: `deb [ option=value … ] uri suite component …`; `#` starts a comment anywhere on a line. */
export function parseOneLine(text) {
  return lines(text).flatMap((line) => {
    // Brackets and quotes hold words together: cdrom:[Debian 12]/ has spaces, and a # inside brackets is no comment.
    const words = line.match(/#|(?:\[[^\]]*\]|"[^"]*"|[^\s#])+/g) ?? [];
    const [type, ...rest] = words.slice(0, words.includes("#") ? words.indexOf("#") : undefined);
    if (type !== "deb") return [];
    const options = rest[0]?.startsWith("[") ? oneLineOptions(rest.shift()) : {};
    const [uri, suite, ...components] = rest;
    return sources([uri], [suite], components, options);
  });
}

/** The options of `[ arch=amd64,arm64 signed-by="/a b.gpg" lang+=de ]` in deb822 form. */
function oneLineOptions(bracketed) {
  const options = {};
  for (const [, name, sign, value] of bracketed.slice(1, -1).matchAll(/([\w-]+?)([+-]?)=("[^"]*"|\S*)/g)) {
    const field = ONE_LINE_NAMES[name.toLowerCase()] ?? name.toLowerCase();
    options[field + { "": "", "+": "-add", "-": "-remove" }[sign]] = value.replaceAll('"', "").replaceAll(",", " ");
  }
  return options;
}

/** deb822 style: stanzas of `Field: value`, separated by empty lines. A comment line is skipped: it does not end a stanza. */
export function parseDeb822(text) {
  const stanzas = [new Map()];
  let field;
  for (const line of lines(text)) {
    if (line.startsWith("#")) continue;
    const named = /^([^\s:]+)[ \t]*:[ \t]*(.*)$/.exec(line);
    if (line === "") stanzas.push(new Map());
    else if (/^[ \t]/.test(line) && field !== undefined) {
      const stanza = stanzas.at(-1);
      if (stanza.has(field)) stanza.set(field, `${stanza.get(field)}\n${line.trimEnd()}`);
    } else if (named) {
      field = named[1].toLowerCase();
      stanzas.at(-1).set(field, named[2].trimEnd());
    }
  }
  return stanzas.flatMap(stanzaSources);
}

const KNOWN = ["types", "uris", "suites", "components", "enabled"];

function stanzaSources(stanza) {
  const values = (field) => (stanza.get(field) ?? "").split(/\s+/).filter((value) => value !== "");
  if (!values("types").includes("deb") || /^(no|false|without|off|disable|0)$/i.test(stanza.get("enabled") ?? "yes")) {
    return [];
  }
  const options = Object.fromEntries([...stanza].filter(([field]) => !KNOWN.includes(field)));
  return sources(values("uris"), values("suites"), values("components"), options);
}

/** Each URI with each suite. Leaves out what apt rejects as malformed, such as a suite without components. */
function sources(uris, suites, components, options) {
  return uris.flatMap((uri) =>
    suites
      .filter((suite) => uri && suite && components.length > 0 !== suite.endsWith("/"))
      .map((suite) => ({ uri, suite, components, options })),
  );
}

/** Lines without line ends (LF or CRLF) and without a byte order mark. */
const lines = (text) => text.replace(/^\uFEFF/, "").split(/\r?\n/);

/** A source in deb822 style: the text of a .sources file. */
export function formatDeb822({ uri, suite, components, options }) {
  const title = (field) => (field === "uris" ? "URIs" : field.replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase()));
  const fields = [
    ["types", "deb"],
    ["uris", uri],
    ["suites", suite],
    ...(components.length > 0 ? [["components", components.join(" ")]] : []),
    ...Object.entries(options),
  ];
  return fields.map(([field, value]) => `${title(field)}:${/^\n|^$/.test(value) ? "" : " "}${value}\n`).join("");
}
