// `npm test`: set-up, types, lint and all tests. The last line is `N passed, N failed[, N skipped]`.
// `npm test -- tests/ops -t name` passes its arguments to vitest, and skips types and lint.
import "./node-version.mjs";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { childEnvironment, listFiles, root } from "./environment.mjs";
import { setUp } from "./setup.mjs";

const total = { passed: 0, failed: 0, skipped: 0 };

/** Runs a Node program. Returns whether it succeeds. */
function tool(name, script, args) {
  console.log(`\n${name}`);
  const path = join(root, script);
  return (
    spawnSync(process.execPath, [path, ...args], { cwd: root, stdio: "inherit", env: childEnvironment() }).status === 0
  );
}

function check(name, script, args) {
  const passed = tool(name, script, args);
  console.log(`${passed ? "✓" : "✗"} ${name}`);
  total[passed ? "passed" : "failed"]++;
}

const args = process.argv.slice(2);
// Chromium and Deno are needed unless the arguments name only test files that do not use them.
const tests = listFiles("tests", /\.test\.ts$/);
const named = tests.filter((file) => args.some((arg) => !arg.startsWith("-") && file.includes(arg)));
const runtimes = named.length === 0 || named.some((file) => file.startsWith("tests/smoke/"));
setUp("npm test", { runtimes, adapter: process.env.SHADEGRAD_BACKEND !== "reference" });

if (args.length === 0) {
  check("typecheck", "node_modules/typescript/bin/tsc", ["--noEmit"]);
  check("lint and format", "scripts/lint.mjs", []);
}

const report = join(root, `.build/vitest-${process.pid}.json`);
mkdirSync(join(root, ".build"), { recursive: true });
const reporters = [
  "--reporter=default",
  "--reporter=./scripts/skipped.mjs",
  "--reporter=json",
  `--outputFile.json=${report}`,
];
const passed = tool("vitest", "node_modules/vitest/vitest.mjs", ["run", ...reporters, ...args]);
try {
  const result = JSON.parse(readFileSync(report, "utf8"));
  total.passed += result.numPassedTests;
  total.skipped += result.numPendingTests + result.numTodoTests;
  total.failed += result.numFailedTests;
  // A file that does not load, or whose set-up fails, counts as one failure: none of its tests is reported as failed.
  const broken = (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed");
  total.failed += result.testResults.filter(broken).length;
  rmSync(report);
} catch {
  console.log("✗ vitest ended without a report");
  total.failed++;
}
if (!passed && total.failed === 0) total.failed++; // an unhandled error outside of any test
if (total.passed + total.failed === 0) total.failed++; // a filter that matches nothing

const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : "";
console.log(`\n${total.passed} passed, ${total.failed} failed${skipped}`);
process.exitCode = total.failed === 0 ? 0 : 1;
