"use strict";
// Asks the model what stands in the form and draws its answer. Texts of users and labels of models enter the page as
// text (`append`, `textContent`), never as markup.

const form = document.getElementById("question");
const section = document.getElementById("answer");
const boxes = [...form.querySelectorAll("textarea")];
const hues = new Map(); // label -> its colour
let running = null; // the request on its way, an AbortController

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    ask();
  }
});

async function ask() {
  running?.abort(); // the newer question counts
  const own = (running = new AbortController());
  section.setAttribute("aria-busy", "true");
  try {
    const question = read();
    const reply = await fetched(question.body, own.signal);
    show(...drawn(reply.prediction, question), exchange(question.body, reply.json));
    section.querySelector("[role=status]").textContent = section.querySelector(".drawn > *").innerText;
  } catch (error) {
    if (own.signal.aborted) return;
    show(element("p", { className: "error", role: "alert" }, element("b", {}, "No answer. "), error.message));
  }
  section.removeAttribute("aria-busy");
}

// What the form holds: {body of the request, first text, second text}.
function read() {
  const cells = boxes.map((box) => ("lines" in box.dataset ? linesOf(box.value) : box.value));
  const texts = (side) => cells.filter((_, i) => boxes[i].dataset.side === side);
  const body = "byColumn" in form.dataset
    ? { rows: [Object.fromEntries(boxes.map((box, i) => [box.name, cells[i]]))] }
    : cells.length > 1 ? { pair: cells } : { text: cells[0] };
  const question = { body, first: joined(texts("first")), second: joined(texts("second")) };
  if (form.dataset.route === "embed") return question; // without options
  const threshold = document.getElementById("threshold")?.value.trim().replace(",", ".");
  if (threshold && !Number.isFinite(Number(threshold))) throw new Error("The threshold is no number.");
  if (threshold) body.threshold = Number(threshold);
  if (form.dataset.topK) body.top_k = Number(form.dataset.topK);
  body.probabilities = true;
  return question;
}

const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const joined = (texts) => texts.flat().filter((text) => text.trim()).join(" "); // as the server joins columns

// The prediction and the whole reply; an error says in words what went wrong.
async function fetched(body, signal) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const key = document.getElementById("key")?.value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(form.dataset.route, { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    throw signal.aborted ? error : new Error("The server cannot be reached; is it still running?");
  }
  const text = await response.text();
  let json = null;
  try {
    json = JSON.parse(text);
  } catch {} // an error of a server in between may be plain text
  const prediction = json?.predictions?.[0] ?? (json?.embeddings && { vector: json.embeddings[0] });
  if (response.ok && prediction) return { prediction, json };
  throw new Error(json?.detail ?? (text.trim() || `The server answers ${response.status} ${response.statusText}.`));
}

function show(...nodes) {
  section.querySelector(".drawn").replaceChildren(...nodes);
  section.scrollIntoView({ block: "nearest" }); // on a phone it stands below the form
}

// Key of a prediction -> what draws it, and the other keys that it draws; the first that is there. The rest is listed.
const VIEWS = {
  entities: [wordLabels, ["words", "labels"]],
  masks: [maskedWords, ["text"]],
  answer: [answer, ["start", "end", "margin", "predicted", "top"]],
  candidate: [choice, ["index", "probability", "top"]],
  values: [numbers, []],
  cosine: [likeness, []],
  vector: [coordinates, []],
  label: [classes, ["predicted", "probability", "probabilities", "top"]],
  probabilities: [labelSet, ["labels", "top"]],
};

function drawn(prediction, question) {
  const key = Object.keys(VIEWS).find((name) => prediction[name] !== undefined);
  const [view, others] = VIEWS[key] ?? [() => [], []];
  const rest = Object.entries(prediction).filter(([name]) => name !== key && !others.includes(name));
  return [...view(prediction, question), ...(rest.length ? [listed(rest)] : [])];
}

function classes({ label, predicted = label, probability, probabilities }) {
  const changed = predicted !== label;
  return [
    changed ? headline(label) : headline(label, probability),
    ...(changed ? [quiet(`The model itself says ${predicted} (${percent(probability)}).`)] : []),
    bars(Object.entries(probabilities), [predicted]),
  ];
}

function labelSet({ labels = [], probabilities }) {
  const chips = labels.map((label) => element("li", {}, label));
  return [
    chips.length ? element("ul", { className: "chips", ariaLabel: "Labels" }, ...chips) : headline("no label"),
    bars(Object.entries(probabilities), labels),
  ];
}

// Pairs of a name and its probability as bars, the largest first; of many the first ones, the others folded away.
function bars(pairs, chosen, most = 12) {
  const items = pairs.sort((a, b) => b[1] - a[1]).map(([name, value]) => {
    const bar = element("span");
    bar.style.width = `${100 * value}%`;
    return element("li", { className: chosen.includes(name) ? "chosen" : "" }, element("span", {}, name),
      number("span", value, percent), element("span", { className: "bar", ariaHidden: "true" }, bar));
  });
  const list = (part, title) => element("ol", { className: "bars", ariaLabel: title }, ...part);
  const rest = items.slice(most);
  return element("div", {}, list(items.slice(0, most), "Probabilities"),
    ...(rest.length ? [folded(`${rest.length} more`, list(rest, "Further probabilities"))] : []));
}

function number(tag, value, format) {
  return element(tag, { className: "number", title: String(value) }, format(value));
}

// Entities in their text, with a table of them; words with a label each where the labels mark no entities.
function wordLabels({ words, labels, entities }, { first }) {
  if (!entities.length && new Set(labels).size > 1) return [wordList(words, labels)];
  const isIn = (text) => entities.every((entity) => [...text].slice(entity.start, entity.end).join("") === entity.text);
  const line = markedText(isIn(first) ? first : words.join(" "), entities);
  line.classList.add("labelled");
  return [line, entities.length ? entityTable(entities) : quiet("No entity is found.")];
}

function wordList(words, labels) {
  return element("ul", { className: "tagged" }, ...words.map((word, i) => {
    const item = element("li", {}, element("mark", {}, word), element("small", {}, labels[i]));
    item.style.setProperty("--hue", hue(labels[i]));
    return item;
  }));
}

function entityTable(entities) {
  const kinds = ["words", "words", "place", "number"];
  const heads = ["Entity", "Label", "Characters", "Probability"].map((name, i) =>
    element("th", { scope: "col", className: kinds[i] }, name));
  const rows = entities.map(({ text, label, start, end, probability }) => element("tr", {}, element("td", {}, text),
    element("td", { className: "words" }, label), element("td", { className: "place" }, `${start}–${end}`),
    number("td", probability, percent)));
  return element("div", { className: "scroll" },
    element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)));
}

// A text with spans marked, {start, end, label} each. Places count characters, where JavaScript counts UTF-16 units.
function markedText(text, spans) {
  const letters = [...text];
  const between = (start, end) => letters.slice(start, end).join("");
  const line = element("p", { className: "text" });
  let done = 0;
  for (const { start, end, label } of spans) {
    line.append(between(done, start), label === undefined ? element("mark", {}, between(start, end)) : marked(between(start, end), label));
    done = end;
  }
  line.append(between(done));
  return line;
}

function marked(text, label) {
  const mark = element("mark", {}, text, " ", element("small", {}, label));
  mark.style.setProperty("--hue", hue(label));
  return mark;
}

// A colour for each label, far from those before it.
function hue(label) {
  if (!hues.has(label)) hues.set(label, Math.round(210 + 137.5 * hues.size) % 360);
  return hues.get(label);
}

// An answer in its context. It is none where a threshold left it out, or where none scores better.
function answer({ answer: text, start, end, margin, top = [] }, { second }) {
  const best = start === null ? null : { start, end };
  const isSure = best !== null && margin >= 0;
  const note = margin === null ? "" : margin >= 0
    ? `Its score is ${decimal(margin)} above that of no answer.`
    : `No answer scores ${decimal(-margin)} better than the best one${best ? ", which is marked" : ""}.`;
  const others = top.slice(1).map((span) => element("li", {}, span.answer, " ", element("span", { className: "quiet" }, decimal(span.margin))));
  return [
    headline(isSure ? text : "no answer"),
    quiet(note),
    markedText(second, best ? [best] : []),
    ...(others.length ? [folded("Other answers, by their scores above no answer", element("ol", {}, ...others))] : []),
  ];
}

function choice({ candidate, probability, top = [] }) {
  return [headline(candidate, probability), bars(pairsOf(top, "candidate"), [candidate])];
}

function numbers({ values }) {
  const rows = Object.entries(values).map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), number("td", value, decimal)));
  const single = Object.values(values).length === 1;
  return single ? [headline(decimal(Object.values(values)[0])), quiet(Object.keys(values)[0])]
    : [element("table", {}, element("tbody", {}, ...rows))];
}

function likeness({ cosine }) {
  const bar = element("span");
  bar.style.left = `${50 + 50 * Math.min(cosine, 0)}%`;
  bar.style.width = `${50 * Math.abs(cosine)}%`;
  return [
    headline(decimal(cosine)),
    quiet("Cosine of the two texts: 1 is the same meaning, 0 none in common."),
    element("div", { className: "scale", ariaHidden: "true" }, bar),
    element("div", { className: "ends", ariaHidden: "true" }, ...["−1", "0", "1"].map((end) => element("span", {}, end))),
  ];
}

function maskedWords({ text, masks }) {
  const ranked = masks.map(({ top }, i) => element("div", {}, ...(masks.length > 1 ? [element("h3", {}, `Word ${i + 1}`)] : []),
    bars(pairsOf(top, "word"), [top[0].word])));
  return [headline(text), ...ranked];
}

function coordinates({ vector }) {
  return [headline(`${vector.length} numbers`), quiet("The vector of the text, of length 1."),
    element("pre", { tabIndex: 0 }, vector.map(decimal).join("  "))];
}

// Fields that no view draws, such as a rule of the user's own adds.
function listed(fields) {
  const rows = fields.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name),
    element("td", {}, typeof value === "object" ? JSON.stringify(value) : String(value))));
  return element("table", {}, element("tbody", {}, ...rows));
}

function exchange(body, json) {
  const block = (value) => element("pre", { tabIndex: 0 }, JSON.stringify(value, null, 2));
  return folded("Request and reply as JSON", quiet(`POST ${new URL(form.dataset.route, location).pathname}`), block(body), block(json));
}

function headline(text, probability) {
  return element("p", { className: "headline" }, text,
    ...(probability === undefined ? [] : [" ", element("span", { className: "quiet", title: String(probability) }, percent(probability))]));
}

const quiet = (text) => element("p", { className: "quiet" }, text);
const pairsOf = (ranked, key) => ranked.map((one) => [one[key], one.probability]);
const folded = (title, ...children) => element("details", {}, element("summary", {}, title), ...children);
const decimal = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(4))).replace("-", "−") : "");

// A probability in percent, never rounded to certainty.
function percent(value) {
  if (value > 0 && value < 0.0005) return "< 0.1%";
  if (value < 1 && value > 0.9995) return "> 99.9%";
  return `${(100 * value).toFixed(1)}%`;
}

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}
