// Behind the look-up of decisions. What was found is markup of the server's, in the language of
// the page; another language is asked for anew.
const root = element.querySelector(".look-up");
const number = root.querySelector("#look-up-number");
const results = root.querySelector(".results");
let shown = "";

function complain(words) {
  root.querySelector(".problem").textContent = words ?? "";
}

async function find() {
  complain();
  try {
    const answer = await hotrow.post("page/look-up", JSON.stringify({ number: number.value, language: hotrow.language }));
    hotrow.reachable(true);
    if (answer.problem) return complain(hotrow.problem(answer));
    results.innerHTML = answer.html;
    shown = number.value;
    hotrow.tell(results.querySelector(".replay, .empty").textContent.trim());
  } catch {
    hotrow.reachable(false);
    complain(hotrow.say("not_sent"));
  }
}

async function review(form) {
  const { review } = await import(new URL("page/scripts/person.js", document.baseURI));
  const answer = await review(form);
  if (!answer) return;
  results.innerHTML = answer.html;
  number.value = shown = form.dataset.of;
}

root.addEventListener("submit", (event) => {
  event.preventDefault();
  event.target.classList.contains("review") ? review(event.target) : find();
});
document.addEventListener("language", () => shown && find());
// Another part of the page shows a decision here.
document.addEventListener("look-up", ({ detail }) => {
  number.value = detail;
  document.dispatchEvent(new CustomEvent("open", { detail: "look-up" }));
  find();
});
