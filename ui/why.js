// Behind the reasons. They are asked for once a decision is shown, never before: the
// verdict waits for nothing. Of several questions the last one counts.
const shown = element.querySelector("#why");
const idle = shown.innerHTML;
let texts = null;
let asked = 0;

async function ask() {
  const number = (asked += 1);
  try {
    const { html } = await hotrow.post("page/reasons", JSON.stringify({ texts }));
    if (number === asked) shown.innerHTML = html;
    hotrow.reachable(true);
  } catch {
    if (number === asked) shown.innerHTML = idle;
    hotrow.reachable(false);
  }
}

// The reasons of the case before are nobody's once there is another answer, or none.
function forget() {
  asked += 1;
  shown.innerHTML = idle;
}

document.addEventListener("answer", ({ detail: answer }) => {
  forget();
  if (!Object.keys(answer.texts).length) return;
  texts = answer.texts;
  ask();
});

document.addEventListener("cleared", forget);
