// Behind the file of many cases (many.py). The file is cut into pieces of whole records,
// which are sent one after another: the server works on one small piece at a time, keeps
// nothing, and others are answered in between. What comes back is put together here.
const root = element.querySelector(".many");
const part = (name) => root.querySelector(name);
const [preview, progress, summary] = [part(".preview"), part(".progress"), part(".summary")];
const looks = JSON.parse(root.dataset.bars); // of the bars between 0 and 1: a class, and a ground where a limit cuts one
const PIECE = 2 ** 16;
const groups = JSON.parse(root.dataset.groups); // what rows are listed under, the outcomes first
const OUTCOMES = Number(root.dataset.outcomes);
const MOST_ROWS = Number(root.dataset.most);
const BEGINNING = Math.min(40, MOST_ROWS);

let chosen = { name: "", text: "", separator: "", decimal: "", skipped: 0, columns: {}, own: [], labels: [] }; // they change together
let run = 0;
let result = null;
let unsaved = false;
let stopping = false;

function complain(words) {
  part(".problem").textContent = words ?? "";
}

const savedName = (ending) => chosen.name.replace(/(\.(csv|txt|tsv|xlsx))?$/i, `-scored.${ending}`);
const breaks = (piece) => piece.split("\n").length - 1;

// A file's text: in UTF-8, in UTF-16 with its mark, or else in what Windows writes in the West.
function decoded(bytes) {
  const [first, second] = new Uint8Array(bytes.slice(0, 2));
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const isControl = (byte) => byte < 9 || (byte > 13 && byte < 32); // of a picture, say: no text has them
    if (new Uint8Array(bytes).some(isControl)) throw new Error(hotrow.say("utf8"));
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

// What the server makes of a whole file; throws an error with its words for what it does not take.
async function converted(path, body, type) {
  const answer = await fetch(`page/many/${path}`, { method: "POST", body, headers: { "Content-Type": type } });
  if (answer.status === 413) throw new Error(hotrow.say("too_large"));
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  if (answer.headers.get("Content-Type").startsWith("application/json")) throw new Error(hotrow.problem(await answer.json()));
  return answer;
}

// A workbook is a ZIP archive: the server gives its first sheet as CSV.
async function textOf(bytes) {
  const isPacked = new TextDecoder("latin1").decode(bytes.slice(0, 4)) === "PK\x03\x04";
  if (!isPacked) return decoded(bytes);
  progress.hidden = false;
  part("progress").removeAttribute("value");
  part(".state").textContent = hotrow.say("reading");
  try {
    return await (await converted("sheet", bytes, "application/octet-stream")).text();
  } finally {
    progress.hidden = true;
  }
}

// Excel's first line `sep=;` names the separator; the line ends are those of one kind, so that pieces end at them.
function prepared(text) {
  const same = text.includes("\r") && !text.includes("\n") ? text.replaceAll("\r", "\n") : text;
  const said = /^sep=(.)\r?\n/i.exec(same);
  return { text: said ? same.slice(said[0].length) : same, separator: said?.[1] ?? "", skipped: said ? 1 : 0 };
}

// Behind the record that begins at `from`: its line break is the first that is not inside
// quotes. Every character is looked at once, and no further than a record may be long.
function endOfRecord(text, from) {
  let open = false;
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === '"') open = !open;
    else if (text[at] === "\n" && !open) return at + 1;
    if (at - from > PIECE) throw new Error(hotrow.say("no_quote"));
  }
  return text.length;
}

// Behind as many whole records from `from` on as one piece holds.
function endOfPiece(text, from, rows) {
  let end = from;
  for (let i = 0; i < rows && end < text.length && end - from < PIECE; i += 1) end = endOfRecord(text, end);
  return end;
}

function* pieces(text) {
  const head = text.slice(0, endOfRecord(text, 0));
  let [from, line] = [head.length, breaks(head) + 1 + chosen.skipped];
  while (from < text.length) {
    const end = endOfPiece(text, from, MOST_ROWS);
    const records = text.slice(from, end);
    if (records.trim()) yield { first: line, end, content: head + records };
    line += breaks(records);
    from = end;
  }
}

function send(path, piece) {
  const said = new URLSearchParams({ first: piece.first });
  if (chosen.separator) said.set("separator", chosen.separator);
  if (chosen.decimal) said.set("decimal", chosen.decimal);
  if (result?.trial && !path) said.set("trial", "1");
  if (Object.keys(chosen.columns).length) said.set("columns", JSON.stringify(chosen.columns));
  return hotrow.post(`page/many${path}?${said}`, piece.content, "text/csv");
}

// An error of `pieces` is the file's; all others are the network's.
const isOfNetwork = (error) => error instanceof TypeError || error.message.startsWith("status");

function failed(error) {
  if (isOfNetwork(error)) hotrow.reachable(false);
  else complain(error.message);
}

async function take(file) {
  const number = (run += 1);
  complain();
  for (const section of [preview, progress, summary]) section.hidden = true;
  list(null);
  if (!file) return;
  let text;
  try {
    text = await textOf(await file.arrayBuffer());
  } catch (error) {
    if (number === run) failed(error);
    return;
  }
  if (number !== run) return;
  chosen = { name: file.name, decimal: "", columns: {}, own: [], labels: [], ...prepared(text) };
  await check(number);
}

// What the server says of the file's beginning, and of its columns.
async function check(number) {
  result = null;
  offer("score_all");
  const { name, text } = chosen;
  try {
    const head = endOfRecord(text, 0);
    const beginning = { first: breaks(text.slice(0, head)) + 1 + chosen.skipped, content: text.slice(0, endOfPiece(text, head, BEGINNING)) };
    const checked = await send("/check", beginning);
    if (number !== run) return;
    hotrow.reachable(true);
    part(".preview .score").hidden = Boolean(checked.problem) || !rowsAbout(text);
    preview.hidden = !checked.html;
    part(".content").innerHTML = checked.html ?? "";
    part(".file").textContent = `${name} · ${hotrow.say("rows", { count: hotrow.number(rowsAbout(text)) })}`;
    if (checked.problem) return complain(hotrow.problem(checked));
    complain(rowsAbout(text) ? "" : hotrow.say("no_rows"));
    // A piece alone may not tell how the file is written: what its beginning told goes along.
    const { separator, decimal, own, labels } = checked;
    Object.assign(chosen, { separator, decimal, own, labels });
    part(".content").insertAdjacentHTML("beforeend", listed(checked.faults));
  } catch (error) {
    if (number === run) failed(error);
  }
}

// The line breaks that are not inside quotes, the header's aside.
const rowsAbout = (text) => text.trimEnd().split('"').reduce((count, part, i) => count + (i % 2 ? 0 : breaks(part)), 0);

function listed(faults) {
  const lines = faults.map(({ line, label, detail }) => `<li>${hotrow.say("line", { line })}: ${label} ${detail}</li>`);
  return lines.length ? `<ul class="faults-list">${lines.join("")}</ul>` : "";
}

// What was scored before a stop or a cut line stays, and scoring goes on behind it.
async function score() {
  const number = (run += 1);
  const { text } = chosen;
  if (!result || result.done) result = { header: "", rows: [], counts: [], end: 0, trial: part("#as-trial").checked };
  [summary.hidden, progress.hidden, stopping] = [true, false, false];
  list(null);
  complain();
  const [started, before] = [performance.now(), result.rows.length];
  const all = rowsAbout(text);
  let [whole, said] = [true, false];
  try {
    for (const piece of pieces(text)) {
      if (piece.end <= result.end) continue;
      if (stopping) {
        whole = false;
        break;
      }
      const answer = await send("", piece);
      if (number !== run) return;
      if (answer.problem) {
        progress.hidden = true;
        return complain(hotrow.problem(answer));
      }
      add(answer);
      result.end = piece.end;
      part("progress").value = piece.end / text.length;
      const done = result.rows.length;
      const rate = (1000 * (done - before)) / (performance.now() - started);
      part(".state").textContent = [
        hotrow.say("scoring", { done: hotrow.number(done), all: hotrow.number(Math.max(all, done)) }),
        hotrow.say("speed", { rate: hotrow.number(Math.round(rate)) }),
      ].join(" · ");
    }
  } catch (error) {
    if (number !== run) return;
    failed(error);
    whole = false;
    if (!isOfNetwork(error)) said = true;
  }
  progress.hidden = true;
  result.done = whole;
  if (!result.rows.length && whole) complain(hotrow.say("no_rows"));
  if (!whole && !said) complain(hotrow.say("stopped", { count: hotrow.number(result.rows.length) }));
  offer(whole ? "score_all" : "go_on");
  if (result.rows.length) tell();
}

// What the button under the preview does next, in both languages.
function offer(key) {
  const button = part(".preview .score");
  [button.dataset.en, button.dataset.fr] = hotrow.words[key];
  button.textContent = hotrow.say(key);
}

function add(answer) {
  result.header ||= answer.header;
  for (const row of answer.rows) result.rows.push(row);
  spread(answer);
}

function spread({ counts }) {
  counts.forEach((count, i) => (result.counts[i] = (result.counts[i] ?? 0) + count));
}

// A record of the file as it was typed: `line` is where it begins, the file's first is 1.
function recordAt(line) {
  let from = 0;
  for (let left = line - 1 - chosen.skipped; left > 0; left -= 1) from = chosen.text.indexOf("\n", from) + 1;
  return chosen.text.slice(from, endOfRecord(chosen.text, from));
}

// One record alone, as a piece of the file; `record` is that of a row as it was repaired last.
const alone = ({ line, record }) => ({ first: line, content: chosen.text.slice(0, endOfRecord(chosen.text, 0)) + (record ?? recordAt(line)) });

// Scores a refused row again; if it is accepted, the file has the answer and the log its line.
async function again(row, record) {
  const number = run;
  if (record.slice(endOfRecord(record, 0)).trim()) throw new Error(hotrow.say("one_row"));
  const answer = await send("", alone({ line: row.line, record }));
  hotrow.reachable(true);
  if (number !== run) return;
  if (answer.problem) throw new Error(hotrow.problem(answer));
  const [repaired] = answer.rows;
  if (!repaired) throw new Error(hotrow.say("no_rows"));
  Object.assign(row, { faults: undefined, cells: undefined }, repaired, { line: row.line, record });
  spread(answer);
  await tell();
}

// What the form would hold of a row.
async function textsOf(row) {
  const answer = await send("/texts", alone(row));
  hotrow.reachable(true);
  if (answer.problem) throw new Error(hotrow.problem(answer));
  return answer.texts;
}

// The rows to work through, null where there are none. What shows them is loaded when there are some.
let told = null;
let module;

async function list(rows) {
  told = rows;
  document.dispatchEvent(new CustomEvent("scored", { detail: told })); // to the limit studio
  if (!told && !module) return;
  try {
    module ??= import(new URL("page/scripts/work_list.js", document.baseURI));
    (await module).show(told);
  } catch (error) {
    module = undefined;
    failed(error);
  }
}

const parts = () => ["\ufeff", result.header, ...result.rows.map((row) => row.text)];
const share = (part) => hotrow.say("percent", { value: hotrow.number(100 * part, { maximumFractionDigits: 1 }) });

function tell() {
  const { rows } = result;
  const { separator, own, labels } = chosen;
  const listed = list({ name: chosen.name, rows, groups, outcomes: OUTCOMES, separator, own, labels, again, textsOf });
  const counts = groups.map(() => 0);
  for (const row of rows) if (row.groups) for (const group of row.groups) counts[group] += 1;
  const bad = rows.filter((row) => row.faults).length;
  const figures = [[hotrow.number(rows.length), hotrow.say("all_rows"), ""]];
  for (const [i, words] of groups.slice(0, OUTCOMES).entries()) {
    figures.push([hotrow.number(counts[i]), words[hotrow.language === "fr" ? 1 : 0], rows.length > bad ? share(counts[i] / (rows.length - bad)) : ""]);
  }
  if (bad) figures.push([hotrow.number(bad), hotrow.say("bad_rows"), ""]);
  part(".figures").replaceChildren(
    ...figures.map(([figure, name, note]) => {
      const box = document.createElement("p");
      box.append(...[["strong", figure], ["span", name], ["small", note]].map(([kind, said]) => {
        const node = document.createElement(kind);
        node.textContent = said;
        return node;
      }));
      return box;
    }),
  );
  draw();
  summary.hidden = false;
  unsaved = true;
  return listed;
}

function draw() {
  part(".spread").hidden = !result.counts.length;
  if (!result.counts.length) return;
  const most = Math.max(...result.counts, 1);
  const total = result.counts.reduce((a, b) => a + b, 0);
  const percent = (i) => hotrow.say("percent", { value: hotrow.number((100 * i) / result.counts.length) });
  const bars = result.counts.map((count, i) => {
    const bar = document.createElement("i");
    bar.style.height = `${(100 * count) / most}%`;
    const [style, ground] = looks[i];
    bar.className = style;
    if (ground) bar.style.setProperty("--ground", ground);
    bar.title = hotrow.say("between", { share: share(count / total), low: percent(i), high: percent(i + 1) });
    return bar;
  });
  const box = part(".bars");
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", hotrow.list(bars.filter((bar, i) => result.counts[i]).map((bar) => bar.title)));
  box.replaceChildren(...bars);
}

part("#file").addEventListener("change", (event) => take(event.target.files[0]));
const drop = part(".drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files[0]);
});
root.addEventListener("click", (event) => {
  const kinds = event.target.closest("button")?.classList;
  if (kinds?.contains("score")) score();
  if (kinds?.contains("map")) map();
  // The piece under way is counted and logged by now: its answer is waited for.
  if (kinds?.contains("stop")) stopping = true;
  if (kinds?.contains("save")) {
    hotrow.save(savedName("csv"), parts(), "text/csv");
    unsaved = false;
  }
  if (kinds?.contains("save-workbook")) saveWorkbook(event.target);
});

// What somebody says that columns mean; a feature that is meant twice is the server's to refuse.
function map() {
  const meant = [...root.querySelectorAll(".mapping select")].filter((select) => select.value);
  chosen.columns = Object.fromEntries(meant.map((select) => [select.dataset.column, select.value]));
  summary.hidden = true;
  list(null);
  check((run += 1));
}

async function saveWorkbook(button) {
  button.setAttribute("aria-busy", "true");
  try {
    // Numbers go into the workbook as numbers: it has no decimal commas of its own.
    const said = new URLSearchParams({ separator: chosen.separator, decimal: chosen.decimal });
    const answer = await converted(`workbook?${said}`, new Blob(parts()), "text/csv");
    hotrow.save(savedName("xlsx"), [await answer.blob()], answer.headers.get("Content-Type"));
    unsaved = false;
  } catch (error) {
    failed(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

// What was scored is in this page alone: leaving it asks first.
addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
document.addEventListener("language", () => {
  if (!summary.hidden) tell();
});
