// Behind the form's markup (form.py). Gradio runs this once with `element` and `props`.
// What the server gets is the text of every field by feature name, empty for unknown,
// and the turn, a number that every change of the form moves on. An answer names the
// turn it is of.
const form = element.querySelector("form");
const guide = form.querySelector(".guide");
const fields = new Map([...form.querySelectorAll(".field")].map((field) => [field.dataset.feature, field]));

// Thousands set apart, by the grammar of parse_number in values.py. A text that
// is no number stays as it is, for the server to judge. In French a comma is always
// a decimal one, so what is sent has none: `canonical`.
const GROUPED = /^([+-]?[1-9]\d{0,2}([,'’\s])\d{3}(?:\2\d{3})*)((?:\.\d+)?)$/;
const FRENCH = /^([+-]?[1-9]\d{0,2}(['’\s])\d{3}(?:\2\d{3})*)((?:[.,]\d+)?)$/;
const PLAIN = /^([+-]?\d+)(?:[.,](\d*))?$/;

function parts(text, language = hotrow.language) {
  const typed = text.trim().replace("\u2212", "-");
  const grouped = typed.match(language === "fr" ? FRENCH : GROUPED);
  return grouped ? [grouped[1].replace(/[,'’\s]/g, ""), grouped[3].slice(1)] : typed.match(PLAIN)?.slice(1);
}

function canonical(text, language) {
  const found = parts(text, language);
  return found ? (found[1] ? `${found[0]}.${found[1]}` : found[0]) : text.trim().replace("\u2212", "-");
}

const tidy = (text) => (parts(text) ? hotrow.figures(canonical(text)) : canonical(text));

const fieldOf = (node) => node.closest(".field");
const isNumber = (field) => field.dataset.kind === "number" || field.dataset.kind === "integer";
const control = (field) => field.querySelector("input:checked, input:not([type=radio]), select");

function read(field) {
  const text = control(field)?.value ?? "";
  return hotrow.language === "fr" && isNumber(field) ? canonical(text, "fr") : text;
}

function write(field, text) {
  if (field.dataset.kind === "flag") {
    for (const radio of field.querySelectorAll("input")) radio.checked = radio.value === text;
  } else {
    // What is filled in by us is written as English writes it, or canonical.
    control(field).value = isNumber(field) && parts(text, "en") ? hotrow.figures(canonical(text, "en")) : text;
  }
}

let turn = 0;
let texts = {};

function changed() {
  const now = Object.fromEntries([...fields].map(([name, field]) => [name, read(field)]));
  if (JSON.stringify(now) !== JSON.stringify(texts)) turn += 1;
  texts = now;
}

// A verdict that does not come must not let the one before it stand for this form.
const decide = hotrow.latest(async (form) => {
  try {
    const answer = await hotrow.post("/page/decide", JSON.stringify(form));
    document.dispatchEvent(new CustomEvent("answer", { detail: answer }));
  } catch (error) {
    stale(true);
    throw error;
  }
});

// Each submission has a turn of its own: even the same answer again is news.
function submit() {
  turn += 1;
  changed();
  decide({ turn, texts });
}

// `words` are markup of the server's, in both languages (`tag` in text.py).
function complain(field, words) {
  field.querySelector(".error").innerHTML = words;
  if (words) field.classList.add("found");
  for (const node of field.querySelectorAll("input, select")) {
    words ? node.setAttribute("aria-invalid", "true") : node.removeAttribute("aria-invalid");
  }
}

function fill(texts) {
  for (const [name, field] of fields) {
    write(field, texts[name] ?? "");
    complain(field, "");
  }
  changed();
  document.dispatchEvent(new CustomEvent("filled"));
}

function focus(field) {
  (control(field) ?? field.querySelector("input")).focus();
}

function press(example) {
  for (const button of form.querySelectorAll(".example")) button.setAttribute("aria-pressed", button === example);
}

// What is shown is of the form as it was; verdict and reasons say so once that is not how it is.
function stale(is) {
  for (const node of document.querySelectorAll("#verdict, #why")) node.classList.toggle("stale", is);
}

form.addEventListener("input", (event) => {
  if (!fieldOf(event.target)) return;
  complain(fieldOf(event.target), "");
  changed();
  press(null);
  stale(true);
});

form.addEventListener("change", (event) => {
  if (!fieldOf(event.target)) return;
  if (event.target.type === "text") event.target.value = tidy(event.target.value);
  changed();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  for (const field of fields.values()) if (isNumber(field)) control(field).value = tidy(control(field).value);
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
  const help = field?.querySelector(".help").textContent;
  guide.textContent = help || guide.dataset[hotrow.language] || guide.dataset.en;
}
for (const kind of ["focusin", "focusout", "mouseover", "mouseleave"]) form.addEventListener(kind, explain);

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-field]");
  if (!link) return;
  event.preventDefault();
  document.dispatchEvent(new CustomEvent("open", { detail: "decide" }));
  focus(fields.get(link.dataset.field));
});

// Numbers stay the numbers they are when the language changes how they are written.
document.addEventListener("language", ({ detail: { before } }) => {
  for (const field of fields.values()) {
    if (isNumber(field)) control(field).value = tidy(canonical(control(field).value, before));
  }
});

// What another tab has made of the case: {texts}.
document.addEventListener("case", ({ detail: texts }) => {
  fill(texts);
  press(null);
  submit();
});

// Of a wide form only what matters most is shown, what is searched for and what is filled in.
const search = form.querySelector(".search");
if (search) {
  const [box, all] = search.querySelectorAll("input");
  const none = search.querySelector(".none");
  const filter = () => {
    const wanted = box.value.trim().toLowerCase();
    let shown = 0;
    for (const [name, field] of fields) {
      const words = `${name} ${field.querySelector(".name").textContent}`.toLowerCase();
      const is = wanted ? words.includes(wanted) : all.checked || !field.classList.contains("minor") || read(field);
      field.classList.toggle("found", Boolean(is));
      field.classList.toggle("lost", !is);
      shown += Boolean(is);
    }
    none.hidden = shown > 0;
  };
  box.addEventListener("input", (event) => {
    event.stopPropagation();
    filter();
  });
  box.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  all.addEventListener("input", (event) => event.stopPropagation());
  all.addEventListener("change", filter);
  document.addEventListener("filled", filter);
}

// Sent by the verdict once an answer is shown; `errors` are by feature name.
document.addEventListener("answer", ({ detail: answer }) => {
  stale(answer.turn !== turn);
  if (answer.turn !== turn) return;
  for (const [name, field] of fields) complain(field, answer.errors[name] ?? "");
  const [first] = [...fields].filter(([name]) => answer.errors[name]);
  if (first) focus(first[1]);
  else if (document.body.dataset.tab === "decide") document.querySelector("#verdict .head").scrollIntoView({ block: "nearest", behavior: "smooth" });
});

changed();
