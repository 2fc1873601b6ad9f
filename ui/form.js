// Behind the form's markup (form.py). Gradio runs this once with `element`,
// `props` and `trigger`. props.value is what the server gets: the text
// of every field by feature name, empty for unknown, and the turn, a number that
// every change of the form moves on. An answer names the turn it is of.
const form = element.querySelector("form");
const guide = form.querySelector(".guide");
const idleGuide = guide.textContent;
const fields = new Map([...form.querySelectorAll(".field")].map((field) => [field.dataset.feature, field]));

// Thousands set apart, by the grammar of parse_number in values.py. A text that
// is no number stays as it is, for the server to judge.
const GROUPED = /^([+-]?[1-9]\d{0,2}([,'’\s])\d{3}(?:\2\d{3})*)((?:\.\d+)?)$/;
const PLAIN = /^([+-]?\d+)(?:[.,](\d*))?$/;

function tidy(text) {
  const typed = text.trim().replace("\u2212", "-");
  const grouped = typed.match(GROUPED);
  const plain = grouped ? [grouped[1].replace(/[,'’\s]/g, ""), grouped[3].slice(1)] : typed.match(PLAIN)?.slice(1);
  if (!plain) return typed;
  const whole = plain[0].replace(/\B(?=(\d{3})+$)/g, ",");
  return plain[1] ? `${whole}.${plain[1]}` : whole;
}

const fieldOf = (node) => node.closest(".field");
const control = (field) => field.querySelector("input:checked, input:not([type=radio]), select");

function read(field) {
  return control(field)?.value ?? "";
}

function write(field, text) {
  if (field.dataset.kind === "flag") {
    for (const radio of field.querySelectorAll("input")) radio.checked = radio.value === text;
  } else {
    control(field).value = text;
  }
}

let turn = 0;

function publish() {
  const texts = Object.fromEntries([...fields].map(([name, field]) => [name, read(field)]));
  if (JSON.stringify(texts) !== JSON.stringify(props.value.texts)) turn += 1;
  props.value = { turn, texts };
}

// Each submission has a turn of its own: even the same answer again is news.
function submit() {
  turn += 1;
  publish();
  trigger("submit");
}

function complain(field, words) {
  field.querySelector(".error").textContent = words;
  for (const node of field.querySelectorAll("input, select")) {
    words ? node.setAttribute("aria-invalid", "true") : node.removeAttribute("aria-invalid");
  }
}

function fill(texts) {
  for (const [name, field] of fields) {
    write(field, texts[name] ?? "");
    complain(field, "");
  }
  publish();
}

function focus(field) {
  (control(field) ?? field.querySelector("input")).focus();
}

function press(example) {
  for (const button of form.querySelectorAll(".example")) button.setAttribute("aria-pressed", button === example);
}

// What is shown is of the form as it was; the verdict says so once that is not how it is.
function stale(is) {
  document.getElementById("verdict").classList.toggle("stale", is);
}

form.addEventListener("input", (event) => {
  complain(fieldOf(event.target), "");
  publish();
  press(null);
  stale(true);
});

form.addEventListener("change", (event) => {
  if (event.target.type === "text") event.target.value = tidy(event.target.value);
  publish();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  for (const input of form.querySelectorAll("input[type=text]")) input.value = tidy(input.value);
  submit();
});

form.addEventListener("reset", (event) => {
  event.preventDefault();
  fill({});
  press(null);
  stale(false);
  document.dispatchEvent(new CustomEvent("cleared"));
});

form.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("example")) {
    fill(props.examples[Number(button.dataset.example)]);
    press(button);
    submit();
  } else if (button?.classList.contains("unknown")) {
    const field = fieldOf(button);
    write(field, "");
    field.querySelector("input").dispatchEvent(new Event("input", { bubbles: true }));
    focus(field);
  }
});

// The help of the field in hand stands in the bar, where it moves nothing.
function explain(event) {
  const field = fieldOf(event.target) ?? fieldOf(document.activeElement ?? form);
  guide.textContent = field?.querySelector(".help").textContent || idleGuide;
}
for (const kind of ["focusin", "focusout", "mouseover", "mouseleave"]) form.addEventListener(kind, explain);

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-field]");
  if (!link) return;
  event.preventDefault();
  focus(fields.get(link.dataset.field));
});

// Sent by the verdict once an answer is shown; `errors` are by feature name.
document.addEventListener("answer", ({ detail: answer }) => {
  stale(answer.turn !== turn);
  if (answer.turn !== turn) return;
  for (const [name, field] of fields) complain(field, answer.errors[name] ?? "");
  const [first] = [...fields].filter(([name]) => answer.errors[name]);
  if (first) focus(first[1]);
  else document.getElementById("verdict").scrollIntoView({ block: "nearest", behavior: "smooth" });
});

publish();
