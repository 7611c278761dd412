// The network: its parameters, one time step, and the choice of the next character.
//
// Parameters and states are 32-bit floats. A sum is computed in JavaScript's 64-bit numbers and
// rounded once, whereas MXNet rounds each partial sum to 32 bits and adds in another order. The scores
// agree to about six digits. So the most likely character is the same unless two are equally likely to
// six digits.

/** Return a 16-bit float from its bits. Infinity and NaN are never exported. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Return the numbers of an exported array: base64 of little-endian floats. */
function decode(data, dtype) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  if (dtype === "float32") {
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => half(view.getUint16(2 * i, true)));
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/**
 * Write weight · x + bias to out. The weight has out.length rows of x.length numbers.
 *
 * It computes four rows at a time, so that x is read once for four independent sums.
 */
function affine(weight, x, bias, out) {
  const columns = x.length;
  const rows = out.length;
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    const a = row * columns;
    const b = a + columns;
    const c = b + columns;
    const d = c + columns;
    let sumA = 0;
    let sumB = 0;
    let sumC = 0;
    let sumD = 0;
    for (let j = 0; j < columns; j++) {
      const value = x[j];
      sumA += weight[a + j] * value;
      sumB += weight[b + j] * value;
      sumC += weight[c + j] * value;
      sumD += weight[d + j] * value;
    }
    out[row] = sumA + bias[row];
    out[row + 1] = sumB + bias[row + 1];
    out[row + 2] = sumC + bias[row + 2];
    out[row + 3] = sumD + bias[row + 3];
  }
  for (; row < rows; row++) {
    let sum = 0;
    for (let j = 0; j < columns; j++) sum += weight[row * columns + j] * x[j];
    out[row] = sum + bias[row];
  }
}

/**
 * Update a layer's state from its gates: x is the part from the layer's input, y the part from its
 * own hidden state h. The order of the gates is Gluon's.
 */
const CELLS = {
  rnn_tanh(x, y, h) {
    for (let j = 0; j < h.length; j++) h[j] = Math.tanh(x[j] + y[j]);
  },
  rnn_relu(x, y, h) {
    for (let j = 0; j < h.length; j++) h[j] = Math.max(x[j] + y[j], 0);
  },
  gru(x, y, h) {
    const n = h.length;
    for (let j = 0; j < n; j++) {
      const reset = sigmoid(x[j] + y[j]);
      const update = sigmoid(x[n + j] + y[n + j]);
      const candidate = Math.tanh(x[2 * n + j] + reset * y[2 * n + j]);
      h[j] = (1 - update) * candidate + update * h[j];
    }
  },
  lstm(x, y, h, c) {
    const n = h.length;
    for (let j = 0; j < n; j++) {
      const input = sigmoid(x[j] + y[j]);
      const forget = sigmoid(x[n + j] + y[n + j]);
      const candidate = Math.tanh(x[2 * n + j] + y[2 * n + j]);
      const output = sigmoid(x[3 * n + j] + y[3 * n + j]);
      c[j] = forget * c[j] + input * candidate;
      h[j] = output * Math.tanh(c[j]);
    }
  },
};

class Network {
  /** @param model the page's JSON: the layers and the output layer, with their parameters. */
  constructor(model) {
    const read = (data) => decode(data, model.dtype);
    this.stateSize = 0;
    this.layers = model.layers.map((layer) => {
      const kinds = layer.cell === "lstm" ? ["h", "c"] : ["h"];
      const begin = this.stateSize; // where the layer's units begin in the state, h before c
      this.stateSize += kinds.length * layer.num_hiddens;
      const inputBias = read(layer.i2h_bias);
      return {
        ...{ cell: layer.cell, numHiddens: layer.num_hiddens, residual: layer.residual },
        ...{ kinds, begin, inputBias },
        inputWeight: read(layer.i2h_weight),
        hiddenWeight: read(layer.h2h_weight),
        hiddenBias: read(layer.h2h_bias),
        // length: gates times units
        fromInput: new Float32Array(inputBias.length),
        fromHidden: new Float32Array(inputBias.length),
      };
    });
    this.outputWeight = read(model.dense_weight);
    this.outputBias = read(model.dense_bias);
    this.vocabSize = this.outputBias.length;
  }

  /** Return the state before the first character: zeros. */
  beginState() {
    return new Float32Array(this.stateSize);
  }

  /** Read one character: update the state, and return the scores of the next character. */
  step(index, state) {
    let inputs = null; // the first layer's input is a one-hot vector
    for (const layer of this.layers) {
      const { begin, numHiddens, fromInput, fromHidden } = layer;
      const h = state.subarray(begin, begin + numHiddens);
      const c = state.subarray(begin + numHiddens, begin + 2 * numHiddens);
      if (inputs === null) {
        // The weight times a one-hot vector is one of its columns.
        for (let row = 0; row < fromInput.length; row++) {
          fromInput[row] = layer.inputWeight[row * this.vocabSize + index] + layer.inputBias[row];
        }
      } else {
        affine(layer.inputWeight, inputs, layer.inputBias, fromInput);
      }
      affine(layer.hiddenWeight, h, layer.hiddenBias, fromHidden);
      CELLS[layer.cell](fromInput, fromHidden, h, c);
      if (layer.residual) {
        inputs = h.map((value, j) => value + (inputs === null ? Number(j === index) : inputs[j]));
      } else {
        inputs = h;
      }
    }
    const scores = new Float32Array(this.vocabSize);
    affine(this.outputWeight, inputs, this.outputBias, scores);
    return scores;
  }
}

/** A generator of random numbers from 0 to below 1: a 32-bit counter whose bits are mixed. */
class Random {
  constructor(seed) {
    this.counter = Random.mixed(seed | 0);
  }

  static mixed(bits) {
    bits = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad);
    bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97);
    return bits ^ (bits >>> 15);
  }

  next() {
    this.counter = (this.counter + 0x9e3779b9) | 0; // odd: all 2³² values come before one returns
    return (Random.mixed(this.counter) >>> 0) / 2 ** 32;
  }
}

/**
 * Return the candidates for the next character, most likely first, and their probabilities.
 *
 * @param allowed indices of the tokens that are characters.
 * @param temperature 0 gives the same probabilities as 1.
 * @param topK maximum number of candidates; null for all.
 */
function candidates(scores, allowed, temperature, topK) {
  const order = [...allowed].sort((a, b) => scores[b] - scores[a]).slice(0, topK ?? undefined);
  const weights = order.map((i) => Math.exp((scores[i] - scores[order[0]]) / (temperature || 1)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return { order, probabilities: weights.map((weight) => weight / total) };
}

/** Return the next character's index: the most likely one at temperature 0, else a random one. */
function choose(scores, allowed, { temperature, topK, random }) {
  if (temperature === 0) return allowed.reduce((best, i) => (scores[i] > scores[best] ? i : best));
  const { order, probabilities } = candidates(scores, allowed, temperature, topK);
  let rest = random.next();
  for (let rank = 0; rank < order.length - 1; rank++) {
    rest -= probabilities[rank];
    if (rest < 0) return order[rank];
  }
  return order[order.length - 1];
}

// White space as in Python's \s, which cleaned the text. JavaScript's \s differs.
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;

/** Return a beginning cleaned like the text that the model was trained on. */
function cleaned(text, { lower, fold_whitespace }) {
  if (fold_whitespace) text = text.replace(WHITE_SPACE, " ");
  return lower ? text.toLowerCase() : text;
}
