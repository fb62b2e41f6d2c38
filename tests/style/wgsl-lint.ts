/**
 * Lines of `var` declarations inside loops that have no initialiser. WGSL sets them to zero in every iteration; Dawn
 * (webgpu 0.6.2) keeps the value of the iteration before, so the library never relies on the rule.
 */
export function uninitialisedLoopVariables(code: string): number[] {
  const text = code.replace(/\/\/.*$|\/\*[\s\S]*?\*\//gm, (comment) => comment.replace(/[^\n]/g, " "));
  const found: number[] = [];
  const loops: boolean[] = []; // for every open brace, whether it is or lies in a loop's body
  let header = false; // between `for`, `while` or `loop` and its brace
  let line = 1;
  for (const { 0: token } of text.matchAll(/\n|[{}]|\b(?:for|while|loop)\b|\bvar\b[^;{]*?[;=]/g)) {
    if (/^(for|while|loop)$/.test(token)) header = true;
    else if (token === "{") {
      loops.push(header || loops.at(-1) === true);
      header = false;
    } else if (token === "}") loops.pop();
    else if (token.startsWith("var") && token.endsWith(";") && (header || loops.at(-1) === true)) found.push(line);
    line += token.split("\n").length - 1;
  }
  return found;
}
