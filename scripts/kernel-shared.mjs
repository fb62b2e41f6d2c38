// `npm run kernels:sync` writes blocks that several kernels share from the kernel that owns them into all others.
//
// The owner puts `// shared: NAME` … `// end shared` around a block. A copy begins with `// shared: NAME from OWNER`.
// WGSL has no include. With copies, each file is valid as is, for editors and for bundlers that import it. A test compares
// the copies byte by byte.
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { listFiles, root } from "./environment.mjs";

const MARKER = /^\s*\/\/ (shared\b.*|end shared\b.*)$/;
const BEGIN = /^shared: (\w+)(?: from (\w+))?$/;

/** Parts of a kernel in order: lines as strings, shared blocks as { block, owner?, indent, lines }. */
function parse(name, source) {
  const parts = [];
  let open;
  source.split("\n").forEach((line, i) => {
    const fail = (what) => {
      throw new Error(`${name}.wgsl:${i + 1}: ${what}`);
    };
    const marker = MARKER.exec(line)?.[1];
    if (marker === undefined) (open?.lines ?? parts).push(line);
    else if (marker === "end shared") {
      if (!open) fail("`// end shared` without `// shared: NAME`");
      open = undefined;
    } else {
      const [, block, owner] =
        BEGIN.exec(marker) ?? fail(`write \`// shared: NAME\` or \`// shared: NAME from OWNER\``);
      if (open) fail(`shared block ${block} begins inside ${open.block}`);
      parts.push((open = { block, owner, indent: line.slice(0, line.indexOf("//")), lines: [] }));
    }
  });
  if (open) throw new Error(`${name}.wgsl: shared block ${open.block} has no \`// end shared\``);
  return parts;
}

/** The shared blocks of all kernels by `OWNER.NAME`: lines, and names of kernels with a copy. */
export function sharedBlocks(sources) {
  const blocks = new Map();
  const copies = [];
  for (const [name, source] of sources) {
    for (const part of parse(name, source)) {
      if (typeof part === "string") continue;
      const key = `${part.owner ?? name}.${part.block}`;
      if (part.owner) copies.push([key, name]);
      else if (blocks.has(key)) throw new Error(`${name}.wgsl: two shared blocks have the name ${part.block}`);
      else blocks.set(key, { lines: part.lines, copies: [] });
    }
  }
  for (const [key, name] of copies) {
    const block = blocks.get(key);
    if (!block) throw new Error(`${name}.wgsl: there is no shared block ${key.replace(".", ".wgsl: ")}`);
    block.copies.push(name);
  }
  return blocks;
}

/** The sources with every copy updated from its owner. */
export function withSharedBlocks(sources) {
  const blocks = sharedBlocks(sources);
  const render = (name, part) => {
    if (typeof part === "string") return part;
    const { block, owner, indent } = part;
    const { lines } = blocks.get(`${owner ?? name}.${block}`);
    return [`${indent}// shared: ${block}${owner ? ` from ${owner}` : ""}`, ...lines, `${indent}// end shared`].join(
      "\n",
    );
  };
  return new Map(
    [...sources].map(([n, source]) => [
      n,
      parse(n, source)
        .map((part) => render(n, part))
        .join("\n"),
    ]),
  );
}

/** WGSL of all kernels by name, including the ladder. */
export const kernelSources = () =>
  new Map(
    listFiles("kernels", /\.wgsl$/).map((path) => [basename(path, ".wgsl"), readFileSync(join(root, path), "utf8")]),
  );

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const sources = kernelSources();
  const synced = withSharedBlocks(sources);
  let written = 0;
  for (const path of listFiles("kernels", /\.wgsl$/)) {
    const name = basename(path, ".wgsl");
    if (synced.get(name) === sources.get(name)) continue;
    writeFileSync(join(root, path), synced.get(name));
    console.log(path);
    written++;
  }
  console.log(`${sharedBlocks(sources).size} shared blocks, ${written} files written`);
}
