// The keyboard, the reader's own time zone, and what comes after an action. The pages work by
// themselves; this makes them quick.
"use strict";
(() => {
  const find = (selector) => document.querySelector(selector);
  const rows = () => [...document.querySelectorAll(".row")];
  const openKey = () => find("#thread [data-key]")?.dataset.key;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      if (!time.dateTime.includes("T")) continue; // a day is the same everywhere
      const when = new Date(time.dateTime);
      if (Number.isNaN(when.getTime())) continue;
      time.title = whole.format(when);
      if (time.textContent.length > 9) time.textContent = whole.format(when);
    }
  }

  function markOpen() {
    const key = openKey();
    for (const row of rows()) {
      const link = row.querySelector("a");
      if (row.dataset.key === key) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    document.body.classList.toggle("reading", Boolean(key));
  }

  let chosen = null; // where j and k are, when nothing is open there
  function place() {
    const all = rows();
    const key = chosen ?? openKey();
    return [all, all.findIndex((row) => row.dataset.key === key)];
  }
  function open(row) {
    if (!row) return;
    chosen = row.dataset.key;
    const link = row.querySelector("a");
    link.scrollIntoView({ block: "nearest" });
    link.focus({ preventScroll: true });
    link.click();
  }
  function step(by) {
    const [all, at] = place();
    open(all[Math.min(all.length - 1, Math.max(0, at + by))]);
  }

  let next = null; // which row is opened after what was acted upon has left the list
  document.body.addEventListener("go-on", () => {
    const [all, at] = place();
    next = (all[at + 1] ?? all[at - 1])?.dataset.key ?? "";
  });
  document.body.addEventListener("open-again", () => {
    const article = find("#thread [data-ask]");
    if (article) htmx.ajax("GET", "/inbox/conversation" + article.dataset.ask, { target: "#thread" });
  });

  document.body.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-Time-Zone"] = zone;
  });
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    // What went wrong is a toast, wherever the answer was to stand.
    if (event.detail.xhr.status >= 400) {
      event.detail.target = find("#toasts");
      event.detail.swapOverride = "afterbegin";
    }
    // News must not take away what somebody has chosen.
    if (event.detail.target?.id === "rows") {
      kept = rows().filter((row) => row.querySelector("input:checked")).map((row) => row.dataset.key);
    }
  });
  let kept = [];
  document.body.addEventListener("htmx:afterSettle", (event) => {
    localTimes(event.target);
    if (event.target.id === "rows") {
      for (const row of rows()) {
        const box = row.querySelector("input");
        if (box && kept.includes(row.dataset.key)) box.checked = true;
      }
      if (next !== null) {
        const row = rows().find((one) => one.dataset.key === next) ?? rows()[0];
        next = null;
        if (row) open(row);
        else find("#thread").replaceChildren();
      }
    }
    if (event.target.id === "thread") chosen = null;
    markOpen();
  });
  document.body.addEventListener("htmx:sendError", () => say("No connection: try again."));

  function say(words) {
    const toast = document.createElement("div");
    toast.className = "toast error";
    toast.textContent = words;
    find("#toasts").prepend(toast);
  }

  // A toast stays for as long as an approval can be taken back by default, and while it is in use.
  new MutationObserver((changes) => {
    for (const change of changes) {
      for (const toast of change.addedNodes) {
        if (toast.nodeType !== 1) continue;
        const go = () => (toast.matches(":hover, :focus-within") ? setTimeout(go, 3000) : toast.remove());
        setTimeout(go, 12000);
      }
    }
  }).observe(find("#toasts"), { childList: true });

  const press = (key) => {
    const button = find(`#thread [data-key-of="${key}"]`);
    button?.click();
    if (button?.tagName === "SUMMARY") button.parentElement.querySelector("div input, div button")?.focus();
  };
  const keys = {
    j: () => step(1),
    k: () => step(-1),
    e: () => find("#text")?.focus(),
    a: () => press("a"),
    r: () => press("r"),
    d: () => press("d"),
    c: () => press("c"),
    n: () => press("n"),
    s: () => press("s"),
    u: () => find("#toasts .undo")?.click(),
    x: () => {
      const [all, at] = place();
      all[at]?.querySelector("input")?.click();
    },
    "/": () => find("#q")?.focus(),
    "?": () => find("#help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input:not([type=checkbox]), textarea, select");
    if (event.key === "Escape") {
      event.target.closest("details[open]")?.removeAttribute("open");
      if (field) field.blur();
      return;
    }
    if (field && event.key === "Enter" && (event.ctrlKey || event.metaKey) && field.id === "text") {
      press("a");
      return;
    }
    if (field || event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
    const act = keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
  find("#show-help")?.addEventListener("click", keys["?"]);
  window.addEventListener("popstate", () => location.reload());
  localTimes(document);
  markOpen();
})();
