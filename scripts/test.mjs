// `npm test`: set-up, types, lint and all tests; the last line is `N passed, N failed[, N skipped]`.
// `npm test -- tests/ops -t name` hands its arguments to vitest and leaves out types and lint.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { childEnvironment, root } from "./environment.mjs";
import { ensureAdapter, ensurePackages } from "./setup-adapter.mjs";

const total = { passed: 0, failed: 0, skipped: 0 };

/** Runs a Node program; true if it succeeds. */
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

ensurePackages();
if (!ensureAdapter()) console.log("Continuing without a GPU: tests of kernels are skipped or fail.");

const args = process.argv.slice(2);
if (args.length === 0) {
  check("typecheck", "node_modules/typescript/bin/tsc", ["--noEmit"]);
  check("lint and format", "scripts/lint.mjs", []);
}

const report = join(root, `.build/vitest-${process.pid}.json`);
mkdirSync(join(root, ".build"), { recursive: true });
const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
const passed = tool("vitest", "node_modules/vitest/vitest.mjs", ["run", ...reporters, ...args]);
try {
  const result = JSON.parse(readFileSync(report, "utf8"));
  total.passed += result.numPassedTests;
  total.skipped += result.numPendingTests + result.numTodoTests;
  total.failed += result.numFailedTests;
  // A file that does not load, or whose set-up fails, has no failed test of its own to count.
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
