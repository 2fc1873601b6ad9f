// What the scripts of the page share, and its language: that of the address (?language=fr), else
// the browser's, until the reader chooses another. Markup carries its French in data-fr and
// data-fr-<attribute> (text.py); this shows one language or the other, also in what is added later.
window.hotrow = (() => {
  const ATTRIBUTES = ["aria-label", "placeholder", "title"];
  const MARKED = ["[data-fr]", ...ATTRIBUTES.map((name) => `[data-fr-${name}]`)].join();
  const LOCALES = { en: "en-GB", fr: "fr-FR" };
  // Thousands set apart, by the grammar of parse_number in values.py. In French a comma is
  // always a decimal one, so what is sent has none: `canonical`.
  const GROUPED = /^([+-]?[1-9]\d{0,2}([,'’\s])\d{3}(?:\2\d{3})*)((?:\.\d+)?)$/;
  const FRENCH = /^([+-]?[1-9]\d{0,2}(['’\s])\d{3}(?:\2\d{3})*)((?:[.,]\d+)?)$/;
  const PLAIN = /^([+-]?\d+)(?:[.,](\d*))?$/;
  const CURRENCIES = ["€", "$", "£", "¥"];
  const SCALES = { k: 3, K: 3, M: 6 };
  // {count}, and {count:row|rows} for the word that goes with a number, as in Text.put of text.py.
  const PLACE = /\{(\w+)(?::([^|{}]*)\|([^{}]*))?\}/g;
  const asked = new URLSearchParams(location.search).get("language");
  const preferred = navigator.language?.toLowerCase().startsWith("fr") ? "fr" : "en";
  const hotrow = {
    language: asked in LOCALES ? asked : preferred,
    words: /*WORDS*/ {},
    say(key, values = {}) {
      const text = hotrow.words[key][hotrow.language === "fr" ? 1 : 0];
      return text.replace(PLACE, (_, name, one, more) => (one === undefined ? values[name] : isOne(values[name]) ? one : more));
    },
    // Several sayings as one, as `joined` of text.py has it.
    list: (sayings) => sayings.join(hotrow.language === "fr" ? "\u00a0; " : "; "),
    number: (value, options) => new Intl.NumberFormat(LOCALES[hotrow.language], options).format(value),
    // Thousands and decimals as the language writes them; `text` is canonical: 1234.5
    figures(text) {
      const [whole, part] = text.split(".");
      const [thousands, point] = hotrow.language === "fr" ? ["\u202f", ","] : [",", "."];
      const grouped = whole.replace(/\B(?=(\d{3})+$)/g, thousands);
      return part ? grouped + point + part : grouped;
    },
    parts(text, language = hotrow.language) {
      const typed = text.trim().replace("\u2212", "-");
      const grouped = typed.match(language === "fr" ? FRENCH : GROUPED);
      return grouped ? [grouped[1].replace(/[,'’\s]/g, ""), grouped[3].slice(1)] : typed.match(PLAIN)?.slice(1);
    },
    canonical(text, language = hotrow.language) {
      const found = hotrow.parts(text, language);
      return found ? (found[1] ? `${found[0]}.${found[1]}` : found[0]) : text.trim().replace("\u2212", "-");
    },
    // A text that is no number stays as it is, for the server to judge.
    tidy: (text) => (hotrow.parts(text) ? hotrow.figures(hotrow.canonical(text)) : hotrow.canonical(text)),
    // "200 000 €", "200k" and "12 %" as figures alone: the units are the field's own, and a percentage
    // is read where `data-percent` says how many places its point moves.
    bare(text, field, language = hotrow.language) {
      if (hotrow.parts(text, language)) return text;
      let left = text.trim();
      for (const unit of [...JSON.parse(field.dataset.units ?? "[]"), ...CURRENCIES]) {
        if (left.toLowerCase().endsWith(unit.toLowerCase())) left = left.slice(0, -unit.length).trim();
        else if (CURRENCIES.includes(unit) && left.startsWith(unit)) left = left.slice(unit.length).trim();
      }
      let places = SCALES[left.at(-1)];
      if (left.endsWith("%") && field.dataset.percent) places = Number(field.dataset.percent);
      const found = hotrow.parts(places === undefined ? left : left.slice(0, -1), language);
      return found ? shifted(found, places ?? 0) : text;
    },
    // Paths are relative to the page's own address, whatever prefix a proxy has put before it.
    async post(path, body, type = "application/json") {
      const answer = await fetch(path, { method: "POST", body, headers: { "Content-Type": type } });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      return answer.json();
    },
    // A text by the name of its feature, which may be that of something every object has ("constructor").
    of: (texts, name) => (Object.hasOwn(texts, name) ? texts[name] : ""),
    // What the server says that it did not take, "" of an answer without such words.
    problem: (answer) => (hotrow.language === "fr" && answer.french) || answer.problem || "",
    // Sends what it is given one at a time; of what comes meanwhile only the last is sent.
    latest(send) {
      let busy = false;
      let next;
      return async (value) => {
        next = { value };
        if (busy) return;
        busy = true;
        while (next) {
          const { value: newest } = next;
          next = undefined;
          try {
            await send(newest);
            hotrow.reachable(true);
          } catch {
            hotrow.reachable(false);
          }
        }
        busy = false;
      };
    },
    // A file made here, of this page alone: nothing is left on the server.
    save(name, parts, type) {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(parts, { type }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    },
    reachable(answered) {
      const is = answered && navigator.onLine; // an answer may still come that was on its way
      document.getElementById("cut")?.toggleAttribute("hidden", is);
      if (is && waiting) document.dispatchEvent(new Event("reachable"));
      if (is) clearInterval(waiting);
      else if (!waiting) waiting = setInterval(look, 3000);
      if (is) waiting = 0;
    },
    // What a screen reader says: one element that is always there and empty until something is told,
    // as a live region that comes with its content is not announced.
    tell(words) {
      const spoken = document.getElementById("spoken");
      if (!spoken) return;
      spoken.textContent = "";
      // What is read off markup that has just come is read once it is in the reader's language.
      requestAnimationFrame(() => (spoken.textContent = typeof words === "function" ? words() : words));
    },
    choose(language) {
      if (language === hotrow.language) return;
      const before = hotrow.language;
      hotrow.language = language;
      const address = new URL(location.href);
      address.searchParams.set("language", language);
      history.replaceState(history.state, "", address);
      show(document);
      document.dispatchEvent(new CustomEvent("language", { detail: { before, language } }));
    },
  };

  // Whether a number as it is written is followed by the singular: in French by whatever is less than 2.
  const isOne = (written) => (hotrow.language === "fr" ? /^[01](,|$)/.test(written) : `${written}` === "1");

  // The digits as they are, the point moved: 12 by -2 is 0.12, with no rounding of a float.
  function shifted([whole, part = ""], places) {
    const sign = /^[+-]/.test(whole) ? whole[0] : "";
    const digits = whole.slice(sign.length).padStart(Math.max(0, -places) + 1, "0") + (part ?? "").padEnd(Math.max(0, places), "0");
    const at = Math.max(whole.length - sign.length, Math.max(0, -places) + 1) + places;
    const rest = digits.slice(at).replace(/0+$/, "");
    const front = digits.slice(0, at).replace(/^0+(?=\d)/, "");
    return `${sign}${front}${rest ? `.${rest}` : ""}`;
  }

  function translate(node) {
    const french = hotrow.language === "fr";
    if (node.dataset.fr !== undefined) {
      node.dataset.en ??= node.textContent;
      const text = french ? node.dataset.fr : node.dataset.en;
      if (node.textContent !== text) node.textContent = text;
    }
    for (const name of ATTRIBUTES) {
      if (!node.hasAttribute(`data-fr-${name}`)) continue;
      if (!node.hasAttribute(`data-en-${name}`)) node.setAttribute(`data-en-${name}`, node.getAttribute(name));
      node.setAttribute(name, node.getAttribute(`data-${french ? "fr" : "en"}-${name}`));
    }
  }

  function show(root) {
    document.documentElement.lang = hotrow.language;
    for (const node of root.querySelectorAll(MARKED)) translate(node);
    const here = new URL(".", document.baseURI).href.replace(/\/(page\/of\/[^/]+\/[^/]+\/)?$/, "");
    for (const node of root.querySelectorAll("[data-origin]")) node.textContent = here;
    const title = document.querySelector("#header h1")?.textContent;
    if (title && document.title !== `${title} · Hotrow`) document.title = `${title} · Hotrow`;
  }

  // Whether a lost connection is back.
  let waiting = 0;
  async function look() {
    try {
      if ((await fetch("livez")).ok) hotrow.reachable(true);
    } catch {
      // It is not: the next look will tell.
    }
  }

  // Gradio writes markup whenever it likes; what is added is in the reader's language before it is painted.
  new MutationObserver((changes) => {
    for (const { target, addedNodes } of changes) {
      if (![...addedNodes].some((node) => node.nodeType === 1)) continue;
      show(target);
    }
  }).observe(document.documentElement, { childList: true, subtree: true });
  document.documentElement.lang = hotrow.language;
  return hotrow;
})();
