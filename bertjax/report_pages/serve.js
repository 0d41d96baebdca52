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

// What the form holds: {body of the request, first text, second text, candidates}.
function read() {
  const cells = boxes.map((box) => ("lines" in box.dataset ? linesOf(box.value) : box.value));
  const texts = (side) => cells.filter((_, i) => boxes[i].dataset.side === side);
  const body = "byColumn" in form.dataset
    ? { rows: [Object.fromEntries(boxes.map((box, i) => [box.name, cells[i]]))] }
    : cells.length > 1 ? { pair: cells } : { text: cells[0] };
  const threshold = form.querySelector("#threshold").value.trim().replace(",", ".");
  if (threshold && !Number.isFinite(Number(threshold))) throw new Error("The threshold is no number.");
  if (threshold) body.threshold = Number(threshold);
  body.probabilities = true;
  return { body, first: joined(texts("first")), second: joined(texts("second")), candidates: texts("second").flat() };
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
    response = await fetch("predict", { method: "POST", headers, body: JSON.stringify(body), signal });
  } catch (error) {
    throw signal.aborted ? error : new Error("The server cannot be reached; is it still running?");
  }
  const text = await response.text();
  let json = null;
  try {
    json = JSON.parse(text);
  } catch {} // an error of a server in between may be plain text
  const prediction = json?.predictions?.[0];
  if (response.ok && prediction) return { prediction, json };
  throw new Error(json?.detail ?? (text.trim() || `The server answers ${response.status} ${response.statusText}.`));
}

function show(...nodes) {
  section.querySelector(".drawn").replaceChildren(...nodes);
  section.scrollIntoView({ block: "nearest" }); // on a phone it stands below the form
}

// Key of a prediction -> what draws it; the first that is there. The rest is listed by name.
const VIEWS = {
  entities: [entities, ["labels"]],
  answer: [answer, ["start", "end", "margin"]],
  candidate: [choice, ["index", "probability", "probabilities"]],
  values: [numbers, []],
  cosine: [likeness, []],
  words: [maskedWords, []],
  label: [classes, ["predicted", "probability", "probabilities", "top"]],
  probabilities: [labelSet, ["labels", "top"]],
  labels: [wordLabels, []],
};

function drawn(prediction, question) {
  const key = Object.keys(VIEWS).find((name) => prediction[name] !== undefined);
  const [view, others] = VIEWS[key] ?? [() => [], []];
  const rest = Object.entries(prediction).filter(([name]) => name !== key && !others.includes(name));
  return [...view(prediction, question), ...(rest.length ? [listed(rest)] : [])];
}

function classes({ label, predicted = label, probability, probabilities, top }) {
  const unsure = predicted !== label;
  const note = unsure ? `The model itself says ${predicted} (${percent(probability)}), but is less sure than it must be.` : "";
  return [
    unsure ? headline(label) : headline(label, probability),
    ...(note ? [element("p", { className: "quiet" }, note)] : []),
    bars(probabilities ?? Object.fromEntries((top ?? []).map((one) => [one.label, one.probability])), [predicted]),
  ];
}

function labelSet({ labels = [], probabilities }) {
  const chips = labels.map((label) => element("li", {}, label));
  return [
    chips.length ? element("ul", { className: "chips", ariaLabel: "Labels" }, ...chips) : headline("no label"),
    bars(probabilities, labels),
  ];
}

// Probabilities as bars, the largest first; of many labels the first ones, the others folded away.
function bars(probabilities, chosen, most = 12) {
  const items = Object.entries(probabilities).sort((a, b) => b[1] - a[1]).map(([name, value]) => {
    const bar = element("span");
    bar.style.width = `${100 * value}%`;
    return element("li", { className: chosen.includes(name) ? "chosen" : "" }, element("span", {}, name),
      number("span", value, percent), element("span", { className: "bar", ariaHidden: "true" }, bar));
  });
  const list = (part, title) => element("ol", { className: "bars", ariaLabel: title }, ...part);
  const rest = items.slice(most);
  return element("div", {}, list(items.slice(0, most), "Probabilities"),
    ...(rest.length ? [folded(`${rest.length} more labels`, list(rest, "Further probabilities"))] : []));
}

function number(tag, value, format) {
  return element(tag, { className: "number", title: String(value) }, format(value));
}

function entities({ entities: found, text }, { first }) {
  const letters = [...(text ?? first)]; // places count characters, not JavaScript's units
  const line = element("p", { className: "text labelled" });
  let end = 0;
  for (const entity of found) {
    line.append(letters.slice(end, entity.start).join(""), marked(letters.slice(entity.start, entity.end).join(""), entity.label));
    end = entity.end;
  }
  line.append(letters.slice(end).join(""));
  const rows = found.map((entity) => element("tr", {}, element("td", {}, entity.text), element("td", { className: "words" }, entity.label),
    element("td", {}, `${entity.start}–${entity.end}`), number("td", entity.probability, percent)));
  const heads = ["Entity", "Label", "Characters", "Probability"].map((name, i) =>
    element("th", { scope: "col", className: i < 2 ? "words" : "" }, name));
  return [line, found.length
    ? element("div", { className: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)))
    : element("p", { className: "quiet" }, "No entity is found.")];
}

function marked(text, label) {
  const mark = element("mark", {}, text, element("small", {}, label));
  mark.style.setProperty("--hue", hue(label));
  return mark;
}

// A colour for each label, far from those before it.
function hue(label) {
  if (!hues.has(label)) hues.set(label, Math.round(210 + 137.5 * hues.size) % 360);
  return hues.get(label);
}

function answer({ answer: text, start, end, margin }, { second }) {
  const sure = text !== "" && !(margin < 0);
  const letters = [...second];
  const line = element("p", { className: "text" });
  if (text && start !== undefined && end > start) {
    line.append(letters.slice(0, start).join(""), element("mark", {}, letters.slice(start, end).join("")), letters.slice(end).join(""));
  } else line.append(second);
  const note = text === "" ? "The text holds no answer, says the model."
    : sure ? `Its score is ${decimal(margin)} above that of no answer.`
      : `More likely the text holds no answer: its score is ${decimal(-margin)} above that of the best one, which is marked.`;
  return [headline(sure ? text : "no answer"), element("p", { className: "quiet" }, note), line];
}

function choice({ candidate, index, probability, probabilities }, { candidates }) {
  const shares = Array.isArray(probabilities) ? Object.fromEntries(candidates.map((name, i) => [name, probabilities[i]])) : null;
  const items = candidates.map((name, i) => element("li", {}, i === index ? element("mark", {}, name) : name));
  return [headline(candidate, probability), shares ? bars(shares, [candidate]) : element("ol", {}, ...items)];
}

function numbers({ values }) {
  const rows = Object.entries(values).map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), number("td", value, decimal)));
  const single = Object.values(values).length === 1;
  return single ? [headline(decimal(Object.values(values)[0])), element("p", { className: "quiet" }, Object.keys(values)[0])]
    : [element("table", {}, element("tbody", {}, ...rows))];
}

function likeness({ cosine }) {
  const bar = element("span");
  bar.style.left = `${50 + 50 * Math.min(cosine, 0)}%`;
  bar.style.width = `${50 * Math.abs(cosine)}%`;
  return [
    headline(decimal(cosine)),
    element("p", { className: "quiet" }, "Cosine of the two texts: 1 is the same meaning, 0 none in common."),
    element("div", { className: "scale", ariaHidden: "true" }, bar),
    element("div", { className: "ends", ariaHidden: "true" }, ...["−1", "0", "1"].map((end) => element("span", {}, end))),
  ];
}

function wordLabels({ labels }, { first }) {
  const words = first.split(/\s+/).filter(Boolean);
  return [element("ul", { className: "tagged" }, ...labels.map((label, i) => {
    const mark = element("mark", {}, words[i] ?? "");
    const item = element("li", {}, mark, element("small", {}, label));
    item.style.setProperty("--hue", hue(label));
    return item;
  }))];
}

function maskedWords({ words }) {
  return words.map((place, i) => element("div", {}, element("h3", {}, `[MASK] ${i + 1}`),
    bars(Object.fromEntries(place.map((one) => [one.label, one.probability])), [place[0]?.label])));
}

// Fields that no view draws, such as a rule of the user's own adds.
function listed(fields) {
  const rows = fields.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name),
    element("td", {}, typeof value === "object" ? JSON.stringify(value) : String(value))));
  return element("table", {}, element("tbody", {}, ...rows));
}

function exchange(body, json) {
  const block = (value) => element("pre", { tabIndex: 0 }, JSON.stringify(value, null, 2));
  return folded("Request and reply as JSON", element("p", { className: "quiet" }, "POST ", new URL("predict", location).pathname), block(body), block(json));
}

function headline(text, probability) {
  return element("p", { className: "headline" }, text,
    ...(probability === undefined ? [] : [" ", element("span", { className: "quiet", title: String(probability) }, percent(probability))]));
}

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
