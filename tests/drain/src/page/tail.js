// The live tail: lines as text, coloured by classes, folded when long, their raw frame on demand.
const MOST = 2000;
const LONG = 600;
const LEVELS = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

// SGR sequences become classes; every other control sequence is left out.
const ESCAPE = /\u001b(?:\[([0-9;:]*)([\u0040-\u007e])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|.)/gu;

function coloured(text, into) {
  let at = 0;
  let classes = new Set();
  const put = (words) => {
    if (!words) return;
    if (!classes.size) return into.append(words);
    const span = document.createElement("span");
    span.className = [...classes].join(" ");
    span.textContent = words;
    into.append(span);
  };
  for (const found of text.matchAll(ESCAPE)) {
    put(text.slice(at, found.index));
    at = found.index + found[0].length;
    if (found[2] === "m") classes = sgr(classes, found[1]);
  }
  put(text.slice(at));
}

function sgr(before, parameters) {
  const classes = new Set(before);
  const drop = (pattern) => classes.forEach((name) => pattern.test(name) && classes.delete(name));
  const codes = parameters.split(/[;:]/).map(Number);
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index];
    if (code === 0) classes.clear();
    else if (code === 38 || code === 48) index += codes[index + 1] === 5 ? 2 : 4; // 256 colours: left out
    else if (code === 22) drop(/^sgr-[12]$/);
    else if (code >= 23 && code <= 29) classes.delete(`sgr-${code - 20}`);
    else if (code === 39) drop(/^sgr-(3|9)\d$/);
    else if (code === 49) drop(/^sgr-(4|10)\d$/);
    else if (code <= 9 || (code >= 30 && code <= 37) || (code >= 90 && code <= 97)) {
      if (code >= 30) drop(/^sgr-(3|9)\d$/);
      classes.add(`sgr-${code}`);
    } else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) {
      drop(/^sgr-(4|10)\d$/);
      classes.add(`sgr-${code}`);
    }
  }
  return classes;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Tail {
  constructor(root, connect) {
    this.form = root.querySelector("#filter");
    this.list = root.querySelector("#lines");
    this.note = root.querySelector("#tail-note");
    this.empty = root.querySelector("#tail-empty");
    this.button = root.querySelector("#pause");
    this.connect = connect;
    this.paused = false;
    this.missed = 0;
    this.skipped = 0;
    const parameters = new URLSearchParams(location.search);
    for (const field of this.form.elements) {
      const wanted = field.name && parameters.get(field.name);
      if (!wanted) continue;
      if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === wanted)) {
        field.add(new Option(wanted, wanted));
      }
      field.value = wanted;
    }
    this.form.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.filter(), 150);
    });
    this.form.addEventListener("submit", () => this.filter());
    this.button.addEventListener("click", () => this.pause(!this.paused));
    this.list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button?.className === "time") this.raw(button);
      if (button?.className === "fold") this.unfold(button);
    });
  }

  close() {
    clearTimeout(this.timer);
  }

  query() {
    const wanted = [...new FormData(this.form)].filter(([, value]) => value !== "");
    return new URLSearchParams([["tab", "tail"], ...wanted]).toString();
  }

  filter() {
    clearTimeout(this.timer);
    const query = this.query();
    history.replaceState(null, "", `/?${query}`);
    this.pause(false, false);
    this.connect(query);
  }

  pause(paused, isAgain = true) {
    const was = this.paused;
    this.paused = paused;
    this.missed = 0;
    this.button.setAttribute("aria-pressed", String(paused));
    this.button.textContent = paused ? "Go on" : "Pause";
    this.tell();
    if (was && !paused && isAgain) this.connect(this.query());
  }

  tell() {
    const words = [];
    if (this.paused) words.push(`Paused; ${this.missed.toLocaleString("en")} more lines came.`);
    if (this.skipped) words.push(`${this.skipped.toLocaleString("en")} lines came too fast to be shown.`);
    this.note.textContent = words.join(" ");
  }

  add({ lines, skipped, fresh }) {
    if (this.paused) {
      this.missed += lines.length + skipped;
      return this.tell();
    }
    const isAtEnd = this.list.scrollTop + this.list.clientHeight > this.list.scrollHeight - 40;
    if (fresh) {
      this.list.replaceChildren();
      this.skipped = 0;
    }
    this.skipped += skipped;
    const rows = document.createDocumentFragment();
    for (const line of lines) rows.append(this.row(line));
    this.list.append(rows);
    for (let over = this.list.childElementCount - MOST; over > 0; over -= 1) this.list.firstElementChild.remove();
    this.empty.hidden = this.list.childElementCount > 0;
    if (isAtEnd || fresh) this.list.scrollTop = this.list.scrollHeight;
    this.tell();
  }

  row({ n, time, app, proc, token, level, text }) {
    const row = element("li", level <= 4 ? "bad" : "");
    row.dataset.line = n;
    const stamp = element("button", "time", time.slice(11, 23));
    stamp.type = "button";
    stamp.title = `${time} – show the raw frame`;
    const name = element("span", "from", `${app}[${proc}]`);
    name.title = `${LEVELS[level]}, drain ${token || "without a token"}`;
    name.dataset.hue = [...proc].reduce((sum, c) => (sum * 31 + c.codePointAt(0)) % 6, 0);
    const message = element("span", "message");
    row.append(stamp, name, message);
    if (text.length > LONG) {
      coloured(text.slice(0, LONG), message);
      message.append("…");
      message.full = text;
      const fold = element("button", "fold", `all ${text.length.toLocaleString("en")} characters`);
      fold.type = "button";
      row.append(fold);
    } else coloured(text, message);
    return row;
  }

  unfold(button) {
    const message = button.parentElement.querySelector(".message");
    message.replaceChildren();
    coloured(message.full, message);
    button.remove();
  }

  async raw(button) {
    const row = button.parentElement;
    const shown = row.querySelector("pre");
    if (shown) return shown.remove();
    const answer = await fetch(`/raw?line=${row.dataset.line}`);
    const raw = answer.ok ? JSON.stringify(await answer.text()).slice(1, -1).replaceAll('\\"', '"') : "";
    row.append(element("pre", "raw", raw || "This line is no longer held."));
  }

  names(tick) {
    for (const name of ["app", "proc", "token"]) {
      const select = this.form.elements[name];
      const known = new Set([...select.options].map((option) => option.value));
      for (const value of tick[name]) {
        const wanted = value === "(none)" ? "" : value;
        if (!known.has(wanted)) select.add(new Option(wanted, wanted));
      }
    }
  }
}
