// The frame of the page: tabs, theme, the event stream, and panels that renew themselves.
// Data goes into the document as text only; fragments of HTML come from the server alone, which escapes them.
import { Tail } from "/tail.js";

const byId = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");
let tab = document.body.dataset.tab;
let source = null;
let tail = null;
let isLoading = false;

// Changes `old` into `fresh` where they differ, so that focus, selection and open details stay.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...(old.attributes ?? [])]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes ?? []) {
    if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
  }
  if (old.dataset?.keep !== undefined) return; // what it says is the script's
  const mine = [...old.childNodes];
  const theirs = [...fresh.childNodes];
  theirs.forEach((node, index) => (mine[index] ? morph(mine[index], node) : old.append(node)));
  mine.slice(theirs.length).forEach((node) => node.remove());
}

async function fragment(name) {
  const answer = await fetch(`/panels/${name}`);
  if (!answer.ok) throw new Error(`${answer.status}`);
  return new DOMParser().parseFromString(await answer.text(), "text/html").body;
}

async function renew() {
  if (isLoading || tail || document.hidden) return;
  isLoading = true;
  try {
    const wanted = tab;
    const fresh = await fragment(wanted);
    if (wanted === tab && !fresh.isEqualNode(byId("main"))) {
      const main = byId("main");
      const children = [...fresh.childNodes];
      if (main.children.length !== fresh.children.length) main.replaceChildren(...children);
      else [...main.children].forEach((child, index) => morph(child, fresh.children[index]));
    }
  } catch {
    // The stream tells that the drain is gone.
  } finally {
    isLoading = false;
  }
}

async function show(name, isNew) {
  const link = document.querySelector(`nav a[data-tab="${CSS.escape(name)}"]`);
  if (!link) return;
  tab = name;
  document.body.dataset.tab = name;
  document.title = `${link.textContent} · tailrace drain`;
  for (const other of document.querySelectorAll("nav a")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "page");
  if (isNew) history.pushState(null, "", link.href);
  tail?.close();
  tail = null;
  const fresh = await fragment(name);
  if (tab !== name) return;
  byId("main").replaceChildren(...fresh.childNodes);
  start();
}

function start() {
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  tail = tab === "tail" ? new Tail(byId("tail"), connect) : null;
  connect(tail?.query() ?? "");
}

// One stream for all: the tick for everyone, lines for the tail.
function connect(query) {
  source?.close();
  source = new EventSource(`/events?${query || (tail ? "" : "lines=off")}`);
  source.addEventListener("open", () => state("live", "Live"));
  source.addEventListener("error", () => state("gone", "No answer from the drain"));
  source.addEventListener("lines", (event) => tail?.add(JSON.parse(event.data)));
  source.addEventListener("model", (event) => {
    const tick = JSON.parse(event.data);
    byId("frames").textContent = count.format(tick.frames);
    byId("rate").textContent = count.format(Math.round(tick.rate));
    byId("held").textContent = count.format(tick.held);
    tail?.names(tick);
    renew();
  });
}

function state(name, words) {
  byId("status").dataset.state = name;
  byId("state").textContent = words;
}

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
theme(themes.find((name) => name === localStorage.getItem("theme")) ?? "system");

async function faults(specs) {
  const answer = await fetch("/faults", { method: "POST", body: specs.filter(Boolean).join("\n") });
  const problem = byId("fault-problem");
  if (problem) problem.textContent = answer.ok ? "" : await answer.text();
  await renew();
  return answer.ok;
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
addEventListener("popstate", () => show(new URLSearchParams(location.search).get("tab") ?? "overview", false));
document.addEventListener("visibilitychange", renew);

start();
