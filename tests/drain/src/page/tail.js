// The live tail: lines as text with ANSI colours; long lines are folded; the raw frame on demand.
import { parse, render } from "/ansi.js";

const MAX_ROWS = 2000;
// Longer messages are folded to this number of characters.
const FOLD_LENGTH = 600;
const LEVELS = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
const count = (number) => number.toLocaleString("en");

function element(name, className, text) {
  const node = document.createElement(name);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(className, text) {
  const node = element("button", className, text);
  node.type = "button";
  return node;
}

export class Tail {
  // `onResume` gets the position of the last line that is shown.
  constructor(root, onResume) {
    this.list = root.querySelector("#lines");
    this.note = root.querySelector("#tail-note");
    this.empty = root.querySelector("#tail-empty");
    this.button = root.querySelector("#pause");
    this.labels = new Map();
    this.isPaused = false;
    this.missedLines = 0;
    this.skippedLines = 0;
    this.heldText = "";
    this.position = "";
    this.button.addEventListener("click", () => {
      this.setPaused(!this.isPaused);
      if (!this.isPaused) onResume(this.position);
    });
    this.list.addEventListener("click", (event) => {
      const target = event.target.closest("button");
      if (target?.className === "time") this.toggleDetail(target.parentElement);
      if (target?.className === "fold") this.toggleFold(target.parentElement);
    });
  }

  setPaused(isPaused) {
    this.isPaused = isPaused;
    this.missedLines = 0;
    this.button.setAttribute("aria-pressed", String(isPaused));
    this.button.textContent = isPaused ? "Resume" : "Pause";
    this.updateNote();
  }

  // After a change of the filter: the next stream starts over and replaces all rows.
  reset() {
    this.position = "";
    if (this.isPaused) this.setPaused(false);
  }

  updateNote() {
    const sentences = [];
    if (this.isPaused) sentences.push(`Paused; ${count(this.missedLines)} more lines received.`);
    if (this.skippedLines) sentences.push(`${count(this.skippedLines)} lines were not shown; gaps mark where.`);
    this.note.textContent = [...sentences, this.heldText].join(" ");
  }

  setHeld({ held, most, bytes, most_bytes: mostBytes }) {
    const mb = (number) => count(Math.round(number / 1e6));
    const full = bytes > mostBytes * 0.97 ? "; the byte limit is reached" : "";
    this.heldText = `Held: ${count(held)} lines, ${mb(bytes)} MB (at most ${count(most)} lines and ${mb(mostBytes)} MB${full}).`;
    this.updateNote();
  }

  add({ lines, skipped, fresh, epoch }, position) {
    if (this.isPaused && !fresh) {
      this.missedLines += lines.length + skipped;
      return this.updateNote();
    }
    if (this.isPaused) this.setPaused(false); // the drain was reset or restarted: the rows are no longer valid
    const isAtEnd = this.list.scrollTop + this.list.clientHeight > this.list.scrollHeight - 40;
    const rows = document.createDocumentFragment();
    if (fresh) {
      this.list.replaceChildren();
      this.skippedLines = 0;
    } else if (skipped) {
      this.skippedLines += skipped;
      rows.append(element("li", "gap", `${count(skipped)} lines were not shown here`));
    }
    this.position = position;
    for (const line of lines) rows.append(this.row(line, epoch));
    this.list.append(rows);
    while (this.list.childElementCount > MAX_ROWS) this.list.firstElementChild.remove();
    this.empty.hidden = this.list.childElementCount > 0;
    if (isAtEnd || fresh) this.list.scrollTop = this.list.scrollHeight;
    this.updateNote();
  }

  row(line, epoch) {
    const { time, app, proc, token, pri, text } = line;
    const level = pri & 7;
    const row = element("li", level <= 4 ? "bad" : "");
    row.line = line;
    row.epoch = epoch;
    row.spans = parse(text);
    const timestamp = button("time", time.slice(11, 23));
    timestamp.title = `${time} – show the raw frame`;
    timestamp.setAttribute("aria-expanded", "false");
    const from = element("span", "from", `${app}[${proc}]`);
    from.dataset.hue = [...proc].reduce((sum, c) => (sum * 31 + c.codePointAt(0)) % 6, 0);
    const drain = element("span", "drain", shortLabel(this.labels.get(token) ?? token));
    drain.title = token;
    const message = element("span", "message");
    row.append(timestamp, element("span", "level", LEVELS[level]), from, drain, message);
    const length = row.spans.reduce((sum, { text: part }) => sum + part.length, 0);
    if (length > FOLD_LENGTH) {
      row.append(button("fold", ""));
      row.length = length;
      this.toggleFold(row);
    } else render(row.spans, message);
    return row;
  }

  toggleFold(row) {
    const message = row.querySelector(".message");
    const fold = row.querySelector(".fold");
    const open = fold.ariaExpanded === "false";
    fold.ariaExpanded = String(open);
    fold.textContent = open ? "less" : `all ${count(row.length)} characters`;
    message.replaceChildren();
    render(row.spans, message, open ? Infinity : FOLD_LENGTH);
    if (!open) message.append("…");
  }

  async toggleDetail(row) {
    const timestamp = row.querySelector(".time");
    const shown = row.querySelector(".detail");
    timestamp.ariaExpanded = String(!shown);
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
    const response = await fetch(`/raw?line=${n}&epoch=${row.epoch}`).catch(() => null);
    // Escaped as in JSON, so that control characters are visible.
    const text = response?.ok ? JSON.stringify(await response.text()).slice(1, -1).replaceAll('\\"', '"') : "";
    raw.textContent = text || (response ? "This line is no longer held." : "No response from the drain.");
  }
}

// The start of a drain's token; `platform` for the platform's drain.
function shortLabel(label) {
  return label.endsWith("(platform)") ? "platform" : label.slice(0, 10);
}
