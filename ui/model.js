// Behind the tab of the model: the limit studio is loaded when the tab is opened, with the cases of the moment.
let scored = null;
document.addEventListener("scored", ({ detail }) => (scored = detail));

async function studio() {
  if (document.body.dataset.tab !== "model" || !document.querySelector(".studio")) return;
  try {
    const [module, told] = await Promise.all([import(new URL("page/scripts/studio.js", document.baseURI)), hotrow.post("page/studio", "{}")]);
    module.show(told, scored);
    hotrow.reachable(true);
  } catch {
    hotrow.reachable(false);
  }
}

// How the rows of the last 24 hours are spread, beside those of training.
async function spread() {
  if (document.body.dataset.tab !== "model") return;
  try {
    document.getElementById("reference").innerHTML = (await hotrow.post("page/reference", "{}")).html;
    hotrow.reachable(true);
  } catch {
    hotrow.reachable(false);
  }
}

for (const come of [studio, spread]) {
  document.addEventListener("tab", come);
  come();
}
