import type { Evaluation } from "./train.ts";

/** An SVG of losses over steps: raw values in a pale colour, their running mean, evaluations as dots. */
export function lossCurve(losses: readonly number[], evaluations: readonly Evaluation[] = [], title = "loss"): string {
  const [width, height, left, right, top, bottom] = [640, 320, 52, 12, 28, 28];
  const raw = losses
    .map((loss, i): readonly [number, number] => [i + 1, loss])
    .filter(([, loss]) => Number.isFinite(loss));
  const dots = evaluations.flatMap(({ step, values }) => ("loss" in values ? [[step, values.loss] as const] : []));
  const smooth = raw.map(([step], i) => {
    const window = raw.slice(Math.max(0, i - Math.ceil(raw.length / 30)), i + 1);
    return [step, window.reduce((sum, [, loss]) => sum + loss, 0) / window.length] as const;
  });
  const all = [...raw, ...dots].map(([, loss]) => loss);
  const [low, high] = [Math.min(0, ...all), Math.max(...all, 1e-9)];
  const x = (step: number): string =>
    (left + ((width - left - right) * (step - 1)) / Math.max(1, losses.length - 1)).toFixed(1);
  const y = (loss: number): string => (top + ((height - top - bottom) * (high - loss)) / (high - low)).toFixed(1);
  const path = (points: readonly (readonly [number, number])[]): string =>
    points.map(([step, loss], i) => `${i ? "L" : "M"}${x(step)} ${y(loss)}`).join("");
  const grid = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const loss = low + share * (high - low);
    return `<path d="M${left} ${y(loss)}H${width - right}" stroke="#e5e5ea"/><text x="${left - 6}" y="${y(loss)}" dy="4" text-anchor="end">${loss.toPrecision(3)}</text>`;
  });
  const escaped = title.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui,sans-serif" font-size="11" fill="none">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<g fill="#555">${grid.join("")}<text x="${left}" y="18" font-size="13">${escaped}</text>`,
    `<text x="${left}" y="${height - 9}">step 1</text><text x="${width - right}" y="${height - 9}" text-anchor="end">${losses.length}</text></g>`,
    `<path d="${path(raw)}" stroke="#b9d4f5"/><path d="${path(smooth)}" stroke="#1464c8" stroke-width="2"/>`,
    ...dots.map(([step, loss]) => `<circle cx="${x(step)}" cy="${y(loss)}" r="3.5" fill="#c8321e"/>`),
    "</svg>\n",
  ].join("\n");
}
