// Behind the verdict. Gradio runs this once with `props` and `watch`; props.value
// is an answer of the server (`Shown` in decide.py), at first that of an empty form.

const idle = props.value;

// Tells the form, once the answer is shown.
watch("value", () => document.dispatchEvent(new CustomEvent("answer", { detail: props.value })));

document.addEventListener("cleared", () => {
  props.value = idle;
});
