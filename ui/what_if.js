// Behind the sliders. Each has a box to type into, and the case's own value among its stops.
// A case is the texts of a form by feature name. The left one is what
// is compared with, the right one what the sliders make of it. Of what is asked while an
// answer is under way, the last counts. The verdict is asked for at once; the reasons and
// the change that would turn it follow when the sliders rest, and never keep a verdict waiting.
const root = element.querySelector(".what-if");
const [rows, gridOf, stopsOf] = [new Map(), new Map(), new Map()];
const [left, right] = [root.querySelector("#left"), root.querySelector("#right")];
const leftHead = root.querySelector(".left h2");
const choice = root.querySelector("#compare-with");
const now = root.querySelector(".now");
const body = (texts) => JSON.stringify({ texts });

const [flip, why] = [root.querySelector("#flip"), root.querySelector("#what-if-why")];
// Reasons and changes cost the server many times a verdict: they are asked for once the case rests.
const REST_MS = 120;

let base = {};
let texts = {};
let decided = null;
let kept = 0;
let resting = 0;

const show = hotrow.latest(async (asked) => {
  const { html, said, whole } = await hotrow.post("page/what-if", body(asked));
  right.innerHTML = html;
  now.innerHTML = said;
  hotrow.tell(() => [...now.children].map((node) => node.textContent).join(", "));
  if (whole) resting = setTimeout(follow, REST_MS, asked);
});
const follow = (asked) => {
  turn(asked);
  explain(asked);
};
const turn = hotrow.latest(async (asked) => {
  const { html, curves = {}, limits = [] } = await hotrow.post("page/flip", body(asked));
  if (asked !== texts) return;
  come(flip, html);
  draw(curves, limits);
});
const explain = hotrow.latest(async (asked) => {
  const { html } = await hotrow.post("page/reasons", body(asked));
  if (asked === texts) come(why, html);
});

// The risk over each number, on the slider's own stops; one scale for all, so that what moves little is flat.
function draw(curves, limits) {
  const most = Math.max(...Object.values(curves).flat(), ...limits) * 1.05;
  const y = (share) => (100 * (1 - share / most)).toFixed(1);
  for (const [name, shares] of Object.entries(curves)) {
    const curve = rows.get(name)?.querySelector(".curve");
    const [grid, stops] = [gridOf.get(name), stopsOf.get(name)];
    if (!curve || stops.length < 2) continue;
    const points = shares.map((share, i) => `${((100 * stops.indexOf(grid[i])) / (stops.length - 1)).toFixed(1)},${y(share)}`);
    const lines = limits.map((limit) => `<path class="limit" d="M0,${y(limit)}H100"/>`);
    curve.innerHTML = `${lines.join("")}<polyline points="${points.join(" ")}"/>`;
  }
}

function come(place, html) {
  place.inert = false;
  place.innerHTML = html;
}

// What stands there of the case before can be pressed no more.
function ask(changed) {
  texts = changed;
  clearTimeout(resting);
  flip.inert = why.inert = true;
  show(texts);
}

// The sliders, and the examples to compare with, come when the tab is first opened: of a wide model they are many.
let loading = null;
async function load() {
  loading ??= hotrow.post("page/sliders", "{}");
  try {
    const { html, cases } = await loading;
    hotrow.reachable(true);
    if (rows.size) return true;
    root.querySelector(".list").innerHTML = html;
    choice.insertAdjacentHTML("beforeend", cases);
    for (const row of root.querySelectorAll(".slider")) {
      const grid = JSON.parse(row.querySelector("[data-stops]")?.dataset.stops ?? "null");
      for (const [map, value] of [[rows, row], [gridOf, grid], [stopsOf, grid]]) map.set(row.dataset.feature, value);
    }
    return true;
  } catch {
    loading = null;
    hotrow.reachable(false);
    return false;
  }
}

const showLeft = hotrow.latest(async (asked) => {
  nameLeft();
  left.innerHTML = (await hotrow.post("page/what-if", body(asked))).html;
});

// It is called what was chosen, in both languages.
function nameLeft() {
  const [chosen] = choice.selectedOptions;
  const { en = chosen.textContent, fr = en } = chosen.dataset;
  Object.assign(leftHead.dataset, { en, fr });
  leftHead.textContent = chosen.textContent;
}

const plain = (text) => String(text ?? "").replace(/[,\s'’]/g, "");

const isNumber = (text) => plain(text) && Number.isFinite(Number(plain(text)));

// The sliders stop at the values of both cases too.
function stop() {
  for (const [name, row] of rows) {
    const grid = gridOf.get(name);
    if (!grid) continue;
    const own = [base, texts].map((of) => hotrow.of(of, name)).filter(isNumber).map((text) => Number(plain(text)));
    stopsOf.set(name, [...new Set([...grid, ...own])].sort((a, b) => a - b));
    row.querySelector("[type=range]").max = stopsOf.get(name).length - 1;
  }
}

function words(row, text) {
  if (!plain(text)) return hotrow.say("unknown");
  const select = row.querySelector("select");
  if (select) return select.options[Number(text)]?.textContent ?? text;
  return isNumber(text) ? hotrow.figures(plain(text)) : text;
}

function nearest(stops, value) {
  let best = 0;
  for (const [i, stop] of stops.entries()) if (Math.abs(stop - value) < Math.abs(stops[best] - value)) best = i;
  return best;
}

function place(name, row) {
  const text = hotrow.of(texts, name);
  const control = row.querySelector("select, [type=range]");
  const unknown = row.querySelector(".is-unknown");
  if (unknown) unknown.checked = !plain(text);
  row.classList.toggle("without", !plain(text));
  if (row.querySelector("select")) control.value = plain(text) ? text : control.value;
  else if (isNumber(text)) control.value = nearest(stopsOf.get(name), Number(plain(text)));
  tell(name, row);
}

function tell(name, row) {
  const [text, before] = [texts, base].map((of) => hotrow.of(of, name));
  const said = words(row, text);
  const typed = row.querySelector(".typed");
  if (typed) typed.value = plain(text) ? said : "";
  row.querySelector("[type=range]")?.setAttribute("aria-valuetext", said);
  const changed = plain(text) !== plain(before);
  row.classList.toggle("changed", changed);
  row.querySelector(".was").textContent = changed ? hotrow.say("was", { value: words(row, before) }) : "";
}

function become(changed) {
  texts = { ...changed };
  root.classList.add("begun");
  for (const [name, row] of rows) place(name, row);
  ask(texts);
}

function start(changed) {
  base = { ...changed };
  texts = { ...changed };
  stop();
  showLeft(base);
  become(base);
}

// Another case on the left: what the sliders have made stays on the right, and what differs is marked.
function compareWith(changed) {
  if (!root.classList.contains("begun")) return start(changed);
  base = { ...changed };
  stop();
  showLeft(base);
  for (const [name, row] of rows) place(name, row);
}

root.addEventListener("input", ({ target }) => {
  const row = target.closest(".slider");
  if (!row || target.classList.contains("typed")) return;
  const name = row.dataset.feature;
  const stops = stopsOf.get(name);
  const control = row.querySelector("select, [type=range]");
  const without = target.classList.contains("is-unknown") && target.checked;
  ask({ ...texts, [name]: without ? "" : stops ? String(stops[control.value]) : control.value });
  row.classList.toggle("without", without);
  if (row.querySelector(".is-unknown")) row.querySelector(".is-unknown").checked = without;
  tell(name, row);
});

root.addEventListener("change", ({ target }) => {
  const row = target.closest(".slider");
  if (!row || !target.classList.contains("typed")) return;
  const name = row.dataset.feature;
  ask({ ...texts, [name]: hotrow.canonical(hotrow.bare(target.value, row)) });
  place(name, row);
});

choice.addEventListener("change", async () => {
  if (!(await load())) return;
  const option = choice.selectedOptions[0];
  compareWith(option.value === "decided" ? decided : JSON.parse(option.dataset.texts));
});

root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.classList.contains("reset")) become(base);
  if (button.classList.contains("try")) {
    const { changes, feature, text } = button.dataset;
    become({ ...texts, ...(changes ? JSON.parse(changes) : { [feature]: text }) });
  }
  if (button.classList.contains("to-form")) {
    document.dispatchEvent(new CustomEvent("open", { detail: "decide" }));
    document.dispatchEvent(new CustomEvent("case", { detail: texts }));
  }
  if (button.classList.contains("keep")) {
    kept += 1;
    const option = new Option(hotrow.say("kept", { number: kept }), `kept-${kept}`);
    option.dataset.texts = JSON.stringify(texts);
    choice.add(option);
    choice.value = option.value;
    base = { ...texts };
    stop();
    showLeft(base);
    for (const [name, row] of rows) tell(name, row);
  }
});

// The case as it was decided is where the sliders start.
document.addEventListener("answer", ({ detail: answer }) => {
  if (!Object.keys(answer.texts).length) return;
  decided = answer.texts;
  choice.querySelector("[value=decided]").disabled = false;
  choice.value = "decided";
  waiting = true;
  begin();
});

// Nothing is asked for before the tab is opened.
let waiting = false;
async function begin() {
  if (document.body.dataset.tab !== "what-if" || !(await load())) return;
  if (waiting) start(decided);
  waiting = false;
}
for (const event of ["tab", "reachable"]) document.addEventListener(event, begin);
begin();
// A change that the sheet proposes for the case as it was decided.
document.addEventListener("try", async ({ detail }) => {
  if (!(await load())) return;
  waiting = false;
  choice.value = "decided";
  start(decided);
  become({ ...decided, ...detail });
});
document.addEventListener("language", () => {
  for (const [name, row] of rows) tell(name, row);
});
