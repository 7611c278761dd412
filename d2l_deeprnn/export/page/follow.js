// Features of a text, and the units that follow them.

/** 1 for each character that passes a test, and 0 for the others. */
const marked = (test) => (characters) => characters.map((character) => Number(test(character)));

/** Features by name: patterns of characters that the vocabulary must have, and the values. */
const FEATURES = {
  "the position in the line": [[/\n/], (characters) => {
    let column = 0;
    return characters.map((character) => (column = character === "\n" ? 0 : column + 1));
  }],
  // as in a play: a line after an empty one (or the first), with a colon at its end
  "the name of the speaker": [[/\n/, /:/], (characters) => {
    const values = characters.map(() => 0);
    let start = 0;
    characters.forEach((character, i) => {
      if (character !== "\n") return;
      const first = start < 2 || characters[start - 2] === "\n";
      if (first && characters[i - 1] === ":") values.fill(1, start, i);
      start = i + 1;
    });
    return values;
  }],
  "spaces": [[/ /], marked((character) => character === " ")],
  "vowels": [[/[aeiou]/i], marked((character) => /[aeiou]/i.test(character.normalize("NFD")[0]))],
  "capitals": [[/\p{Lu}/u], marked((character) => /\p{Lu}/u.test(character))],
  "what is in quotes": [[/["“]/], (characters) => {
    let inside = false;
    return characters.map((character) => {
      if (character === "“" || character === "”") inside = character === "“";
      if (character === '"') inside = !inside;
      return Number(inside);
    });
  }],
};

/**
 * Correlate units with a feature.
 *
 * @param states a state for each character.
 * @param values the feature's value for each character.
 * @returns the unit that follows the feature best: its index in the state and its coefficient r; null
 *   if the feature or all units have the same value everywhere.
 */
function mostCorrelated(states, values) {
  const n = values.length;
  const mean = values.reduce((total, value) => total + value, 0) / n;
  const variance = values.reduce((total, value) => total + (value - mean) ** 2, 0) / n;
  const size = n && states[0].length;
  const [sums, squares, products] = [1, 2, 3].map(() => new Float64Array(size));
  states.forEach((state, i) => {
    for (let unit = 0; unit < size; unit++) {
      sums[unit] += state[unit];
      squares[unit] += state[unit] ** 2;
      products[unit] += state[unit] * (values[i] - mean);
    }
  });
  let best = null;
  for (let unit = 0; unit < size; unit++) {
    const spread = squares[unit] / n - (sums[unit] / n) ** 2;
    if (variance === 0 || spread < 1e-9) continue;
    const r = products[unit] / n / Math.sqrt(variance * spread);
    if (best === null || Math.abs(r) > Math.abs(best.r)) best = { unit, r };
  }
  return best;
}
