// What a person says of a decision (records/): beside its verdict, and where it was looked up.
Object.assign(hotrow.words, /*WORDS*/ {});

const ask = (path, asked) => hotrow.post(`page/${path}`, JSON.stringify({ ...asked, language: hotrow.language }));

// The form of a decision in a place; what was typed into one that was there stays.
export async function beside(place, of) {
  const typed = place.querySelector("form") ? [...new FormData(place.querySelector("form"))] : [];
  try {
    const answer = await ask("person", { of });
    place.innerHTML = answer.html ?? "";
    if (answer.problem) place.textContent = hotrow.problem(answer);
    hotrow.reachable(true);
  } catch {
    place.textContent = hotrow.say("not_written");
    hotrow.reachable(false);
  }
  const form = place.querySelector("form");
  if (!form) return;
  for (const [name, value] of typed) form.elements[name].value = value;
  form.onsubmit = async (event) => {
    event.preventDefault();
    if (!(await review(form))) return;
    form.reset();
    await beside(place, of);
  };
}

// Sends a form, and gives what was found then; says in the form what was not taken.
export async function review(form) {
  const problem = form.querySelector(".problem");
  problem.textContent = "";
  try {
    const answer = await ask("review", { of: form.dataset.of, ...Object.fromEntries(new FormData(form)) });
    hotrow.reachable(true);
    problem.textContent = hotrow.problem(answer);
    if (answer.problem) return null;
    hotrow.tell(hotrow.say("written"));
    return answer;
  } catch {
    hotrow.reachable(false);
    problem.textContent = hotrow.say("not_written");
    return null;
  }
}
