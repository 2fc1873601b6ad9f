// Behind the tab that ticks: the server is looked at only while the tab is open and seen, so
// a closed one costs nothing. A look that fails is said, and tried again: the page is never left.
const TICK_MS = 2000;
const shown = element.querySelector(".shown");
let timer = 0;

const isSeen = () => document.body.dataset.tab === "operations" && document.visibilityState === "visible";

async function look() {
  try {
    const { html } = await hotrow.post("page/operations", "{}");
    const opened = [...shown.querySelectorAll("details[open]")].map((part) => part.dataset.key);
    const held = document.activeElement?.closest?.("[data-key]")?.dataset.key;
    shown.innerHTML = html;
    for (const part of shown.querySelectorAll("[data-key]")) {
      part.open = opened.includes(part.dataset.key);
      if (held === part.dataset.key) part.querySelector("summary").focus({ preventScroll: true });
    }
    hotrow.reachable(true);
  } catch {
    hotrow.reachable(false);
  }
  timer = isSeen() ? setTimeout(look, TICK_MS) : 0;
}

function tick() {
  if (isSeen() && !timer) {
    timer = setTimeout(() => {}, 0);
    look();
  }
}

document.addEventListener("tab", tick);
document.addEventListener("visibilitychange", tick);
tick();
