// Behind the verdict. Gradio runs this once with `element`, `props` and `watch`; props.value
// is an answer of the server (`Shown` in decide.py), at first that of an empty form.

const idle = props.value;
const shown = element.querySelector(".shown");
const show = () => (shown.innerHTML = props.value.html);

// Tells the form, once the answer is shown, and the tabs that ask about the case.
watch("value", () => {
  show();
  hotrow.reachable(true);
  document.dispatchEvent(new CustomEvent("answer", { detail: props.value }));
});

document.addEventListener("cleared", () => {
  props.value = idle;
  show();
});
show();

// Copying needs a page of https or of this machine; elsewhere the text is selected instead.
async function copy(button, text) {
  const block = button.closest(".block").querySelector("pre");
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = hotrow.say("copied");
  } catch {
    getSelection().selectAllChildren(block);
    button.textContent = hotrow.say("selected");
  }
  setTimeout(() => (button.textContent = button.dataset[hotrow.language] ?? button.dataset.en), 2000);
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  const text = (name) => element.querySelector(`[data-block=${name}]`).textContent;
  if (button?.classList.contains("copy")) {
    copy(button, button.closest(".block").querySelector("pre").textContent);
  } else if (button?.classList.contains("save")) {
    const whole = { request: JSON.parse(text("request")), answer: JSON.parse(text("answer")) };
    hotrow.save("decision.json", [JSON.stringify(whole, null, 2)], "application/json");
  }
});
