// What the scripts of the page share, and its language: the browser's, until the reader
// chooses another. Markup carries its French in data-fr and data-fr-<attribute> (text.py);
// this shows one language or the other, also in what is added later. Nothing is remembered.
window.hotrow = (() => {
  const ATTRIBUTES = ["aria-label", "placeholder", "title"];
  const MARKED = ["[data-fr]", ...ATTRIBUTES.map((name) => `[data-fr-${name}]`)].join();
  const LOCALES = { en: "en-GB", fr: "fr-FR" };
  const hotrow = {
    language: navigator.language?.toLowerCase().startsWith("fr") ? "fr" : "en",
    words: /*WORDS*/ {},
    say(key, values = {}) {
      const text = hotrow.words[key][hotrow.language === "fr" ? 1 : 0];
      return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
    },
    number: (value, options) => new Intl.NumberFormat(LOCALES[hotrow.language], options).format(value),
    // Thousands and decimals as the language writes them; `text` is canonical: 1234.5
    figures(text) {
      const [whole, part] = text.split(".");
      const [thousands, point] = hotrow.language === "fr" ? ["\u202f", ","] : [",", "."];
      const grouped = whole.replace(/\B(?=(\d{3})+$)/g, thousands);
      return part ? grouped + point + part : grouped;
    },
    async post(path, body, type = "application/json") {
      const answer = await fetch(path, { method: "POST", body, headers: { "Content-Type": type } });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      return answer.json();
    },
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
    reachable(is) {
      document.getElementById("cut")?.toggleAttribute("hidden", is);
    },
    choose(language) {
      if (language === hotrow.language) return;
      const before = hotrow.language;
      hotrow.language = language;
      show(document);
      document.dispatchEvent(new CustomEvent("language", { detail: { before, language } }));
    },
  };

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
    for (const node of root.querySelectorAll("[data-origin]")) node.textContent = location.origin;
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
