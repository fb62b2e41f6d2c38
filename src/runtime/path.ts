/**
 * Paths that files name: shards of an index, the slot of latest.json, images of a data set. They come from whoever wrote
 * the file, so they stay inside a folder. Paths that a user gives as an argument are not restricted.
 */

/**
 * `path` without "." and ".." parts, or undefined if it leaves the folder that it is relative to. Absolute paths, drive
 * letters and NUL count as leaving. A backslash counts as a separator too, because it is one on Windows.
 */
export function pathInside(path: unknown): string | undefined {
  if (typeof path !== "string" || /^[/\\]|^[a-z]:|\0/i.test(path)) return undefined;
  return join(path.split(/[/\\]/)) === undefined ? undefined : join(path.split("/"));
}

function join(parts: readonly string[]): string | undefined {
  const kept: string[] = [];
  for (const part of parts) {
    if (part === "" || part === ".") continue;
    if (part !== "..") kept.push(part);
    else if (kept.pop() === undefined) return undefined;
  }
  return kept.join("/");
}

/**
 * The path that a file names, relative to `folder`, without "." and "..". `entry` says which file names it, and where in
 * the file.
 * @throws if the path leaves the folder.
 */
export function namedPath(path: unknown, folder: string, entry?: string): string {
  const inside = pathInside(path);
  if (inside !== undefined) return inside;
  throw new Error(
    `${entry === undefined ? "" : `${entry}: `}${JSON.stringify(path)} is not a path inside ${folder}: a relative path without ".." that leaves the folder is expected`,
  );
}
