// What a terminal would show: SGR sequences become classes and colours, every other control sequence is left out.
// src/ansi.rs has the same expression, so that a search sees what is seen here.
const ESCAPE =
  /\u001b(?:\[([0-?]*)([ -\/]*[@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[PX^_][^\u001b]*(?:\u001b\\)?|[ -\/]*[0-~])?/g;

const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 8: "hidden", 9: "strike", 21: "underline" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 28: ["hidden"], 29: ["strike"] };

// The parts of a text that look alike: words and style.
export function parts(text) {
  const found = [];
  let style = {};
  let at = 0;
  const put = (words) => words && found.push({ words, style });
  for (const escape of text.matchAll(ESCAPE)) {
    put(text.slice(at, escape.index));
    at = escape.index + escape[0].length;
    if (escape[2] === "m") style = sgr(style, escape[1]);
  }
  put(text.slice(at));
  return found;
}

// Appends the first `most` characters of the parts.
export function render(all, into, most = Infinity) {
  let left = most;
  for (const { words, style } of all) {
    if (left <= 0) break;
    const shown = words.slice(0, left);
    left -= shown.length;
    const names = Object.keys(style).filter((name) => style[name] === true);
    if (!names.length && !style.fg && !style.bg) {
      into.append(shown);
      continue;
    }
    const span = document.createElement("span");
    span.className = names.map((name) => `sgr-${name}`).join(" ");
    colour(span, "fg", style.fg);
    colour(span, "bg", style.bg);
    span.textContent = shown;
    into.append(span);
  }
}

function colour(span, ground, value) {
  if (value === undefined) return;
  if (typeof value === "number") return span.classList.add(`${ground}-${value % 8}`);
  span.classList.add(ground);
  span.style.setProperty(`--${ground}`, value);
}

function sgr(before, parameters) {
  if (/[<=>?]/.test(parameters)) return before; // a private sequence, whatever it ends with
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
      const found = palette(spec);
      if (found !== undefined && code !== 58) style[code === 38 ? "fg" : "bg"] = found;
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

// `5, n` or `2, r, g, b`, with or without a colour space in between: a number below 16, or a colour.
function palette([mode, ...values]) {
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
