// Behind the look-up of decisions. What was found is markup of the server's, in the language of
// the page; another language is asked for anew.
const root = element.querySelector(".look-up");
const number = root.querySelector("#look-up-number");
const results = root.querySelector(".results");
let shown = "";

function complain(words, place = root.querySelector(".problem")) {
  place.textContent = words ?? "";
}

async function ask(path, asked) {
  const answer = await hotrow.post(`page/${path}`, JSON.stringify({ ...asked, language: hotrow.language }));
  hotrow.reachable(true);
  return answer;
}

async function find() {
  complain();
  try {
    const answer = await ask("look-up", { number: number.value });
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
  const { of, ...given } = { of: form.closest("[data-id]").dataset.id, ...Object.fromEntries(new FormData(form)) };
  try {
    const answer = await ask("review", { of, ...given });
    if (answer.problem) return complain(hotrow.problem(answer), form.querySelector(".problem"));
    results.innerHTML = answer.html;
    number.value = shown = of;
    hotrow.tell(hotrow.say("written"));
  } catch {
    hotrow.reachable(false);
    complain(hotrow.say("not_sent"), form.querySelector(".problem"));
  }
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
