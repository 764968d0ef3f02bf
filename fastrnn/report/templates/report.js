// Shows what the model expected at the symbol that is pointed at, or that was chosen with the keyboard.
"use strict";

const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const text = element("text");
const spans = Array.from(text.getElementsByTagName("span"));
const places = new Map(spans.map((span, place) => [span, place]));
const n = data.shown.length;
const K = n ? data.top.length / n : 0;
const SURPRISE = 6000; // thousandths of a bit
let chosen = 0;
let unit = -1;

// ---- Words -------------------------------------------------------------------------------------------------

function percent(share) {
  return share > 0 && share < 1 ? "below 0.01 %" : `${(share / 100).toFixed(share < 1000 ? 2 : 1)} %`;
}

function expected(place) {
  return Array.from({ length: K }, (_, k) => ({
    sign: data.signs[data.top[place * K + k]],
    share: data.shares[place * K + k],
    came: data.rank[place] > 0 && data.top[place * K + k] === data.shown[place],
  }));
}

function scoreOf(place) {
  const bits = data.bits[place] / 1000;
  if (bits < 0) return "Not scored: the model does not know this symbol.";
  const score = `${bits.toFixed(2)} bits, probability ${percent(10000 * 2 ** -bits)}`;
  if (!data.rank[place]) return `${score}; the model does not know this symbol.`;
  return `${score}, rank ${data.rank[place].toLocaleString("en")} of ${data.vocabulary.toLocaleString("en")}`;
}

function placeOf(place) {
  const line = Array.prototype.indexOf.call(text.children, spans[place].parentElement) + 1;
  return `symbol ${(place + 1).toLocaleString("en")} of ${n.toLocaleString("en")}, line ${line.toLocaleString("en")}`;
}

function sentence(place) {
  const guesses = expected(place).map(({ sign, share }) => `${sign[1]} ${percent(share)}`);
  return `${data.signs[data.shown[place]][1]}, ${scoreOf(place)}. Expected: ${guesses.join(", ")}. ${placeOf(place)}.`;
}

// ---- The chosen symbol -------------------------------------------------------------------------------------

function show(place) {
  const [label, name] = data.signs[data.shown[place]];
  element("sign").textContent = label;
  element("name").textContent = name;
  element("place").textContent = placeOf(place);
  element("score").textContent = scoreOf(place);
  element("expected").replaceChildren(...expected(place).map(row));
  element("activation").hidden = unit < 0;
  if (unit >= 0) {
    const { name: of, largest, levels } = data.units[unit];
    const value = ((levels.charCodeAt(place) - "e".charCodeAt(0)) / 4) * largest;
    element("activation").textContent = `Activation of ${of}: about ${value.toFixed(2).replace("-", "−")}`;
  }
}

function row({ sign, share, came }) {
  const line = document.createElement("tr");
  const symbol = line.insertCell();
  symbol.textContent = came ? `${sign[0]} ✓` : sign[0];
  symbol.title = came ? `${sign[1]}, which came` : sign[1];
  const probability = line.insertCell();
  probability.textContent = percent(share);
  probability.style.setProperty("--share", share / 100);
  line.className = came ? "came" : "";
  return line;
}

function choose(place) {
  spans[chosen].classList.remove("now");
  chosen = Math.max(0, Math.min(n - 1, place));
  spans[chosen].classList.add("now");
  const slider = element("position");
  slider.value = chosen;
  slider.setAttribute("aria-valuetext", sentence(chosen));
  show(chosen);
}

function goTo(place) {
  choose(place);
  spans[chosen].scrollIntoView({ block: "nearest", behavior: "instant" });
}

// The symbol in the row above or below that is nearest.
function inNextRow(from, step) {
  const start = spans[from].getBoundingClientRect();
  let best = from;
  let distance = Infinity;
  let row = null;
  for (let place = from + step; place >= 0 && place < n; place += step) {
    const at = spans[place].getBoundingClientRect();
    if (Math.abs(at.top - start.top) < start.height / 2) continue;
    row ??= at.top;
    if (Math.abs(at.top - row) >= at.height / 2) break;
    if (Math.abs(at.left - start.left) < distance) {
      distance = Math.abs(at.left - start.left);
      best = place;
    }
  }
  return best;
}

function nextSurprise() {
  for (let step = 1; step <= n; step++) {
    const place = (chosen + step) % n;
    if (data.bits[place] >= SURPRISE) return place;
  }
  return chosen;
}

const MOVES = {
  ArrowLeft: () => chosen - 1,
  ArrowRight: () => chosen + 1,
  ArrowUp: () => inNextRow(chosen, -1),
  ArrowDown: () => inNextRow(chosen, 1),
  Home: () => 0,
  End: () => n - 1,
};

function pointedAt(event) {
  return places.get(event.target) ?? -1;
}

// ---- Colours -----------------------------------------------------------------------------------------------

function colourBy(which) {
  unit = which;
  const [letter, levels] = unit < 0 ? ["s", data.levels] : ["u", data.units[unit].levels];
  for (let place = 0; place < n; place++) {
    const list = spans[place].classList;
    list.replace(list[0], letter + levels[place]);
  }
  element("surprisal-title").textContent = `The text, coloured by ${unit < 0 ? "surprisal" : data.units[unit].name}`;
  element("legend-surprisal").hidden = unit >= 0;
  element("legend-unit").hidden = unit < 0;
  if (unit >= 0) {
    const { largest } = data.units[unit];
    element("unit-low").textContent = `−${largest.toFixed(2)}`;
    element("unit-high").textContent = `+${largest.toFixed(2)}`;
  }
  element("colour").value = unit;
  show(chosen);
}

// ---- Events ------------------------------------------------------------------------------------------------

function listen() {
  text.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    goTo(move());
    element("spoken").textContent = sentence(chosen);
  });
  text.addEventListener("pointerover", (event) => {
    const place = pointedAt(event);
    if (place >= 0) show(place);
  });
  text.addEventListener("pointerleave", () => show(chosen));
  text.addEventListener("click", (event) => {
    const place = pointedAt(event);
    if (place >= 0) choose(place);
  });
  element("position").addEventListener("input", (event) => goTo(Number(event.target.value)));
  element("previous").addEventListener("click", () => goTo(chosen - 1));
  element("next").addEventListener("click", () => goTo(chosen + 1));
  element("surprise").addEventListener("click", () => goTo(nextSurprise()));
  element("colour").addEventListener("change", (event) => colourBy(Number(event.target.value)));
  for (const link of document.querySelectorAll("a[data-place]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      goTo(Number(link.dataset.place));
      text.scrollIntoView({ block: "nearest" });
      text.focus({ preventScroll: true });
    });
  }
  for (const button of document.querySelectorAll("button.whole")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      colourBy(Number(button.dataset.unit));
      element("surprisal").scrollIntoView();
      text.focus({ preventScroll: true });
    });
  }
}

if (n) {
  element("position").max = n - 1;
  for (const id of ["inspector", "how", "colour-tool"]) element(id).hidden = false;
  listen();
  choose(0);
}
