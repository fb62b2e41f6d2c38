/** `npx shadegrad <command>`: one file per command, loaded on demand. */
export interface Command {
  run(args: string[]): Promise<void>;
  /** Its line in the list of commands. */
  readonly summary: string;
}

const commands: Readonly<Record<string, () => Promise<Command>>> = {
  chat: () => import("./chat.ts"),
  evaluate: () => import("./evaluate.ts"),
  train: () => import("./train.ts"),
  tune: () => import("./tune.ts"),
};

async function list(): Promise<string> {
  const rows = Object.entries(commands).map(async ([name, load]) => `  ${name.padEnd(10)} ${(await load()).summary}`);
  return `usage: shadegrad <command> [options]\n\n${(await Promise.all(rows)).join("\n")}\n\nshadegrad <command> --help tells more.`;
}

const [name = "--help", ...args] = process.argv.slice(2);
if (Object.hasOwn(commands, name)) {
  try {
    await (await commands[name]()).run(args);
  } catch (error) {
    console.error(
      `shadegrad ${name}: ${process.env.SHADEGRAD_DEBUG ? (error as Error).stack : (error as Error).message}`,
    );
    process.exitCode = 1;
  }
} else if (["help", "--help", "-h"].includes(name)) console.log(await list());
else {
  console.error(`shadegrad: there is no command ${name}\n\n${await list()}`);
  process.exitCode = 2;
}
// Open handles of Dawn would keep the process alive.
process.exit();
