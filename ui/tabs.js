// The tablist and the choice of language (tabs.py). The open tab stands in the
// address, so that it can be linked to and Back leads to the one before, and on the body,
// for the style sheet.
const tabs = [...element.querySelectorAll("[role=tab]")];
const languages = [...element.querySelectorAll("[data-language]")];

function open(name, { stepping = false } = {}) {
  const chosen = tabs.find((tab) => tab.dataset.panel === name) ?? tabs[0];
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", String(tab === chosen));
    tab.tabIndex = tab === chosen ? 0 : -1;
  }
  const before = document.body.dataset.tab;
  document.body.dataset.tab = chosen.dataset.panel;
  chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (before === chosen.dataset.panel) return;
  scrollTo({ top: 0 });
  // In full: a fragment alone would be of the base address, and lose the language.
  const address = `${location.pathname}${location.search}#${chosen.dataset.panel}`;
  if (!stepping) history[before ? "pushState" : "replaceState"](null, "", address);
  document.dispatchEvent(new CustomEvent("tab", { detail: chosen.dataset.panel }));
}

// Gradio's columns are no panels until they are told.
function name() {
  for (const tab of tabs) {
    const panel = document.getElementById(`panel-${tab.dataset.panel}`);
    if (!panel || panel.getAttribute("role")) continue;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
  }
}
new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
name();

element.addEventListener("click", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (tab) open(tab.dataset.panel);
  // Another model's page opens at the same tab, in the same language.
  const model = event.target.closest(".models a");
  if (model) [model.search, model.hash] = [location.search, location.hash];
  const language = event.target.closest("[data-language]");
  if (language) hotrow.choose(language.dataset.language);
});

element.addEventListener("keydown", (event) => {
  const at = tabs.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const tab = tabs[(to + tabs.length) % tabs.length];
  open(tab.dataset.panel);
  tab.focus();
});

function mark() {
  for (const button of languages) {
    button.setAttribute("aria-pressed", String(button.dataset.language === hotrow.language));
  }
}
document.addEventListener("language", mark);
// What was pressed to come here is gone from sight: the keyboard goes on from the tab.
document.addEventListener("open", ({ detail }) => {
  open(detail);
  element.querySelector("[aria-selected=true]").focus({ preventScroll: true });
});
for (const kind of ["popstate", "hashchange"]) addEventListener(kind, () => open(location.hash.slice(1), { stepping: true }));
addEventListener("offline", () => hotrow.reachable(false));
addEventListener("online", () => hotrow.reachable(true));
mark();
open(location.hash.slice(1));
