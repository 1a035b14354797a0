// ANSI escape sequences: SGR becomes classes and colours, every other sequence is removed.
// src/ansi.rs uses the same expression, so that a search matches the text that is shown here.
const ESCAPE =
  /\u001b(?:\[([0-?]*)([ -\/]*[@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|[ -\/]*[0-~])?/g;

const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 8: "hidden", 9: "strike", 21: "underline" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 28: ["hidden"], 29: ["strike"] };

// Splits a text into spans of equal style: [{ text, style }].
export function parse(text) {
  const spans = [];
  let style = {};
  let at = 0;
  const push = (part) => part && spans.push({ text: part, style });
  for (const escape of text.matchAll(ESCAPE)) {
    push(text.slice(at, escape.index));
    at = escape.index + escape[0].length;
    if (escape[2] === "m") style = applySgr(style, escape[1]);
  }
  push(text.slice(at));
  return spans;
}

// Appends the first `limit` characters of the spans to an element.
export function render(spans, target, limit = Infinity) {
  let left = limit;
  for (const { text, style } of spans) {
    if (left <= 0) break;
    const shown = text.slice(0, left);
    left -= shown.length;
    const names = Object.keys(style).filter((name) => style[name] === true);
    if (!names.length && !style.fg && !style.bg) {
      target.append(shown);
      continue;
    }
    const span = document.createElement("span");
    span.className = names.map((name) => `sgr-${name}`).join(" ");
    setColour(span, "fg", style.fg);
    setColour(span, "bg", style.bg);
    span.textContent = shown;
    target.append(span);
  }
}

function setColour(span, ground, value) {
  if (value === undefined) return;
  if (typeof value === "number") return span.classList.add(`${ground}-${value % 8}`);
  span.classList.add(ground);
  span.style.setProperty(`--${ground}`, value);
}

function applySgr(before, parameters) {
  if (/[<=>?]/.test(parameters)) return before; // a private sequence
  let style = { ...before };
  const all = parameters.split(";");
  for (let index = 0; index < all.length; index += 1) {
    const sub = all[index].split(":");
    const code = Number(sub[0] || 0);
    if (code === 38 || code === 48 || code === 58) {
      let spec = sub.slice(1);
      if (!spec.length) {
        const length = { 5: 2, 2: 4 }[all[index + 1]] ?? 1;
        spec = all.slice(index + 1, index + 1 + length);
        index += length;
      }
      const colour = parseColour(spec);
      if (colour !== undefined && code !== 58) style[code === 38 ? "fg" : "bg"] = colour;
    } else if (code === 0) style = {};
    else if (code === 4 && sub[1] === "0") delete style.underline;
    else if (ON[code]) style[ON[code]] = true;
    else if (OFF[code]) OFF[code].forEach((name) => delete style[name]);
    else if (code === 39) delete style.fg;
    else if (code === 49) delete style.bg;
    else if (code >= 30 && code <= 37) style.fg = code - 30;
    else if (code >= 40 && code <= 47) style.bg = code - 40;
    else if (code >= 90 && code <= 97) style.fg = code - 82;
    else if (code >= 100 && code <= 107) style.bg = code - 92;
  }
  return style;
}

// Parses `5, n` or `2, r, g, b`, the latter with or without a colour space id.
// Returns a palette index below 16, or a CSS colour.
function parseColour([mode, ...values]) {
  const numbers = values.map((value) => Math.min(255, Number(value || 0)));
  if (numbers.some(Number.isNaN)) return undefined;
  if (mode === "2" && numbers.length >= 3) return `rgb(${numbers.slice(numbers.length > 3 ? 1 : 0).slice(0, 3).join(" ")})`;
  if (mode !== "5" || !numbers.length) return undefined;
  const [n] = numbers;
  if (n < 16) return n;
  if (n >= 232) return `rgb(${Array(3).fill(8 + (n - 232) * 10).join(" ")})`;
  const level = (step) => (step ? 55 + step * 40 : 0);
  const cube = n - 16;
  return `rgb(${[Math.trunc(cube / 36), Math.trunc(cube / 6) % 6, cube % 6].map(level).join(" ")})`;
}
