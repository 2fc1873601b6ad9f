// Behind the form's markup (form.py). Gradio runs this once with `element`.
// What the server gets is the text of every field by feature name, empty for unknown,
// and the turn, a number that every change of the form moves on. An answer names the
// turn it is of.
const form = element.querySelector("form");
const [guide, failure, undo] = [".guide", ".failure", ".undo"].map((name) => form.querySelector(name));
const number = form.querySelector("#case-number");
const fields = new Map([...form.querySelectorAll(".field")].map((field) => [field.dataset.feature, field]));

const fieldOf = (node) => node.closest(".field");
const { canonical, parts } = hotrow;
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
const decide = hotrow.latest(async (asked) => {
  busy(true);
  try {
    const answer = await hotrow.post("page/decide", JSON.stringify(asked));
    document.dispatchEvent(new CustomEvent("answer", { detail: answer }));
    failure.textContent = "";
  } catch (error) {
    stale(true);
    failure.textContent = hotrow.say("not_sent");
    throw error;
  } finally {
    busy(false);
  }
});

function busy(is) {
  form.querySelector(".decide").setAttribute("aria-busy", is);
  document.querySelector("#verdict").classList.toggle("busy", is);
}

// Each submission has a turn of its own: even the same answer again is news. A trial, which
// nobody pressed Decide for, is answered and is no decision.
function submit(trial = false) {
  for (const field of fields.values()) if (isNumber(field)) tidy(field);
  turn += 1;
  changed();
  decide({ turn, texts, trial, case: number.value });
}

// As much of a number is written out as was understood, when its field is left.
function tidy(field) {
  const node = control(field);
  const bare = hotrow.bare(node.value, field);
  // What was shifted is written as English writes it, or canonical.
  node.value = bare === node.value ? hotrow.tidy(bare) : hotrow.figures(bare);
}

// `words` are markup of the server's, in both languages (`tag` in text.py).
function complain(field, words) {
  field.querySelector(".error").innerHTML = words;
  if (words) field.classList.add("found");
  for (const node of field.querySelectorAll("input, select")) {
    words ? node.setAttribute("aria-invalid", "true") : node.removeAttribute("aria-invalid");
  }
}

// What was typed is not lost: a form that is filled or emptied at once can be had back.
let before = null;

function fill(filled) {
  const typed = Object.values(texts).some(Boolean);
  const same = [...fields.keys()].every((name) => hotrow.of(texts, name) === hotrow.of(filled, name));
  if (typed && !same) before = texts;
  undo.hidden = !before;
  replace(filled);
}

function replace(texts) {
  for (const [name, field] of fields) {
    write(field, hotrow.of(texts, name));
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

// What is shown is of the form as it was; verdict, reasons and sliders say so once that is not how it is.
function stale(is) {
  const nodes = [...document.querySelectorAll("#verdict, #why, .what-if")];
  const news = is && nodes[0].querySelector(".panel:is(.below, .otherwise, .open)") && !nodes[0].classList.contains("stale");
  for (const node of nodes) node.classList.toggle("stale", is);
  if (news) hotrow.tell(hotrow.say("changed"));
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
  if (event.target.type === "text") tidy(fieldOf(event.target));
  changed();
  keep();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});

// Enter decides from any field; of a list the browser itself would do nothing with it.
form.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.target.tagName !== "SELECT") return;
  event.preventDefault();
  submit();
});

// What was not sent can be, once the server is back.
document.addEventListener("reachable", () => {
  if (failure.textContent) failure.textContent = hotrow.say("back");
});

form.addEventListener("reset", (event) => {
  event.preventDefault();
  number.value = "";
  fill({});
  press(null);
  stale(false);
  document.dispatchEvent(new CustomEvent("cleared"));
});

form.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.classList.contains("example")) {
    fill(JSON.parse(button.dataset.texts));
    press(button);
    submit(true);
  } else if (button === undo) {
    const back = before;
    [before, undo.hidden] = [null, true];
    replace(back);
    press(null);
    stale(true);
    form.querySelector(".decide").focus();
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
    if (isNumber(field)) control(field).value = hotrow.tidy(canonical(hotrow.bare(control(field).value, field, before), before));
  }
});

// What another tab has made of the case: {texts}.
document.addEventListener("case", ({ detail: texts }) => {
  fill(texts);
  press(null);
  submit(true);
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

const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Sent by the verdict once an answer is shown; `errors` are by feature name.
document.addEventListener("answer", ({ detail: answer }) => {
  stale(answer.turn !== turn);
  if (answer.turn !== turn) return;
  for (const [name, field] of fields) complain(field, hotrow.of(answer.errors, name));
  const [first] = [...fields].filter(([name]) => hotrow.of(answer.errors, name));
  if (first) focus(first[1]);
  else if (document.body.dataset.tab === "decide") document.querySelector("#verdict .head").scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
});

// Where the reader asks for it, what is typed outlives a reload, in this browser tab alone.
const KEY = `hotrow.form ${new URL(".", document.baseURI).pathname}`; // of each model its own
const kept = form.querySelector(".keep input");

function keep() {
  if (kept.checked) sessionStorage.setItem(KEY, JSON.stringify({ texts, case: number.value }));
}

kept.addEventListener("change", (event) => {
  event.stopPropagation();
  kept.checked ? keep() : sessionStorage.removeItem(KEY);
});
document.addEventListener("filled", keep);
number.addEventListener("change", keep);

changed();
const saved = sessionStorage.getItem(KEY);
if (saved) {
  const { texts, case: given } = JSON.parse(saved);
  kept.checked = true;
  number.value = given;
  replace(texts);
}
