// The live tail: lines as text, coloured as a terminal would, folded when long, their raw frame on demand.
import { parts, render } from "/ansi.js";

const MOST = 2000;
const LONG = 600;
const LEVELS = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
const count = (number) => number.toLocaleString("en");

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(className, text) {
  const made = element("button", className, text);
  made.type = "button";
  return made;
}

export class Tail {
  constructor(root, goOn) {
    this.list = root.querySelector("#lines");
    this.note = root.querySelector("#tail-note");
    this.empty = root.querySelector("#tail-empty");
    this.button = root.querySelector("#pause");
    this.labels = new Map();
    this.paused = false;
    this.missed = 0;
    this.skipped = 0;
    this.held = "";
    this.place = "";
    this.button.addEventListener("click", () => {
      this.pause(!this.paused);
      if (!this.paused) goOn(this.place);
    });
    this.list.addEventListener("click", (event) => {
      const target = event.target.closest("button");
      if (target?.className === "time") this.detail(target.parentElement);
      if (target?.className === "fold") this.fold(target.parentElement);
    });
  }

  pause(paused) {
    this.paused = paused;
    this.missed = 0;
    this.button.setAttribute("aria-pressed", String(paused));
    this.button.textContent = paused ? "Go on" : "Pause";
    this.tell();
  }

  // Another filter: what is there will go.
  anew() {
    this.place = "";
    if (this.paused) this.pause(false);
  }

  tell() {
    const words = [];
    if (this.paused) words.push(`Paused; ${count(this.missed)} more lines came.`);
    if (this.skipped) words.push(`${count(this.skipped)} lines were not shown: the gaps say where.`);
    this.note.textContent = [...words, this.held].join(" ");
  }

  hold({ held, most, bytes, most_bytes: mostBytes }) {
    const mb = (number) => count(Math.round(number / 1e6));
    const full = bytes > mostBytes * 0.97 ? "; that is full, lines are long" : "";
    this.held = `Held: ${count(held)} lines, ${mb(bytes)} MB (at most ${count(most)} lines and ${mb(mostBytes)} MB${full}).`;
    this.tell();
  }

  add({ lines, skipped, fresh, epoch }, place) {
    if (this.paused && !fresh) {
      this.missed += lines.length + skipped;
      return this.tell();
    }
    if (this.paused) this.pause(false); // the drain began anew: what is shown is of another one
    const isAtEnd = this.list.scrollTop + this.list.clientHeight > this.list.scrollHeight - 40;
    const rows = document.createDocumentFragment();
    if (fresh) {
      this.list.replaceChildren();
      this.skipped = 0;
    } else if (skipped) {
      this.skipped += skipped;
      rows.append(element("li", "gap", `${count(skipped)} lines between were not shown`));
    }
    this.place = place;
    for (const line of lines) rows.append(this.row(line, epoch));
    this.list.append(rows);
    for (let over = this.list.childElementCount - MOST; over > 0; over -= 1) this.list.firstElementChild.remove();
    this.empty.hidden = this.list.childElementCount > 0;
    if (isAtEnd || fresh) this.list.scrollTop = this.list.scrollHeight;
    this.tell();
  }

  row(line, epoch) {
    const { time, app, proc, token, pri, text } = line;
    const level = pri & 7;
    const row = element("li", level <= 4 ? "bad" : "");
    row.line = line;
    row.epoch = epoch;
    row.parts = parts(text);
    const stamp = button("time", time.slice(11, 23));
    stamp.title = `${time} – show the raw frame`;
    stamp.setAttribute("aria-expanded", "false");
    const from = element("span", "from", `${app}[${proc}]`);
    from.dataset.hue = [...proc].reduce((sum, c) => (sum * 31 + c.codePointAt(0)) % 6, 0);
    const drain = element("span", "drain", short(this.labels.get(token) ?? token));
    drain.title = token;
    const message = element("span", "message");
    row.append(stamp, element("span", "level", LEVELS[level]), from, drain, message);
    const length = row.parts.reduce((sum, { words }) => sum + words.length, 0);
    if (length > LONG) {
      row.append(button("fold", ""));
      row.length = length;
      this.fold(row);
    } else render(row.parts, message);
    return row;
  }

  fold(row) {
    const message = row.querySelector(".message");
    const fold = row.querySelector(".fold");
    const open = fold.ariaExpanded === "false";
    fold.ariaExpanded = String(open);
    fold.textContent = open ? "less" : `all ${count(row.length)} characters`;
    message.replaceChildren();
    render(row.parts, message, open ? Infinity : LONG);
    if (!open) message.append("…");
  }

  async detail(row) {
    const stamp = row.querySelector(".time");
    const shown = row.querySelector(".detail");
    stamp.ariaExpanded = String(!shown);
    if (shown) return shown.remove();
    const { n, at, time, app, proc, token, pri } = row.line;
    const box = element("div", "detail");
    const fields = element("dl", "");
    const lag = (at - Date.parse(time) * 1000) / 1000;
    for (const [name, value] of [
      ["Time", time],
      ["Lag", Number.isNaN(lag) ? "–" : `${count(Math.round(lag))} ms`],
      ["PRI", `${pri}: facility ${pri >> 3}, ${LEVELS[pri & 7]}`],
      ["Source", app],
      ["Dyno", proc],
      ["Drain", this.labels.get(token) ?? token],
    ]) {
      const field = element("div", "");
      field.append(element("dt", "", name), element("dd", "", value));
      fields.append(field);
    }
    const raw = element("pre", "raw", "…");
    box.append(fields, raw);
    row.append(box);
    const answer = await fetch(`/raw?line=${n}&epoch=${row.epoch}`).catch(() => null);
    // As JSON writes it: what is no character of its own can be seen.
    const text = answer?.ok ? JSON.stringify(await answer.text()).slice(1, -1).replaceAll('\\"', '"') : "";
    raw.textContent = text || (answer ? "This line is no longer held." : "No answer from the drain.");
  }
}

// `d.5f2c1b0e-… (platform)` as far as it tells drains apart.
function short(label) {
  return label.endsWith("(platform)") ? "platform" : label.slice(0, 10);
}
