// The frame of the page: tabs, theme, filter, the event stream, and panels that renew themselves.
// Data goes into the document as text only; fragments of HTML come from the server alone, which escapes them.
import { morphChildren } from "/morph.js";
import { Tail } from "/tail.js";

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");
const main = byId("main");
const form = byId("filter");
let tab = document.body.dataset.tab;
let shownTab = tab; // what `main` holds
let source = null;
let isLoading = false;
let isWaiting = false;

const tail = new Tail(byId("tail"), (place) => connect(place));

// The fields of the filter that say something.
function filled(names = ["app", "proc", "token", "search", "level"]) {
  return names.map((name) => [name, form.elements[name].value]).filter(([, value]) => value !== "");
}
const address = () => `/?${new URLSearchParams([["tab", tab], ...filled()])}`;

async function fragment(name) {
  const unfolded = [...main.querySelectorAll("details[open]")].map((details) => details.id).filter(Boolean);
  const query = new URLSearchParams([...filled(["app", "proc", "token"]), ["unfolded", unfolded.join(",")]]);
  const answer = await fetch(`/panels/${name}?${query}`);
  if (!answer.ok) throw new Error(`${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html").body;
}

// Brings `main` up to date; what fails is tried again with the next tick, or when the drain answers again.
async function renew() {
  if (document.hidden || (tab === "tail" && shownTab === "tail")) return;
  if (isLoading) {
    isWaiting = true;
    return;
  }
  isLoading = true;
  const wanted = tab;
  try {
    const fresh = await fragment(wanted);
    if (wanted === tab) {
      if (shownTab === wanted) morphChildren(main, fresh);
      else main.replaceChildren(...fresh.childNodes);
      shownTab = wanted;
    }
  } catch {
    if (wanted === tab && shownTab !== wanted) {
      const words = document.createElement("p");
      words.className = "empty";
      words.textContent = "The drain does not answer. This tab appears when it does.";
      main.replaceChildren(words);
      shownTab = "";
    }
  } finally {
    isLoading = false;
  }
  if (isWaiting || wanted !== tab) {
    isWaiting = false;
    await renew();
  }
}

function show(name, isNew) {
  const link = document.querySelector(`nav a[data-tab="${CSS.escape(name)}"]`);
  if (!link) return;
  const hadLines = wantsLines();
  tab = name;
  document.body.dataset.tab = name;
  document.title = `${link.textContent} · tailrace drain`;
  for (const other of document.querySelectorAll("nav a")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "page");
  link.scrollIntoView({ block: "nearest", inline: "center" });
  if (isNew) history.pushState(null, "", address());
  if (wantsLines() !== hadLines) connect(tail.place);
  renew();
}

// The lines are wanted where they can be seen.
const wantsLines = () => tab === "tail" || byId("tail").dataset.open === "true";

// One stream for all: the tick for everyone, lines for the tail. From `place` on, when it is known.
function connect(place = "") {
  source?.close();
  source = null;
  if (document.hidden) return;
  const query = new URLSearchParams(wantsLines() ? [...filled(), ["from", place]] : [["lines", "off"]]);
  source = new EventSource(`/events?${query}`);
  source.addEventListener("open", () => {
    state("live", "Live");
    renew();
  });
  source.addEventListener("error", ({ target }) => {
    state("gone", "No answer from the drain");
    // Most of the time the browser tries again by itself.
    if (target === source && source.readyState === EventSource.CLOSED) setTimeout(() => connect(tail.place), 2000);
  });
  source.addEventListener("lines", (event) => tail.add(JSON.parse(event.data), event.lastEventId));
  source.addEventListener("names", (event) => names(JSON.parse(event.data)));
  source.addEventListener("model", (event) => {
    const tick = JSON.parse(event.data);
    byId("frames").textContent = count.format(tick.frames);
    byId("rate").textContent = count.format(Math.round(tick.rate));
    byId("held").textContent = count.format(tick.held);
    tail.hold(tick);
    renew();
  });
}

function state(name, words) {
  byId("status").dataset.state = name;
  byId("state").textContent = words;
}

// What can be chosen: [value, label] of each field.
function names(all) {
  tail.labels = new Map(all.token);
  for (const [name, values] of Object.entries(all)) {
    for (const [value, label] of values) option(form.elements[name], value, label);
  }
}

function option(select, value, label) {
  const known = [...select.options].find((other) => other.value === value);
  if (known) known.textContent = label;
  else select.add(new Option(label, value));
}

// Fills the filter from the address.
function read() {
  const parameters = new URLSearchParams(location.search);
  for (const name of ["app", "proc", "token", "search", "level"]) {
    const field = form.elements[name];
    const value = parameters.get(name) ?? "";
    if (value && field.tagName === "SELECT" && ![...field.options].some((other) => other.value === value)) {
      option(field, value, value);
    }
    field.value = value;
  }
  byId("no-filter").hidden = !filled().length;
}

let typing = 0;
function filter(isOfPanels) {
  clearTimeout(typing);
  byId("no-filter").hidden = !filled().length;
  history.replaceState(null, "", address());
  tail.anew();
  if (wantsLines()) connect();
  if (isOfPanels) renew();
}
addEventListener("input", ({ target }) => {
  if (target.form !== form) return;
  clearTimeout(typing);
  typing = setTimeout(() => filter(["app", "proc", "token"].includes(target.name)), 150);
});
byId("no-filter").addEventListener("click", () => {
  for (const [name] of filled()) form.elements[name].value = "";
  filter(true);
});

// The tail at the foot of the other tabs.
function openTail(open) {
  byId("tail").dataset.open = String(open);
  byId("tail-toggle").ariaExpanded = String(open);
  localStorage.setItem("tail", open ? "open" : "");
}
byId("tail-toggle").addEventListener("click", () => {
  openTail(byId("tail").dataset.open !== "true");
  tail.anew();
  connect();
});

// Theme: as the system says, or as chosen here.
const themes = ["system", "light", "dark"];
function theme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme").textContent = `Theme: ${name}`;
  localStorage.setItem("theme", name);
}
byId("theme").addEventListener("click", () => {
  theme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]);
});

async function faults(specs) {
  const answer = await fetch("/faults", { method: "POST", body: specs.filter(Boolean).join("\n") }).catch(() => null);
  const problem = byId("fault-problem");
  if (problem) problem.textContent = answer?.ok ? "" : ((await answer?.text()) ?? "The drain does not answer.");
  await renew();
  return answer?.ok;
}
const inForce = () => (byId("faults")?.dataset.specs ?? "").split("\n").filter(Boolean);

document.addEventListener("click", (event) => {
  const target = event.target.closest("a[data-tab], button[data-fault], button[data-fault-clear]");
  if (!target || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (target.matches("a")) {
    event.preventDefault();
    show(target.dataset.tab, true);
  } else if (target.dataset.fault) {
    const { fault } = target.dataset;
    const specs = inForce();
    faults(specs.includes(fault) ? specs.filter((spec) => spec !== fault) : [...specs, fault]);
  } else faults([]);
});
document.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (event.target.id !== "fault-form") return;
  const input = event.target.elements.spec;
  if (await faults([...inForce(), input.value])) input.value = "";
});
// What is unfolded is fetched; `toggle` does not bubble.
main.addEventListener("toggle", ({ target }) => target.open && renew(), true);
addEventListener("popstate", () => {
  read();
  show(new URLSearchParams(location.search).get("tab") ?? "overview", false);
  filter(true);
});
// A browser has six connections to a host for all its tabs: those that nobody sees do without.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    source = null;
    state("away", "Not live while it is in the background");
  } else {
    connect(tail.place);
  }
});

theme(themes.find((name) => name === localStorage.getItem("theme")) ?? "system");
openTail(localStorage.getItem("tail") === "open");
read();
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
connect();
