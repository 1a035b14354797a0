// The page: tabs, theme, filter, the event stream, and the panels, which are refreshed with every tick.
// Data enters the document as text only; HTML fragments come only from the server, which escapes them.
import { morphChildren } from "/morph.js";
import { Tail } from "/tail.js";

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");
const main = byId("main");
const form = byId("filter");
let tab = document.body.dataset.tab;
let renderedTab; // the tab whose panels are in `main`
let source = null;
let isLoading = false;
let isRefreshPending = false;

const tail = new Tail(byId("tail"), (position) => connect(position));

// `main` says of which tab its panels are: those of the tab before stay until the others have come.
function setRenderedTab(name) {
  renderedTab = name;
  main.dataset.tab = name;
}
setRenderedTab(tab);

// The filter fields that have a value: [name, value].
function activeFilters(names = ["app", "proc", "token", "search", "level"]) {
  return names.map((name) => [name, form.elements[name].value]).filter(([, value]) => value !== "");
}
const pageUrl = () => `/?${new URLSearchParams([["tab", tab], ...activeFilters()])}`;

async function fetchPanels(name) {
  const unfolded = [...main.querySelectorAll("details[open]")].map((details) => details.id).filter(Boolean);
  const query = new URLSearchParams([...activeFilters(["app", "proc", "token"]), ["unfolded", unfolded.join(",")]]);
  const response = await fetch(`/panels/${name}?${query}`);
  if (!response.ok) throw new Error(`${response.status}`);
  return new DOMParser().parseFromString(await response.text(), "text/html").body;
}

// Refreshes the panels. After a failure the next tick, or the next open event of the stream, tries again.
async function refresh() {
  if (document.hidden || (tab === "tail" && renderedTab === "tail")) return;
  if (isLoading) {
    isRefreshPending = true;
    return;
  }
  isLoading = true;
  const requested = tab;
  try {
    const panels = await fetchPanels(requested);
    if (requested === tab) {
      if (renderedTab === requested) morphChildren(main, panels);
      else main.replaceChildren(...panels.childNodes);
      setRenderedTab(requested);
    }
  } catch {
    if (requested === tab && renderedTab !== requested) {
      const message = document.createElement("p");
      message.className = "empty";
      message.textContent = "The drain does not answer. This tab appears when it does.";
      main.replaceChildren(message);
      setRenderedTab("");
    }
  } finally {
    isLoading = false;
  }
  if (isRefreshPending || requested !== tab) {
    isRefreshPending = false;
    await refresh();
  }
}

// Shows a tab. `isNewEntry`: it becomes a new entry of the browser history.
function showTab(name, { isNewEntry }) {
  const link = document.querySelector(`nav a[data-tab="${CSS.escape(name)}"]`);
  if (!link) return;
  const wasTailVisible = isTailVisible();
  tab = name;
  document.body.dataset.tab = name;
  document.title = `${link.textContent} · tailrace drain`;
  for (const other of document.querySelectorAll("nav a")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "page");
  link.scrollIntoView({ block: "nearest", inline: "center" });
  if (isNewEntry) history.pushState(null, "", pageUrl());
  if (isTailVisible() !== wasTailVisible) connect(tail.position);
  refresh();
}

// Lines are requested only while the tail is visible.
const isTailVisible = () => tab === "tail" || byId("tail").dataset.open === "true";

// Opens the event stream: ticks always, lines only for a visible tail, after `position` if it is known.
function connect(position = "") {
  source?.close();
  source = null;
  if (document.hidden) return;
  const query = new URLSearchParams(isTailVisible() ? [...activeFilters(), ["from", position]] : [["lines", "off"]]);
  source = new EventSource(`/events?${query}`);
  source.addEventListener("open", () => {
    setConnectionState("live", "Live");
    refresh();
  });
  source.addEventListener("error", ({ target }) => {
    setConnectionState("gone", "No response from the drain");
    // The browser reconnects by itself, except after a fatal error, which closes the source (HTML standard).
    if (target === source && source.readyState === EventSource.CLOSED) setTimeout(() => connect(tail.position), 2000);
  });
  source.addEventListener("lines", (event) => tail.add(JSON.parse(event.data), event.lastEventId));
  source.addEventListener("names", (event) => updateFilterOptions(JSON.parse(event.data)));
  source.addEventListener("model", (event) => {
    const tick = JSON.parse(event.data);
    byId("frames").textContent = count.format(tick.frames);
    byId("rate").textContent = count.format(Math.round(tick.rate));
    byId("held").textContent = count.format(tick.held);
    tail.setHeld(tick);
    refresh();
  });
}

function setConnectionState(name, text) {
  byId("status").dataset.state = name;
  byId("state").textContent = text;
}

// Adds the options of the filter fields: [value, label] by field.
function updateFilterOptions(all) {
  tail.labels = new Map(all.token);
  for (const [name, values] of Object.entries(all)) {
    for (const [value, label] of values) setOption(form.elements[name], value, label);
  }
}

function setOption(select, value, label) {
  const known = [...select.options].find((other) => other.value === value);
  if (known) known.textContent = label;
  else select.add(new Option(label, value));
}

// Fills the filter from the URL.
function readFilterFromUrl() {
  const parameters = new URLSearchParams(location.search);
  for (const name of ["app", "proc", "token", "search", "level"]) {
    const field = form.elements[name];
    const value = parameters.get(name) ?? "";
    if (value && field.tagName === "SELECT" && ![...field.options].some((other) => other.value === value)) {
      setOption(field, value, value);
    }
    field.value = value;
  }
  byId("no-filter").hidden = !activeFilters().length;
}

let inputTimer = 0;
// Applies the filter to the tail and, if `panels` is set, to the panels.
function applyFilter({ panels }) {
  clearTimeout(inputTimer);
  byId("no-filter").hidden = !activeFilters().length;
  history.replaceState(null, "", pageUrl());
  tail.reset();
  if (isTailVisible()) connect();
  if (panels) refresh();
}
addEventListener("input", ({ target }) => {
  if (target.form !== form) return;
  clearTimeout(inputTimer);
  inputTimer = setTimeout(() => applyFilter({ panels: ["app", "proc", "token"].includes(target.name) }), 150);
});
byId("no-filter").addEventListener("click", () => {
  for (const [name] of activeFilters()) form.elements[name].value = "";
  applyFilter({ panels: true });
});

// Opens or closes the tail at the bottom of the other tabs.
function setTailOpen(isOpen) {
  byId("tail").dataset.open = String(isOpen);
  byId("tail-toggle").ariaExpanded = String(isOpen);
  localStorage.setItem("tail", isOpen ? "open" : "");
}
byId("tail-toggle").addEventListener("click", () => {
  setTailOpen(byId("tail").dataset.open !== "true");
  tail.reset();
  connect();
});

// Theme: the system's, or the one chosen here.
const themes = ["system", "light", "dark"];
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
  localStorage.setItem("theme", name);
}
byId("theme").addEventListener("click", () => {
  setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]);
});

async function setFaults(specs) {
  const response = await fetch("/faults", { method: "POST", body: specs.filter(Boolean).join("\n") }).catch(() => null);
  const problem = byId("fault-problem");
  if (problem) problem.textContent = response?.ok ? "" : ((await response?.text()) ?? "The drain does not answer.");
  await refresh();
  return response?.ok;
}
const activeFaults = () => (byId("faults")?.dataset.specs ?? "").split("\n").filter(Boolean);

document.addEventListener("click", (event) => {
  const target = event.target.closest("a[data-tab], button[data-fault], button[data-fault-clear]");
  if (!target || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (target.matches("a")) {
    event.preventDefault();
    showTab(target.dataset.tab, { isNewEntry: true });
  } else if (target.dataset.fault) {
    const { fault } = target.dataset;
    const specs = activeFaults();
    setFaults(specs.includes(fault) ? specs.filter((spec) => spec !== fault) : [...specs, fault]);
  } else setFaults([]);
});
document.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (event.target.id !== "fault-form") return;
  const input = event.target.elements.spec;
  if (await setFaults([...activeFaults(), input.value])) input.value = "";
});
// The content of a <details> is fetched when it is opened. `toggle` does not bubble, hence the capture phase.
main.addEventListener("toggle", ({ target }) => target.open && refresh(), true);
addEventListener("popstate", () => {
  readFilterFromUrl();
  showTab(new URLSearchParams(location.search).get("tab") ?? "overview", { isNewEntry: false });
  applyFilter({ panels: true });
});
// A browser opens at most six HTTP/1.1 connections to a host, over all tabs: hidden tabs close theirs.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    source = null;
    setConnectionState("hidden", "Not live in a background tab");
  } else {
    connect(tail.position);
  }
});

setTheme(themes.find((name) => name === localStorage.getItem("theme")) ?? "system");
setTailOpen(localStorage.getItem("tail") === "open");
readFilterFromUrl();
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
connect();
