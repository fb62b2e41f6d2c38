/** A page on which a person grades the answers of several models. It loads nothing but the images. */

import { randomOf, shuffled } from "../../src/data/index.ts";
import { type OwlAnswer, type OwlQuestion, owlGrades } from "./owl-eval.ts";

export interface OwlPageOptions {
  title?: string;
  /** Address of an image. Default: its name in the folder `cases/` of the page's folder. */
  image?: (name: string) => string;
  /** Hides the models' names and shuffles their columns at each question. Default true. */
  blind?: boolean;
  /** Seed of the order of the columns. Default 0. */
  seed?: number;
}

/**
 * The page as HTML. Grades stay in the browser until they are saved as a .jsonl file of `OwlGraded`.
 * @throws naming question and model if an answer is missing, given twice, or belongs to no question
 */
export function owlPage(
  questions: readonly OwlQuestion[],
  answers: readonly OwlAnswer[],
  options: OwlPageOptions = {},
): string {
  const { title = "OwlEval", image = (name) => `cases/${encodeURIComponent(name)}`, blind = true, seed = 0 } = options;
  const models = [...new Set(answers.map(({ model_id }) => model_id))];
  if (models.length === 0) throw new Error("OwlEval: there are no answers");
  const ids = new Set(questions.map(({ question_id }) => question_id));
  const given = new Map<string, string>();
  for (const { question_id, model_id, answer } of answers) {
    const key = JSON.stringify([question_id, model_id]);
    if (!ids.has(question_id))
      throw new Error(`OwlEval: ${model_id} answers question ${question_id}, which is not there`);
    if (given.has(key)) throw new Error(`OwlEval: ${model_id} answers question ${question_id} twice`);
    given.set(key, answer);
  }
  const grades = Object.entries(owlGrades);
  const sections = questions.map(({ question_id, question, image: name }) => {
    const order = blind ? shuffled([...models.keys()], randomOf(seed, question_id)) : [...models.keys()];
    const columns = order.map((m, place) => {
      const text = given.get(JSON.stringify([question_id, models[m]]));
      if (text === undefined) throw new Error(`OwlEval: ${models[m]} has no answer to question ${question_id}`);
      const radios = grades.map(
        ([grade, meaning]) =>
          `<label title="${escaped(meaning)}"><input type="radio" name="${question_id}/${m}" value="${grade}">${grade}</label>`,
      );
      const heading = blind ? `Answer ${place + 1}` : escaped(models[m]);
      return `<article><h3>${heading}</h3><p class="answer">${escaped(text)}</p><p class="grades">${radios.join(" ")}</p></article>`;
    });
    const picture = `<img loading="lazy" src="${escaped(image(name))}" alt="${escaped(name)}">`;
    return `<section><h2>${question_id}. ${escaped(question)}</h2>${picture}<div class="answers">${columns.join("\n")}</div></section>`;
  });
  const legend = grades.map(([grade, meaning]) => `<b>${grade}</b> ${escaped(meaning)}`).join(" · ");
  const total = questions.length * models.length;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escaped(title)}</title>
<style>${style}</style>
</head>
<body>
<header><h1>${escaped(title)}</h1><p>${legend}</p><p><span id="count">0</span> of ${total} graded <button id="save">Save grades</button></p></header>
${sections.join("\n")}
<script>
const models = ${scriptJson(models)};
const store = ${scriptJson(`owleval ${title} ${models.join(" ")}`)};
${script}
</script>
</body>
</html>
`;
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escaped = (text: string): string => text.replace(/[&<>"']/g, (char) => entities[char]);

/** JSON that cannot end the script element that contains it. */
const scriptJson = (value: unknown): string => JSON.stringify(value).replaceAll("<", "\\u003c");

const style = `
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 0 1rem 4rem; }
header { background: Canvas; border-bottom: 1px solid; position: sticky; top: 0; }
header h1 { font-size: 1.2rem; margin: .5rem 0 0; } header p { margin: .2rem 0; }
section { border-bottom: 1px solid; padding: 1rem 0; }
img { max-height: 24rem; max-width: 100%; }
.answers { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); }
article { border: 1px solid; border-radius: .4rem; padding: 0 1rem; }
.answer { overflow-wrap: anywhere; white-space: pre-wrap; }
.grades label { cursor: pointer; margin-right: 1rem; }
`;

const script = `const given = JSON.parse(localStorage.getItem(store) ?? "{}");
const count = () => { document.getElementById("count").textContent = Object.keys(given).length; };
for (const input of document.querySelectorAll("input[type=radio]")) {
  input.checked = given[input.name] === input.value;
  input.addEventListener("change", () => {
    given[input.name] = input.value;
    localStorage.setItem(store, JSON.stringify(given));
    count();
  });
}
document.getElementById("save").addEventListener("click", () => {
  const lines = Object.entries(given).map(([name, grade]) => {
    const [question, model] = name.split("/").map(Number);
    return JSON.stringify({ question_id: question, model_id: models[model], grade }) + "\\n";
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  link.download = "grades.jsonl";
  link.click();
});
count();`;
