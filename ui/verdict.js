// Behind the verdict. Gradio runs this once with `element` and `props`; props.value is the
// markup of an empty form's.
const shown = element.querySelector(".shown");
// What is open of what can be handed on stays open at the next answer.
function show(html) {
  const open = shown.querySelector(".share")?.open;
  shown.innerHTML = html;
  order(shown.querySelector(".complaints"));
  if (open) shown.querySelector(".share")?.setAttribute("open", "");
}

// What is to correct stands in the order of the form, as it is gone through.
function order(list) {
  if (!list) return;
  const names = [...document.querySelectorAll("#form .field")].map((field) => field.dataset.feature);
  const place = (entry) => names.indexOf(entry.querySelector("a").dataset.field);
  list.append(...[...list.children].sort((a, b) => place(a) - place(b)));
}

// What could be changed costs the server many times a verdict, which waits for nothing.
const propose = hotrow.latest(async ({ place, texts }) => {
  const { html } = await hotrow.post("page/changes", JSON.stringify({ texts }));
  place.innerHTML = html;
});

document.addEventListener("answer", ({ detail: answer }) => {
  show(answer.html);
  const place = shown.querySelector(".changes");
  if (place) propose({ place, texts: answer.texts });
  hotrow.tell(() => [...shown.querySelectorAll(".head h2, .head .explanation")].map((node) => node.textContent.replace(/\.$/, "")).join(". "));
});
// What a person says of the decision, in its place.
async function person(button, renew = false) {
  const place = shown.querySelector(".person");
  const open = renew || !place.firstChild;
  button.setAttribute("aria-expanded", String(open));
  if (!open) return place.replaceChildren();
  const { beside } = await import(new URL("page/scripts/person.js", document.baseURI));
  await beside(place, button.dataset.id);
}
document.addEventListener("language", () => {
  const button = shown.querySelector(".say[aria-expanded=true]");
  if (button) person(button, true);
});
document.addEventListener("cleared", () => show(props.value));
show(props.value);

// Copying needs a page of https or of this machine; elsewhere the text is selected instead.
async function copy(button, text) {
  const block = button.closest(".block").querySelector("pre");
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = hotrow.say("copied");
    hotrow.tell(hotrow.say("copied"));
  } catch {
    getSelection().selectAllChildren(block);
    button.textContent = hotrow.say("selected");
  }
  setTimeout(() => (button.textContent = button.dataset[hotrow.language] ?? button.dataset.en), 2000);
}

element.addEventListener("click", (event) => {
  const paper = event.target.closest(".paper");
  if (paper) paper.href = `${paper.getAttribute("href").split("&")[0]}&language=${hotrow.language}`;
  const button = event.target.closest("button");
  const text = (name) => element.querySelector(`[data-block=${name}]`).textContent;
  if (button?.classList.contains("say")) {
    person(button);
  } else if (button?.classList.contains("try")) {
    document.dispatchEvent(new CustomEvent("open", { detail: "what-if" }));
    document.dispatchEvent(new CustomEvent("try", { detail: JSON.parse(button.dataset.changes) }));
  } else if (button?.classList.contains("copy")) {
    copy(button, button.closest(".block").querySelector("pre").textContent);
  } else if (button?.classList.contains("save")) {
    const whole = { request: JSON.parse(text("request")), answer: JSON.parse(text("answer")) };
    hotrow.save("decision.json", [JSON.stringify(whole, null, 2)], "application/json");
  }
});
