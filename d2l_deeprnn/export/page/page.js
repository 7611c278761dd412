// The page: the form, the coloured text and the bars.

const element = (id) => document.getElementById(id);
const model = JSON.parse(element("model").textContent);
const network = new Network(model);
const tokens = model.tokens; // null for a special token
const indices = new Map(tokens.map((token, index) => [token, index]));
const allowed = [...tokens.keys()].filter((index) => tokens[index] !== null);

const SLICE = 12; // milliseconds of computing before the browser may draw and handle events
const FRAME = 50; // milliseconds between two redraws of a growing text, since drawing takes time
const MOST_BARS = 12;
const FEWEST = 100; // characters from which units are correlated with a feature
// Limit in bytes for the states and scores that are kept, so that they can be shown again.
const KEPT = 64 * 2 ** 20;
const mostKept = Math.floor(KEPT / (4 * (network.stateSize + network.vocabSize)));

// The text. Each character has its index, whether the user gave it, its element, and the network's
// state and scores after it.
const text = [];
let state = network.beginState();
let random = new Random(0);
let lookedAt = -1; // position of the selected character, for the bars; -1: the last one
let running = null; // while the model reads or writes: an object with a stop request

// Wording ---------------------------------------------------------------------------------------

const NAMES = new Map([
  [" ", ["␣", "space"]],
  ["\n", ["↵", "line break"]],
  ["\t", ["⇥", "tab"]],
]);
// Characters that are invisible or, as U+202E, turn the text after them around.
const CONTROL = /^[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]$/u;
const code = (character) => character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
const visible = (character) => (CONTROL.test(character) ? `⟨U+${code(character)}⟩` : character);
const shown = (character) => NAMES.get(character)?.[0] ?? visible(character);
const spoken = (character) => NAMES.get(character)?.[1] ?? visible(character);
const counted = (n) => `${n.toLocaleString("en")} character${n === 1 ? "" : "s"}`;
const percent = (p) => (p >= 0.0005 ? `${(100 * p).toFixed(1)} %` : "< 0.1 %");
const signed = (x, digits = 2) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;

function say(words, wrong = false) {
  element("status").textContent = words;
  element("status").classList.toggle("wrong", wrong);
}

// The beginning ---------------------------------------------------------------------------------

/** Return the characters to read, with a problem or a remark if there is one. */
function beginning() {
  const typed = element("beginning").value;
  const start = ["\n", " "].find((character) => indices.has(character)) ?? tokens[allowed[0]];
  const read = typed === "" ? start : cleaned(typed, model.cleaning);
  const characters = Array.from(read);
  const unknown = [...new Set(characters.filter((character) => !indices.has(character)))];
  const names = unknown.map((character) => `“${shown(character)}”`).join(", ");
  // The same letters may be composed (NFC) in one text and decomposed (NFD) in another.
  const form = ["NFC", "NFD"].find((name) => Array.from(read.normalize(name)).every((c) => indices.has(c)));
  return {
    characters,
    problem: unknown.length
      ? `The model has never seen ${names}${form ? `, but it has in Unicode's form ${form}` : ""}.`
      : "",
    remark: typed === "" ? `If left empty, the model starts from a ${spoken(start)}.`
      : read !== typed ? `Read as “${Array.from(read, shown).join("").replaceAll("␣", " ")}”, cleaned like the model's text.`
      : "",
  };
}

function showBeginning() {
  const { problem, remark } = beginning();
  element("beginning-note").textContent = problem || remark;
  element("beginning-note").classList.toggle("wrong", problem !== "");
  element("beginning").setAttribute("aria-invalid", String(problem !== ""));
}

function showTemperature() {
  const temperature = element("temperature").valueAsNumber;
  element("temperature-shown").textContent = temperature.toFixed(2).replace(/\.?0+$/, "");
  element("temperature-note").textContent =
    temperature === 0 ? "Always takes the most likely character; top k and seed are not used."
    : temperature < 1 ? "Samples, favouring likely characters."
    : temperature === 1 ? "Samples with the model's own probabilities."
    : "Samples, with unlikely characters more often than the model expects them.";
  element("top-k").disabled = element("seed").disabled = temperature === 0;
  showNext();
}

function drawing() {
  const temperature = element("temperature").valueAsNumber;
  const k = element("top-k").valueAsNumber;
  return { temperature, topK: temperature > 0 && k >= 1 ? Math.floor(k) : null, random };
}

// Reading and writing ---------------------------------------------------------------------------

/** Let the browser draw and handle events; a timer would wait for four milliseconds. */
const breath = () =>
  new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Add a character to the text, and let the network read it. */
function add(index, given) {
  const scores = network.step(index, state);
  if (!scores.every(Number.isFinite)) {
    throw new Error("The model's scores are not finite: its training diverged.");
  }
  text.push({ index, given, scores, state: state.slice(), span: null });
  const old = text[text.length - 1 - mostKept];
  if (old) {
    old.scores = old.state = null;
    if (old.span) old.span.style.backgroundColor = "";
  }
}

/**
 * Call a function repeatedly, in slices of time.
 *
 * @param pace calls per second; 0 for full speed.
 * @returns false if it was stopped before the last call.
 */
async function again(count, pace, advance) {
  const start = performance.now();
  let [done, drawn] = [0, -FRAME];
  while (done < count) {
    const begin = performance.now();
    const due = pace ? Math.min(count, 1 + Math.floor(((begin - start) / 1000) * pace)) : count;
    while (done < due && performance.now() - begin < SLICE) {
      advance(done);
      done += 1;
    }
    if (performance.now() - drawn >= FRAME || (pace && done >= due)) {
      show();
      drawn = performance.now();
    }
    await (pace && done >= due ? wait(1000 / pace) : breath());
    if (running.stop) return false;
  }
  return true;
}

/** Run one of the jobs below, with the buttons disabled until it ends. */
async function during(job) {
  if (running) return;
  running = { stop: false };
  showButtons();
  try {
    await job();
  } catch (error) {
    say(error.message, true);
  }
  running = null;
  show();
  if (element("follow").value) follow();
  showButtons();
}

function startAgain() {
  text.length = 0;
  colouring.grow(true);
  element("text").replaceChildren();
  state = network.beginState();
  const seed = element("seed").value === "" ? Math.floor(Math.random() * 2 ** 32)
    : element("seed").valueAsNumber;
  random = new Random(seed);
  return seed;
}

async function write(fromBeginning, count) {
  const { characters, problem } = beginning();
  if (!fromBeginning && (running || text.length === 0)) return;
  if (fromBeginning && problem) {
    say(problem, true);
    element("beginning").focus();
    return;
  }
  if (!element("write").reportValidity()) return;
  // Write starts anew also while the page writes, as it does when it was opened.
  while (running) {
    running.stop = true;
    await breath();
  }
  return during(async () => {
    if (fromBeginning) {
      running.seed = startAgain();
      lookedAt = -1;
      if (!(await again(characters.length, 0, (i) => add(indices.get(characters[i]), true)))) {
        say("Stopped while reading the beginning.");
        return;
      }
    }
    // Writing selects the last character again.
    lookedAt = -1;
    const [before, begin] = [text.length, performance.now()];
    if (count > 1) say("Writing …");
    const finished = await again(count, count > 1 ? Number(element("pace").value) : 0, () =>
      add(choose(text[text.length - 1].scores, allowed, drawing()), false),
    );
    const written = text.length - before;
    const rate = Math.round(written / ((performance.now() - begin) / 1000));
    const seed = running.seed !== undefined && drawing().temperature > 0 ? `, seed ${running.seed}` : "";
    if (count > 1) {
      say(`${finished ? "Wrote" : "Stopped after"} ${counted(written)}` +
        ` at ${rate.toLocaleString("en")} per second${seed}.`);
    } else {
      say(`Wrote “${shown(tokens[text[text.length - 1].index])}”.`);
    }
  });
}

/** Continue with a character after the selected one; drop the rest of the text. */
function take(index) {
  return during(async () => {
    const position = positionLookedAt();
    state = text[position].state.slice();
    for (const { span } of text.splice(position + 1)) span.remove();
    colouring.grow(true);
    add(index, false);
    lookedAt = -1;
    say(`Wrote “${shown(tokens[index])}”.`);
  });
}

// Showing ---------------------------------------------------------------------------------------

/** Show the new characters, their colours, and the bars. */
function show() {
  const box = element("text");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const fresh = document.createDocumentFragment();
  const { limit } = colouring;
  colouring.grow();
  for (let i = text.length - 1; i >= 0 && text[i].span === null; i--) {
    const span = document.createElement("span");
    const character = tokens[text[i].index];
    // Line breaks, tabs and the joiners of Persian and of emoji act as what they are.
    span.textContent = /[\n\t\u200c\u200d]/.test(character) ? character : visible(character);
    span.classList.toggle("given", text[i].given);
    span.classList.toggle("line-end", character === "\n");
    text[i].span = span;
    colouring.paint(text[i]);
    fresh.prepend(span);
  }
  box.append(fresh);
  if (limit !== colouring.limit) colouring.paintAll();
  if (atEnd) box.scrollTop = box.scrollHeight;
  if (element("follow").value && text.length >= Math.max(1.5 * followed, FEWEST)) follow();
  element("count").textContent = text.length ? counted(text.length) : "";
  look(lookedAt);
}

/** Enable the usable buttons. The others keep their place in the tab order, so the focus is not lost. */
function showButtons() {
  const busy = running !== null;
  const idle = (button, is) => button.setAttribute("aria-disabled", String(is));
  for (const id of ["continue", "one"]) idle(element(id), busy || text.length === 0);
  idle(element("stop"), !busy);
  for (const button of element("bars").querySelectorAll("button")) idle(button, busy);
  element("position").disabled = text.length === 0;
}

/** Colours of the chosen unit's values. */
const colouring = {
  kind: 0,
  layer: network.layers[network.layers.length - 1],
  unit: 0,
  limit: 1, // the value with the strongest colour
  seen: 0, // how many characters the limit was taken from
  ends: {},

  get bounded() {
    return this.kind === 0 && this.layer.cell !== "rnn_relu"; // between -1 and 1
  },

  value({ state }) {
    const { begin, numHiddens } = this.layer;
    return state === null ? null : state[begin + this.kind * numHiddens + this.unit];
  },

  /** Raise the limit to the largest value of all characters, if values have no bounds. */
  grow(reset = false) {
    if (reset || this.seen > text.length) [this.limit, this.seen] = [this.bounded ? 1 : 0.01, 0];
    if (this.kind >= 0 && !this.bounded) {
      for (; this.seen < text.length; this.seen++) {
        // In steps, so that most characters need no repainting of the others.
        const size = Math.abs(this.value(text[this.seen]) ?? 0);
        while (size > this.limit) this.limit *= 1.25;
      }
    }
  },

  readEnds() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["negative", "neutral", "positive"]) {
      const hex = style.getPropertyValue(`--${name}`).trim();
      this.ends[name] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    }
  },

  colour(value) {
    const share = Math.min(Math.abs(value) / this.limit, 1);
    const end = this.ends[value < 0 ? "negative" : "positive"];
    const mixed = this.ends.neutral.map((x, i) => Math.round(x + share * (end[i] - x)));
    return `rgb(${mixed.join(", ")})`;
  },

  paint(entry) {
    const value = this.kind < 0 ? null : this.value(entry);
    entry.span.style.backgroundColor = value === null ? "" : this.colour(value);
  },

  paintAll() {
    text.filter((entry) => entry.span).forEach((entry) => this.paint(entry));
    element("scale").hidden = this.kind < 0;
    element("low").textContent = signed(-this.limit);
    element("high").textContent = signed(this.limit);
  },
};

/** Colour by the chosen unit, or by another one of the chosen layer. */
function chooseUnit(unit = element("unit").valueAsNumber) {
  const layer = network.layers[Number(element("layer").value)];
  const cell = element("kind").querySelector("[value='1']");
  if (cell) {
    cell.disabled = layer.kinds.length === 1; // a stack may have cells of several kinds
    if (cell.disabled && cell.selected) element("kind").value = "0";
  }
  element("unit-slider").max = element("unit").max = layer.numHiddens;
  element("unit-slider").value = element("unit").value = Math.min(unit, layer.numHiddens);
  colouring.kind = Number(element("kind").value);
  colouring.layer = layer;
  colouring.unit = element("unit-slider").valueAsNumber - 1;
  element("layer").disabled = colouring.kind < 0;
  element("unit-slider").disabled = element("unit").disabled = colouring.kind < 0;
  colouring.grow(true);
  colouring.paintAll();
  showReading();
}

let followed = 0; // characters in the text when a unit was last chosen; 0: not in this text

/** Colour by the unit that follows the chosen feature best. */
function follow() {
  const name = element("follow").value;
  followed = text.length < FEWEST ? 0 : text.length;
  const note = element("follow-note");
  const kept = text.map(({ state }) => state !== null);
  const only = (list) => list.filter((_, i) => kept[i]);
  if (name === "" || followed === 0) {
    note.textContent = name && `The page looks for this unit when the text has ${FEWEST} characters.`;
    element("kind").value = name ? -1 : 0;
    chooseUnit();
    return;
  }
  const values = FEATURES[name][1](text.map(({ index }) => tokens[index]));
  const best = mostCorrelated(only(text).map(({ state }) => state), only(values));
  if (best === null) {
    note.textContent = "None: this is the same everywhere in the text.";
    return;
  }
  const layer = network.layers.findLastIndex(({ begin }) => begin <= best.unit);
  const { begin, numHiddens } = network.layers[layer];
  const unit = ((best.unit - begin) % numHiddens) + 1;
  element("layer").value = layer;
  element("kind").value = Math.floor((best.unit - begin) / numHiddens);
  chooseUnit(unit);
  note.textContent =
    `Unit ${unit} of layer ${layer + 1} follows it best. Their correlation over the text is ` +
    `r = ${signed(best.r)}: 0 would be not at all, +1 exactly, and −1 exactly but the other way round.`;
}

/** Select the character at a position, or the last one if it is -1. */
function look(position) {
  lookedAt = position;
  const at = positionLookedAt();
  element("text").querySelector(".looked-at")?.classList.remove("looked-at");
  if (position >= 0) text[at].span.classList.add("looked-at");
  const slider = element("position");
  slider.max = Math.max(text.length, 1);
  slider.value = at + 1;
  showReading();
  showNext();
}

const positionLookedAt = () => (lookedAt < 0 ? text.length - 1 : lookedAt);

/** Show the chosen unit's value at the selected character. */
function showReading() {
  const position = positionLookedAt();
  const entry = text[position];
  if (!entry) {
    element("reading").textContent = "";
    return;
  }
  const value = colouring.kind < 0 ? null : colouring.value(entry);
  const name = colouring.kind === 1 ? "memory cell" : "hidden state";
  const what = `“${shown(tokens[entry.index])}”, ${position + 1} of ${text.length}`;
  const unit = `unit ${colouring.unit + 1} of layer ${network.layers.indexOf(colouring.layer) + 1}`;
  const words = value === null ? what : `${what}: ${name} ${signed(value, 3)} in ${unit}`;
  element("reading").textContent = `${words}.`;
  element("position").setAttribute("aria-valuetext", words);
}

/** Show the probabilities of the characters after the selected one. */
function showNext() {
  const entry = text[positionLookedAt()];
  const note = element("next-note");
  if (!entry || entry.scores === null) {
    note.textContent = entry ? "The probabilities after this character are no longer kept."
      : "Probabilities appear here once the model has read something.";
    element("bars").replaceChildren();
    return;
  }
  const { temperature, topK } = drawing();
  const { order, probabilities } = candidates(entry.scores, allowed, temperature, topK);
  const most = Math.min(order.length, MOST_BARS);
  note.textContent =
    `After “${shown(tokens[entry.index])}”` +
    (temperature > 0 ? `, at temperature ${element("temperature-shown").textContent}` : "") +
    (topK ? `, top ${topK}` : "") +
    ". Choose one to continue with it.";
  const bars = element("bars");
  while (bars.children.length > most) bars.lastChild.remove();
  while (bars.children.length < most) bars.append(newBar());
  for (let rank = 0; rank < most; rank++) {
    const button = bars.children[rank].firstChild;
    const character = tokens[order[rank]];
    const p = probabilities[rank];
    button.value = order[rank];
    button.setAttribute("aria-disabled", String(running !== null));
    button.setAttribute("aria-label", `${spoken(character)}, ${percent(p)}`);
    button.querySelector(".character").textContent = shown(character);
    button.querySelector(".fill").style.width = `${100 * p}%`;
    button.querySelector(".percent").textContent = percent(p);
  }
}

function newBar() {
  const item = document.createElement("li");
  const button = item.appendChild(document.createElement("button"));
  button.type = "button";
  for (const name of ["character", "track", "percent"]) {
    button.appendChild(document.createElement("span")).className = name;
  }
  button.querySelector(".track").appendChild(document.createElement("span")).className = "fill";
  return item;
}

// Start -----------------------------------------------------------------------

const addOption = (select, value, words) => select.add(new Option(words, value));

function begin() {
  // In a frame of another page, as model.html?embedded
  document.body.classList.toggle("embedded", location.search === "?embedded");
  const { layers } = network;
  const cells = layers.some(({ kinds }) => kinds.length === 2);
  addOption(element("kind"), 0, "hidden state");
  if (cells) addOption(element("kind"), 1, "memory cell");
  addOption(element("kind"), -1, "nothing");
  const last = layers.length - 1;
  layers.forEach((_, l) => {
    const place = last === 0 ? "" : l === 0 ? ", lowest" : l === last ? ", uppermost" : "";
    addOption(element("layer"), l, `${l + 1}${place}`);
  });
  element("layer").value = last;
  addOption(element("follow"), "", "nothing: choose one below");
  const has = (pattern) => allowed.some((index) => pattern.test(tokens[index]));
  for (const [name, [needed]] of Object.entries(FEATURES)) {
    if (needed.every(has)) addOption(element("follow"), name, name);
  }
  element("follow").selectedIndex = Math.min(1, element("follow").length - 1);
  element("settings").open = !matchMedia("(max-width: 34rem)").matches;

  element("write").addEventListener("submit", (event) => {
    event.preventDefault();
    write(true, element("length").valueAsNumber);
    element("text").scrollIntoView({ block: "nearest" });
  });
  // The browser cannot show errors in a closed part of the form.
  const openSettings = () => (element("settings").open = true);
  element("write").addEventListener("invalid", openSettings, true);
  element("continue").addEventListener("click", () => write(false, element("length").valueAsNumber));
  element("one").addEventListener("click", () => write(false, 1));
  element("stop").addEventListener("click", () => {
    if (running) running.stop = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running) running.stop = true;
  });
  element("beginning").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      element("write").requestSubmit();
    }
  });
  element("beginning").addEventListener("input", showBeginning);
  element("temperature").addEventListener("input", showTemperature);
  element("top-k").addEventListener("input", showNext);
  element("follow").addEventListener("change", follow);
  const chooseByHand = () => {
    element("follow").value = element("follow-note").textContent = "";
    chooseUnit();
  };
  for (const id of ["kind", "layer"]) element(id).addEventListener("change", chooseByHand);
  element("unit-slider").addEventListener("input", () => {
    element("unit").value = element("unit-slider").value;
    chooseByHand();
  });
  element("unit").addEventListener("input", () => {
    if (!element("unit").checkValidity() || element("unit").value === "") return;
    chooseByHand();
  });
  element("position").addEventListener("input", () => look(element("position").valueAsNumber - 1));
  element("text").addEventListener("click", (event) => {
    const position = text.findIndex(({ span }) => span === event.target);
    if (position >= 0) look(position);
  });
  element("bars").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) take(Number(button.value));
  });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", () => {
    colouring.readEnds();
    colouring.paintAll();
  });
  colouring.readEnds();
  chooseUnit();
  showBeginning();
  showTemperature();
  showButtons();
  follow();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (still) element("pace").value = "0";
  if (still || beginning().problem) {
    element("text").replaceChildren();
  } else {
    // Write once, as soon as the text is on the screen.
    new IntersectionObserver(([entry], observer) => {
      if (!entry.isIntersecting) return;
      observer.disconnect();
      write(true, element("length").valueAsNumber);
    }).observe(element("text"));
  }
}

begin();
