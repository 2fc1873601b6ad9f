// Behind the tab that ticks: Gradio's timer runs only while the tab is open and seen, so
// a closed one costs nothing.
let ticks = false;

watch("value", () => {
  element.querySelector(".shown").innerHTML = props.value;
  hotrow.reachable(true);
});

function tick() {
  const wanted = document.body.dataset.tab === "operations" && document.visibilityState === "visible" && navigator.onLine;
  if (wanted === ticks) return;
  ticks = wanted;
  trigger(wanted ? "play" : "stop");
}

document.addEventListener("tab", tick);
document.addEventListener("visibilitychange", tick);
// A tick that fails makes Gradio load the page anew, with an empty form.
addEventListener("offline", tick);
addEventListener("online", tick);
tick();
