// Exits with a message if Node is too old, before a syntax error does. Commands import this file first. This file and everything
// else that commands import before they start use the syntax of Node 14.
const OLDEST = [20, 16];
const [major, minor] = process.versions.node.split(".").map(Number);

if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
  console.error(
    `shadegrad needs Node ${OLDEST.join(".")} or later; this is ${process.version} (${process.execPath}). ` +
      "Install a newer one from https://nodejs.org, or with a version manager: nvm install 22",
  );
  process.exit(1);
}
