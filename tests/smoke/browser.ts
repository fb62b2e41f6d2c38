/** Real Chromium, Debian's or one already there, running the package from a local web server. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { chromium } from "playwright-core";

const types: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" };

/** Serves `folder`, runs `module` of it in a page with `importMap`, and returns what it prints. */
export async function runInBrowser(path: string, folder: string, module: string, importMap: object): Promise<string> {
  const page = `<!doctype html><link rel="icon" href="data:,"><script type="importmap">${JSON.stringify(importMap)}</script>`;
  const server = createServer((request, response) => {
    const name = new URL(request.url!, "http://localhost").pathname;
    try {
      const body = name === "/" ? page : readFileSync(join(folder, name));
      response.writeHead(200, {
        "content-type": types[name === "/" ? ".html" : extname(name)] ?? "application/octet-stream",
      });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const browser = await chromium.launch({ executablePath: path, args: ["--no-sandbox", "--enable-unsafe-webgpu"] });
  try {
    const tab = await browser.newPage();
    const printed: string[] = [];
    tab.on("console", (message) => {
      if (message.type() === "log") printed.push(message.text());
      else console.log(`chromium ${message.type()}: ${message.text()}`);
    });
    await tab.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    // As text: a function would be rewritten by the test runner's transform.
    const failure = await tab.evaluate(`import("/${module}").then(() => "", (error) => String(error?.stack ?? error))`);
    if (failure) throw new Error(`in Chromium: ${failure}`);
    return printed.join("\n");
  } finally {
    await browser.close();
    server.close();
  }
}
