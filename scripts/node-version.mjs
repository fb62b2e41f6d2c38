// Ends the process on a Node that is too old, with a message instead of a syntax error. Imported first, by the commands.
// In the syntax of Node 14, as everything that the commands import before they start.
const OLDEST = [20, 16];
const [major, minor] = process.versions.node.split(".").map(Number);

if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
  console.error(
    `shadegrad needs Node ${OLDEST.join(".")} or later; this is ${process.version} (${process.execPath}). ` +
      "Install a newer one from https://nodejs.org, or with a version manager: nvm install 22",
  );
  process.exit(1);
}
