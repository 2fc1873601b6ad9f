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

document.addEventListener("tab", studio);
studio();
