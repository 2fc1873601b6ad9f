// Behind the tab that ticks: Gradio's timer runs only while the tab is open and seen, so
// a closed one costs nothing.
let ticks = false;

watch("value", () => {
  element.querySelector(".shown").innerHTML = props.value;
  hotrow.reachable(true);
});

function tick() {
  const wanted = document.body.dataset.tab === "operations" && document.visibilityState === "visible";
  if (wanted === ticks) return;
  ticks = wanted;
  trigger(wanted ? "play" : "stop");
}

document.addEventListener("tab", tick);
document.addEventListener("visibilitychange", tick);
tick();
