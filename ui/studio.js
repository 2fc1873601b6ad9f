// The limit studio (studio.py): moves limits over cases that were decided, and counts what they would decide.
// `model.js` loads this when its tab is opened; nothing that is done here reaches the server.
Object.assign(hotrow.words, /*WORDS*/ {});
const root = document.querySelector(".studio");
const part = (name) => root.querySelector(name);
const LISTED = 20;
const [FOUR_FIFTHS, FEWEST] = [0.8, 100];
let told = null;
let weighed = ""; // what the downloaded part says of the costs, as a comment
let file = null;
let limits = [];
let costs = []; // of a missed case, of a false alarm
let source = "log";

const inLanguage = (words) => words[hotrow.language === "fr" ? 1 : 0];
const share = (value, digits = 1) => hotrow.say("percent", { value: hotrow.number(100 * value, { minimumFractionDigits: digits, maximumFractionDigits: digits }) });
const called = (decision) => inLanguage(told.decisions[decision]);

// The one rule of judge.py: what the policy decided stays, else the band that the probability lies in.
const decisionAt = ({ probability, decision, fixed }) => (fixed ? decision : told.bands[limits.filter((limit) => probability >= limit).length]);

function logged() {
  return told.cases.map(([name, probability, decision, fixed]) => ({ name, id: name, probability, decision, fixed }));
}

// The scored rows of the file under Many: the first of a row's groups is its decision, the others reasons.
function filed() {
  const names = Object.keys(told.decisions);
  return file.rows
    .filter((row) => row.groups)
    .map(({ line, id, result, groups }) => ({
      name: hotrow.say("line", { line }),
      id,
      probability: result,
      decision: names[groups[0]],
      fixed: groups.some((group) => told.deciding.includes(group - file.outcomes)),
    }));
}

function sources() {
  const options = [["log", hotrow.say("last_logged", { count: hotrow.number(told.cases.length) })]];
  if (file) options.push(["file", hotrow.say("file_of_many", { name: file.name })]);
  part("#studio-cases").replaceChildren(...options.map(([value, words]) => new Option(words, value, false, value === source)));
}

const numbers = () => [...root.querySelectorAll(".limits input[type=number]")];
const prices = () => [...root.querySelectorAll(".prices input")];
const sliders = () => [...root.querySelectorAll("input[type=range]")];

function place(except) {
  for (const [i, limit] of limits.entries()) {
    if (numbers()[i] !== except) numbers()[i].value = String(Number((100 * limit).toPrecision(6)));
    sliders()[i].value = String(100 * limit);
  }
  for (const [i, cost] of costs.entries()) if (prices()[i] !== except) prices()[i].value = cost ? String(cost) : "";
}

function problem() {
  if (limits.some((limit) => !(limit > 0 && limit < 1))) return hotrow.say("limit_range");
  if (limits.some((limit, i) => i && limit <= limits[i - 1])) return hotrow.say("limit_order");
  if (limits[0] < told.least) return hotrow.say("limit_least", { least: share(told.least) });
  if (!costs.every((cost) => cost >= 0 && cost < Infinity)) return hotrow.say("cost_range");
  return "";
}

// By the model's own probabilities: who is given the first decision fails with them, who is given the last with the rest.
function costOf(cases, decide) {
  const [missed, alarm] = costs;
  const [first, last] = [told.bands[0], told.bands.at(-1)];
  return cases.reduce((sum, one) => sum + (decide(one) === first ? one.probability * missed : decide(one) === last ? (1 - one.probability) * alarm : 0), 0) / cases.length;
}

function draw() {
  const wrong = problem();
  part(".problem").textContent = wrong;
  part(".save").disabled = Boolean(wrong);
  const cases = source === "file" ? filed() : logged();
  weighed = "";
  const shown = !wrong && cases.length > 0;
  for (const node of root.querySelectorAll(":scope > :is(.scroll, .cost, .flips, h3, .basis)")) node.hidden = !shown;
  if (!wrong && told.counted.length) groups();
  if (!costs.some(Boolean)) part(".cost").hidden = part(".basis").hidden = true; // nobody said what mistakes cost
  part(".count").textContent = cases.length ? "" : hotrow.say("no_cases");
  if (shown) count(cases);
}

function count(cases) {
  const tally = (decide) => {
    const counts = {};
    for (const one of cases) counts[decide(one)] = (counts[decide(one)] ?? 0) + 1;
    return counts;
  };
  const [now, then] = [tally((one) => one.decision), tally(decisionAt)];
  part("tbody").replaceChildren(...Object.keys(told.decisions).map((name) => row(name, now[name] ?? 0, then[name] ?? 0, cases.length)));
  const [before, after] = [(one) => one.decision, decisionAt].map((decide) => costOf(cases, decide));
  const figure = (cost) => hotrow.number(cost, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
  part(".cost").textContent = hotrow.say("cost_of", { now: figure(before), then: figure(after) });
  part(".basis").textContent = hotrow.say("cost_basis", { missed: hotrow.number(costs[0]), alarm: hotrow.number(costs[1]) });
  weighed = costs.some(Boolean) ? `# Limits weighed on ${cases.length} cases, a missed case as ${costs[0]}, a false alarm as ${costs[1]}: ${after.toFixed(3)} a case, ${before.toFixed(3)} before.\n` : "";
  flips(cases.filter((one) => decisionAt(one) !== one.decision));
}

// The place among the counted limits of the one that lies nearest.
const nearest = (limit) => told.counted.reduce((best, at, i) => (Math.abs(at - limit) < Math.abs(told.counted[best] - limit) ? i : best), 0);

// By the score alone: below the first limit is the first decision, from the last one on the last.
function groups() {
  const [now, then] = [told.limits, limits].map((asked) => [nearest(asked[0]), nearest(asked.at(-1))]);
  const counted = [...new Set(then)].map((i) => share(told.counted[i], 2));
  const cases = told.groups[0].reduce((sum, { rows }) => sum + rows, 0);
  part(".counted").textContent = hotrow.say("counted_at", { count: hotrow.number(cases), limits: hotrow.list(counted) });
  for (const [i, body] of [...root.querySelectorAll(".by-group tbody")].entries()) {
    const [before, after] = [now, then].map((at) => rates(told.groups[i], at));
    body.replaceChildren(...told.groups[i].map((group, place) => groupRow(group, before[place], after[place])));
  }
}

// Of each part of a group: its share of the first decision, the ratio of that to the highest, and its two errors.
function rates(parts, [first, last]) {
  const found = parts.map(({ rows, defaults, known, false_positive, true_positive }) => ({
    selected: 1 - (false_positive[first] + true_positive[first]) / rows,
    judged: known && rows >= FEWEST,
    alarm: rows > defaults ? false_positive[last] / (rows - defaults) : NaN,
    missed: defaults ? 1 - true_positive[first] / defaults : NaN,
  }));
  const highest = Math.max(...found.filter(({ judged }) => judged).map(({ selected }) => selected));
  return found.map((one) => ({ ...one, ratio: one.judged && highest > 0 ? one.selected / highest : NaN }));
}

function groupRow(group, before, after) {
  const said = (value) => (Number.isNaN(value) ? "–" : share(value));
  const moved = (key) => said(after[key]) + (said(after[key]) === said(before[key]) ? "" : ` (${said(before[key])})`);
  const adverse = after.ratio < FOUR_FIFTHS ? ` · ${hotrow.say("adverse")}` : "";
  const node = document.createElement("tr");
  node.append(headed(inLanguage(group.name)));
  node.classList.toggle("adverse", Boolean(adverse));
  for (const text of [hotrow.number(group.rows), moved("selected"), moved("ratio") + adverse, moved("alarm"), moved("missed")]) node.insertCell().textContent = text;
  return node;
}

function headed(name) {
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  return head;
}

function row(name, now, then, all) {
  const node = document.createElement("tr");
  node.append(headed(called(name)));
  const sign = then > now ? "+" : then < now ? "\u2212" : "";
  for (const text of [`${hotrow.number(now)} (${share(now / all)})`, `${hotrow.number(then)} (${share(then / all)})`, sign + hotrow.number(Math.abs(then - now))]) {
    node.insertCell().textContent = text;
  }
  return node;
}

function flips(cases) {
  part(".count").textContent = hotrow.say("flips", { count: hotrow.number(cases.length), shown: hotrow.number(Math.min(LISTED, cases.length)) });
  part(".flips").replaceChildren(
    ...cases.slice(0, LISTED).map((one) => {
      const node = document.createElement("li");
      const name = document.createElement(one.id ? "button" : "span");
      name.textContent = one.name;
      if (one.id) {
        name.type = "button";
        name.addEventListener("click", () => document.dispatchEvent(new CustomEvent("look-up", { detail: one.id })));
      }
      node.append(name, ` · ${share(one.probability)}: ${called(one.decision)} → ${called(decisionAt(one))}`);
      return node;
    }),
  );
}

// The part of a description file (export --describe) that says these limits. A description has limits or costs, never
// both, so the costs are a comment: YAML has them, and takes JSON as it is.
function save() {
  const { decisions, policy } = told.description;
  const bands = policy?.bands?.map((band, i) => (i < limits.length ? { ...band, below: limits[i] } : band));
  const content = { decisions, ...(bands ? {} : { threshold: limits[0] }), ...(policy ? { policy: { ...policy, ...(bands ? { bands } : {}) } } : {}) };
  hotrow.save("policy.yaml", [weighed, `${JSON.stringify(content, null, 2)}\n`], "application/yaml");
}

function moved({ target }) {
  const [limit, price] = [(target.type === "range" ? sliders() : numbers()).indexOf(target), prices().indexOf(target)];
  if (limit >= 0) limits[limit] = target.value.trim() === "" ? NaN : Number(target.value) / 100;
  else if (price >= 0) costs[price] = target.validity.badInput ? NaN : Number(target.value);
  else return;
  place(target);
  draw();
}

root.addEventListener("input", moved);
root.addEventListener("change", (event) => {
  if (event.target.id !== "studio-cases") return;
  source = event.target.value;
  draw();
});
root.addEventListener("click", (event) => {
  const kinds = event.target.classList;
  if (kinds.contains("save")) save();
  if (kinds.contains("back")) {
    [limits, costs] = [[...told.limits], [...told.costs]];
    place();
    draw();
  }
});
document.addEventListener("language", () => {
  if (!told) return;
  sources();
  draw();
});

// Cases anew, from the log and the file that is scored, if there is one; limits that were moved stay.
export function show(answer, scored) {
  if (!told) {
    root.innerHTML = answer.html;
    root.hidden = false;
  }
  [told, file] = [answer, scored];
  if (!limits.length) [limits, costs] = [[...told.limits], [...told.costs]];
  if (!file) source = "log";
  else if (!told.cases.length) source = "file";
  sources();
  place();
  draw();
}
