// The rows of a scored file to work through (work_list.py): filtered, opened on the sheet or by their
// record, and what was refused repaired in place. `many.js` loads this once there are rows, tells them
// and scores one again.
Object.assign(hotrow.words, /*WORDS*/ {});
const root = document.querySelector(".work");
const part = (name) => root.querySelector(name);
const [filter, body, more] = ["select", "tbody", ".more"].map(part);
const PAGE = 25;
let list = null;
let page = PAGE;
let chosen = "all";

const inLanguage = (words) => words[hotrow.language === "fr" ? 1 : 0];
const isListed = (row) => chosen === "all" || (chosen === "bad" ? Boolean(row.faults) : Boolean(row.groups?.includes(Number(chosen))));

function made(kind, { text, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(kind), properties);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

// The cells of one record that the server wrote.
function cellsOf(record, separator) {
  const cells = [""];
  let open = false;
  for (let at = 0; at < record.length; at += 1) {
    const sign = record[at];
    if (sign === '"' && open && record[at + 1] === '"') cells[cells.length - 1] += record[(at += 1)];
    else if (sign === '"') open = !open;
    else if (sign === separator && !open) cells.push("");
    else if (open || (sign !== "\r" && sign !== "\n")) cells[cells.length - 1] += sign;
  }
  return cells;
}

const quoted = (cell) => (/["\r\n]/.test(cell) || cell.includes(list.separator) ? `"${cell.replaceAll('"', '""')}"` : cell);
const joined = (cells) => cells.map(quoted).join(list.separator);

function choices() {
  const counts = list.groups.map(() => 0);
  for (const row of list.rows) for (const group of row.groups ?? []) counts[group] += 1;
  const bad = list.rows.filter((row) => row.faults).length;
  const options = [["all", "all_of", "", list.rows.length], ["bad", "bad_of", "", bad], ...list.groups.map((words, i) => [String(i), "group_of", inLanguage(words), counts[i]])];
  filter.replaceChildren(
    ...options
      .filter(([value, , , count]) => count || value === "all" || value === chosen)
      .map(([value, key, name, count]) => new Option(hotrow.say(key, { name, count: hotrow.number(count) }), value, false, value === chosen)),
  );
}

function draw() {
  root.hidden = !list?.rows.length;
  if (root.hidden) return;
  choices();
  const rows = list.rows.filter(isListed);
  body.replaceChildren(...rows.slice(0, page).map(line));
  part(".count").textContent = hotrow.say("listed", { shown: hotrow.number(Math.min(page, rows.length)), all: hotrow.number(rows.length) });
  more.hidden = rows.length <= page;
}

function line(row) {
  const cells = cellsOf(row.text, list.separator);
  // The apostrophe that keeps a spreadsheet from running a cell is the file's alone.
  const own = list.own.map((i) => cells[i].replace(/^'(?=[=+\-@])/, "")).filter(Boolean).join(" · ");
  const head = made("th", { scope: "row", text: hotrow.number(row.line) }, ...(own ? [made("span", { className: "own", text: own })] : []));
  if (row.faults) {
    return made("tr", { className: "bad" }, head, made("td", { text: hotrow.say("to_correct") }), made("td", { colSpan: 3 }, repair(row)));
  }
  const words = row.groups.map((group) => inLanguage(list.groups[group]));
  const [outcome, others] = [words.slice(0, list.outcomes ? 1 : 0).join(), words.slice(1)];
  const why = hotrow.list([...others.map((said) => said.replace(/\.$/, "")), ...row.reasons.map((i) => inLanguage(list.labels[i]))]);
  return made("tr", {}, head, made("td", { text: outcome }), made("td", { text: figure(row.result) }), made("td", { text: why }), made("td", { className: "acts" }, action("open_row", row, open), ...(row.id ? [" ", action("look_row", row, look)] : [])));
}

// A probability, or the value of a model without outcomes.
function figure(result) {
  if (!list.outcomes) return hotrow.number(result, { maximumSignificantDigits: 6 });
  return hotrow.say("percent", { value: hotrow.number(100 * result, { minimumFractionDigits: 1, maximumFractionDigits: 1 }) });
}

function action(key, row, act) {
  const button = made("button", { type: "button", text: hotrow.say(key), className: "act" });
  button.setAttribute("aria-label", hotrow.say("row_of", { action: hotrow.say(key), line: row.line }));
  button.addEventListener("click", () => tried(() => act(row)));
  return button;
}

async function tried(act) {
  part(".problem").textContent = "";
  try {
    await act();
  } catch (error) {
    if (error instanceof TypeError || error.message.startsWith("status")) hotrow.reachable(false);
    else part(".problem").textContent = error.message;
  }
}

async function open(row) {
  const texts = await list.textsOf(row);
  document.dispatchEvent(new CustomEvent("open", { detail: "decide" }));
  document.dispatchEvent(new CustomEvent("case", { detail: texts }));
}

const look = (row) => document.dispatchEvent(new CustomEvent("look-up", { detail: row.id }));

// A box for each value that was refused, or for the whole line where its cells are too few or too many.
function repair(row) {
  const form = made("form", { className: "repair" });
  const whole = row.faults.some(({ cell }) => cell < 0);
  const faults = whole ? row.faults.slice(0, 1) : row.faults;
  for (const [i, { cell, label, detail }] of faults.entries()) {
    const id = `repair-${row.line}-${i}`;
    const value = whole ? joined(row.cells) : row.cells[cell];
    const name = made("label", { htmlFor: id, innerHTML: label, ...(whole ? { textContent: hotrow.say("whole_line") } : {}) });
    const box = made(whole ? "textarea" : "input", { id, value, autocomplete: "off" });
    box.dataset.cell = cell;
    box.setAttribute("aria-invalid", "true");
    box.setAttribute("aria-describedby", `${id}-why`);
    form.append(made("p", { className: whole ? "whole" : "" }, name, box, made("span", { id: `${id}-why`, className: "why", innerHTML: detail })));
  }
  const button = made("button", { className: "act", text: hotrow.say("again") });
  button.setAttribute("aria-label", hotrow.say("row_of", { action: hotrow.say("again"), line: row.line }));
  form.append(button);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true; // what is under way is logged once
    tried(() => repaired(row, form, whole)).finally(() => (button.disabled = false));
  });
  return form;
}

async function repaired(row, form, whole) {
  const boxes = [...form.querySelectorAll("input, textarea")];
  const cells = [...row.cells];
  for (const box of boxes) cells[Number(box.dataset.cell)] = box.value;
  const at = [...body.rows].indexOf(form.closest("tr"));
  await list.again(row, `${whole ? boxes[0].value : joined(cells)}\r\n`);
  hotrow.tell(row.faults ? hotrow.say("still_bad", { line: row.line }) : hotrow.say("now_good", { line: row.line, name: list.outcomes ? inLanguage(list.groups[row.groups[0]]) : figure(row.result) }));
  // The list was drawn anew: the row's own first control, or that of the row in its place.
  (body.rows[Math.min(at, body.rows.length - 1)]?.querySelector("input, textarea, button") ?? filter).focus();
}

filter.addEventListener("change", () => {
  [chosen, page] = [filter.value, PAGE];
  draw();
});
more.addEventListener("click", () => {
  const before = page;
  page += PAGE;
  draw();
  body.rows[before]?.querySelector("input, button")?.focus();
});
// The rows to show, null for none. A file that was scored anew is shown from its start; one of which a row
// was repaired stays where it was.
export function show(told) {
  if (told?.rows !== list?.rows) [chosen, page] = [told?.rows.some((row) => row.faults) ? "bad" : "all", PAGE];
  list = told;
  draw();
}
