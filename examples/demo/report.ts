/** The report: one HTML file without external files, with loss curves, results, pictures with answers, and attention. */

import { duration, short } from "../../scripts/cli/terminal.ts";
import type { WordAttention } from "./attention.ts";
import { TILE_TOKENS } from "./batches.ts";
import { type Tiles, tilesToPng } from "./chat.ts";
import type { Score } from "./evaluate.ts";
import type { StageResult } from "./stages.ts";

export interface Shown {
  row: string;
  tiles: Tiles;
  turns: { question: string; expected: string; answer: string; blank: string }[];
  attention?: { question: string; words: WordAttention[] };
}
export interface Report {
  title: string;
  facts: readonly (readonly [string, string])[];
  stages: readonly StageResult[];
  scores: readonly Score[];
  shown: readonly Shown[];
}

const html = (text: string): string => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const cells = (tag: string, list: readonly string[]): string => list.map((cell) => `<${tag}>${cell}</${tag}>`).join("");

/** Percent of both languages, "47/45". */
export function percent(part: readonly number[], n: readonly number[]): string {
  return part.map((value, i) => (n[i] ? Math.round((100 * value) / n[i]).toString() : "-")).join("/");
}

/**
 * Whether the model beats both baselines in both languages by more than chance: the difference of two shares of the
 * same n exceeds two standard errors.
 */
export function beats({ n, right, blank, majority }: Score): boolean {
  return [0, 1].every((i) => {
    const [p, q] = [right[i] / n[i], Math.max(blank[i], majority[i]) / n[i]];
    return p - q > 2 * Math.sqrt((p * (1 - p) + q * (1 - q)) / n[i]);
  });
}

/** A smoothed curve of losses over the raw values. */
export function lossCurve({ name, losses }: StageResult): string {
  const [w, h, left, bottom] = [420, 180, 40, 22];
  const bin = Math.max(1, Math.ceil(losses.length / 300));
  const raw = Array.from(
    { length: Math.ceil(losses.length / bin) },
    (_, i) =>
      losses.slice(i * bin, (i + 1) * bin).reduce((a, b) => a + b, 0) / losses.slice(i * bin, (i + 1) * bin).length,
  );
  const smooth: number[] = [];
  raw.forEach((v, i) => smooth.push(i === 0 ? v : 0.85 * smooth[i - 1] + 0.15 * v));
  const [low, high] = [0, Math.max(...raw)];
  const x = (i: number): number => left + ((w - left - 8) * i) / Math.max(1, raw.length - 1);
  const y = (v: number): number => 8 + (h - bottom - 8) * (1 - (v - low) / (high - low || 1));
  const path = (values: number[]): string =>
    values.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const ticks = [0, 0.5, 1].map(
    (f) =>
      `<text x="${left - 6}" y="${y(high * f) + 4}" text-anchor="end">${(high * f).toPrecision(2)}</text><path d="M${left} ${y(high * f)}H${w - 8}" class="grid"/>`,
  );
  return (
    `<figure><svg viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" role="img" aria-label="loss of ${html(name)}">${ticks.join("")}` +
    `<path d="${path(raw)}" class="raw"/><path d="${path(smooth)}" class="curve"/>` +
    `<text x="${left}" y="${h - 6}">1</text><text x="${w - 8}" y="${h - 6}" text-anchor="end">step ${losses.length}</text></svg>` +
    `<figcaption>${html(name)}: ${losses[0].toFixed(2)} → ${smooth[smooth.length - 1].toFixed(2)}</figcaption></figure>`
  );
}

const picture = (tiles: Tiles, size: number): string =>
  `<img width="${size}" height="${size}" alt="" src="data:image/png;base64,${tilesToPng(tiles).toString("base64")}">`;

/** The picture with one rectangle per position, brighter with more attention of the word. */
function attended(tiles: Tiles, { word, weights }: WordAttention): string {
  const size = 96;
  const across = tiles.count > 1 ? 2 : 1;
  const cell = size / across / 2;
  const places = weights.flatMap((weight, i) =>
    i % TILE_TOKENS < 4 ? [{ weight, tile: Math.floor(i / TILE_TOKENS), part: i % TILE_TOKENS }] : [],
  );
  const top = Math.max(...places.map(({ weight }) => weight));
  const rects = places.map(({ weight, tile, part }) => {
    const x = (tile % across) * 2 * cell + (part % 2) * cell;
    const y = Math.floor(tile / across) * 2 * cell + Math.floor(part / 2) * cell;
    return `<rect x="${x}" y="${y}" width="${cell}" height="${cell}" fill="#000" fill-opacity="${(0.8 * (1 - weight / top)).toFixed(3)}"/>`;
  });
  const share = weights.reduce((a, b) => a + b, 0);
  return `<figure class="word"><div class="stack" style="width:${size}px;height:${size}px">${picture(tiles, size)}<svg width="${size}" height="${size}">${rects.join("")}</svg></div><figcaption>${html(word.trim() || "·")}<br><small>${Math.round(100 * share)}% on the picture</small></figcaption></figure>`;
}

function scoreRow(score: Score): string {
  const { row, n, right, blank, majority } = score;
  const bars = [0, 1].map((i) => {
    const at = (v: number): string => ((100 * v) / n[i]).toFixed(1);
    return `<div class="bar"><i style="width:${at(right[i])}%"></i><b style="left:${at(Math.max(blank[i], majority[i]))}%"></b></div>`;
  });
  return `<tr class="${beats(score) ? "good" : "weak"}">${cells("td", [html(row), n.join("/"), percent(right, n), percent(blank, n), percent(majority, n), bars.join(""), beats(score) ? "beats both" : "does not"])}</tr>`;
}

function shownBlock({ row, tiles, turns, attention }: Shown): string {
  const lines = turns.map(({ question, expected, answer, blank }) => {
    const right = answer === expected;
    return `<tr><td>${html(question)}</td><td class="${right ? "right" : "wrong"}">${html(answer) || "(nothing)"}</td><td>${right ? "" : html(expected)}</td><td class="dim">${html(blank)}</td></tr>`;
  });
  const words = attention
    ? `<div class="words"><small>${html(attention.question)}</small>${attention.words.map((word) => attended(tiles, word)).join("")}</div>`
    : "";
  return `<section class="shown">${picture(tiles, 128)}<div><h3>${html(row)}</h3><table><tr>${cells("th", ["asked", "answer", "right answer", "without picture"])}</tr>${lines.join("")}</table>${words}</div></section>`;
}

const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1c1c1e}h1{font-size:1.6rem}h3{margin:.2rem 0;font-size:1rem}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.2rem .7rem;text-align:left;border-bottom:1px solid #e5e5ea;vertical-align:top}th{font-weight:600}
figure{display:inline-block;margin:.5rem 1rem .5rem 0}figcaption{font-size:.85rem;color:#555}svg text{font-size:10px;fill:#666}.grid{stroke:#eee;fill:none}.raw{stroke:#b9d4f5;fill:none}.curve{stroke:#1464c8;stroke-width:2;fill:none}
.bar{position:relative;width:150px;height:9px;background:#eee;margin:3px 0}.bar i{position:absolute;height:100%;background:#1464c8}.bar b{position:absolute;top:-2px;width:2px;height:13px;background:#c8321e}.weak .bar i{background:#a0a0a5}
.shown{display:flex;gap:1.2rem;margin:1rem 0;align-items:flex-start}.shown>img{image-rendering:pixelated;border:1px solid #ddd}.right{color:#157f3b;font-weight:600}.wrong{color:#c8321e}.dim{color:#999}
.stack{position:relative}.stack img,.stack svg{position:absolute;left:0;top:0;image-rendering:pixelated}.word{margin:.3rem .6rem .3rem 0;text-align:center}.words>small{display:block;color:#555}`;

export function renderReport({ title, facts, stages, scores, shown }: Report): string {
  const stageRows = stages.map(
    (s) =>
      `<tr>${cells("td", [html(s.name), `${s.steps}`, short(s.trained), short(s.flops).replace(" ", " ") + "FLOP", duration(s.seconds), `${short(s.flops / s.seconds)}FLOP/s`])}</tr>`,
  );
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${html(title)}</title><style>${style}</style>
<h1>${html(title)}</h1>
<table>${facts.map(([key, value]) => `<tr><th>${html(key)}</th><td>${html(value)}</td></tr>`).join("")}</table>
<h2>Results</h2>
<p>Exact match in %, English/Chinese, on pictures and arrangements that training never showed. “Blank” is the same model without a picture, “majority” always gives the commonest answer; the red mark is the better of the two. “Beats both” means: in both languages, by more than two standard errors.</p>
<table><tr>${cells("th", ["split and task", "n", "model", "blank", "majority", "", ""])}</tr>${scores.map(scoreRow).join("")}</table>
<h2>Training</h2>
<table><tr>${cells("th", ["stage", "steps", "trained values", "work", "time", "rate"])}</tr>${stageRows.join("")}</table>
${stages.map(lossCurve).join("")}
<h2>Answers</h2>
<p>Greedy answers to pictures of the test splits. Under some: where each word of the answer looks (mean over heads and layers; bright = most attended of the picture's places).</p>
${shown.map(shownBlock).join("\n")}
<p><small>Pictures: Noto Emoji (Apache-2.0) and Twemoji (CC BY 4.0). Names: Unicode CLDR (Unicode-3.0) through emojibase (MIT).</small></p></html>
`;
}
