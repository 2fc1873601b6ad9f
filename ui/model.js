// Behind the tab of the model. It comes when it is first opened; each time it is, the limit studio gets the cases
// of the moment, and the reference the rows of the last 24 hours beside those of training.
const shown = element.querySelector(".shown");
let scored = null;
document.addEventListener("scored", ({ detail }) => (scored = detail));

async function studio() {
  if (!shown.querySelector(".studio")) return;
  const [module, told] = await Promise.all([import(new URL("page/scripts/studio.js", document.baseURI)), hotrow.post("page/studio", "{}")]);
  module.show(told, scored);
}

async function spread() {
  shown.querySelector("#reference").innerHTML = (await hotrow.post("page/reference", "{}")).html;
}

const come = hotrow.latest(async () => {
  if (document.body.dataset.tab !== "model") return;
  if (!shown.firstChild) shown.innerHTML = (await hotrow.post("page/model", "{}")).html;
  await Promise.all([studio(), spread()]);
});
document.addEventListener("tab", come);
document.addEventListener("reachable", () => shown.firstChild || come());
come();
