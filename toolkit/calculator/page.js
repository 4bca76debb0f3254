// Runs the toolkit's own Python (Pyodide) and draws what it answers; no figure is computed here.
const byId = (id) => document.getElementById(id);
let calculator;

async function start() {
  if (location.protocol === "file:") {
    return fail("Abra esta pasta por um servidor estático: python3 -m http.server · Serve this folder over HTTP.");
  }
  const { loadPyodide } = await import("./pyodide/pyodide.mjs");
  const [python, archive] = await Promise.all([loadPyodide(), fetch("toolkit.zip").then((r) => r.arrayBuffer())]);
  python.unpackArchive(archive, "zip");
  calculator = python.pyimport("toolkit.calculator.browser");
  document.querySelectorAll("[data-language]").forEach((button) => {
    button.onclick = () => draw(calculator.translate(button.dataset.language));
  });
  byId("copy").onclick = copy;
  byId("form").onsubmit = (event) => event.preventDefault();
  draw(calculator.state());
}

function fail(message) {
  byId("shown").replaceChildren();
  byId("error").textContent = message;
  byId("error").hidden = false;
}

function draw(json, edited = "") {
  const state = JSON.parse(json);
  document.documentElement.lang = state.language === "pt" ? "pt-BR" : "en";
  document.title = state.words.title;
  document.querySelectorAll("[data-word]").forEach((node) => (node.textContent = state.words[node.dataset.word]));
  document.querySelectorAll("[data-language]").forEach((button) => {
    button.setAttribute("aria-pressed", button.dataset.language === state.language);
  });
  const refused = state.error ? edited : "";
  drawFields(byId("plain"), state.fields.filter((field) => !field.advanced), state.words, refused);
  drawFields(byId("advanced"), state.fields.filter((field) => field.advanced), state.words, refused);
  byId("error").textContent = state.error;
  byId("error").hidden = !state.error;
  byId("sentence").textContent = state.sentence;
  byId("shown").innerHTML = state.html;
  drawFixes(state);
  byId("code").hidden = false;
  byId("code").querySelector("pre").textContent = state.code;
}

// Inputs stay where they are between drawings, so that the keyboard's focus does; a refused value stays too.
function drawFields(parent, fields, words, refused) {
  const old = new Map([...parent.children].map((node) => [node.dataset.name, node]));
  parent.replaceChildren(...fields.map((field) => fill(old.get(field.name) ?? make(field), field, words, refused)));
}

function make(field) {
  const box = document.createElement("div");
  box.className = `field ${field.kind}${["model", "method", "gpu", "targets"].includes(field.name) ? " wide" : ""}`;
  box.dataset.name = field.name;
  const label = document.createElement("label");
  const input = document.createElement(field.kind === "select" ? "select" : "input");
  input.id = `field-${field.name}`;
  label.htmlFor = input.id;
  if (field.kind === "check") input.type = "checkbox";
  if (field.kind === "integer") input.inputMode = "numeric";
  const value = () => (field.kind === "check" ? input.checked : input.value);
  input.onchange = () => draw(calculator.edit(field.name, value()), field.name);
  box.append(label, input);
  return box;
}

function fill(box, field, words, refused) {
  const [label, input] = box.children;
  label.textContent = field.label;
  const wrong = field.name === refused;
  input.setAttribute("aria-invalid", wrong);
  if (field.kind === "text") input.placeholder = words.paste;
  if (wrong) return box;
  if (field.kind === "select") {
    input.replaceChildren(...field.options.map(({ value, label }) => new Option(label, value)));
  }
  if (field.kind === "check") input.checked = field.value;
  else input.value = field.value;
  return box;
}

function drawFixes(state) {
  const groups = [["fixes", true], ["helps", false]].map(([word, enough]) => {
    const buttons = state.fixes.flatMap((fix, index) => (fix.enough === enough ? [fixButton(fix, index)] : []));
    if (!buttons.length) return [];
    const heading = document.createElement("h4");
    heading.textContent = state.words[word];
    const row = document.createElement("div");
    row.className = "fixes";
    row.append(...buttons);
    return [heading, row];
  });
  byId("fixes").replaceChildren(...groups.flat());
}

function fixButton(fix, index) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = fix.enough ? "enough" : "";
  button.textContent = fix.label;
  button.onclick = () => draw(calculator.apply(index));
  return button;
}

// execCommand, because navigator.clipboard is missing where a page is served over plain HTTP.
function copy() {
  const { words } = JSON.parse(calculator.state());
  getSelection().selectAllChildren(byId("code").querySelector("pre"));
  document.execCommand("copy");
  byId("copy").textContent = words.copied;
  setTimeout(() => (byId("copy").textContent = words.copy), 1500);
}

start().catch((error) => fail(String(error)));
