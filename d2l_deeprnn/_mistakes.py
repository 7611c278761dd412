r"""The usual mistakes in the exercises, and their names, for ``check``.

Each text below has the correct code, an empty line, and the mistakes: a line with a part of the
code, and below it what stands there if the mistake is made, and what it is called. ``&`` separates
parts that change together.
"""

from __future__ import annotations

import itertools
import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

Mistake = Tuple[str, Sequence[Tuple[str, str]]]  # its message, and replacements in the code

TWO_LAYER_RNN = """
def f(inputs, state, params):
    W_xh1, W_hh1, b_h1, W_xh2, W_hh2, b_h2, W_hq, b_q = params
    H1, H2 = state
    outputs = []
    for X in inputs:
        H1_new = tanh(dot(X, W_xh1) + dot(H1, W_hh1) + b_h1)
        H2_new = tanh(dot(H1_new, W_xh2) + dot(H2, W_hh2) + b_h2)
        outputs.append(dot(H2_new, W_hq) + b_q)
        H1, H2 = H1_new, H2_new
    return outputs, (H1_new, H2_new)

dot(H1_new, W_xh2)
    dot(X, W_xh2) | Layer 2 reads the input instead of the new state of layer 1
    dot(H1, W_xh2) | The layers are swapped: layer 2 reads layer 1 before its new state is computed
W_xh1, W_hh1, b_h1, W_xh2, W_hh2, b_h2
    W_xh2, W_hh2, b_h2, W_xh1, W_hh1, b_h1 | The layers are swapped: each has the other's parameters
W_hh1, b_h1, W_xh2, W_hh2
    W_hh2, b_h1, W_xh2, W_hh1 | `W_hh1` and `W_hh2` are swapped
H1, H2 = state
    H1, H2 = state[0], state[0] | Both layers start from the state of layer 1
    H2, H1 = state | The states of the layers are swapped on entry
    H1, H2 = 0 * state[0], 0 * state[1] | The argument `state` is not used: the first step has zeros
dot(H1, W_hh1)
    dot(H2, W_hh1) | The layers share a state: layer 1 reads that of layer 2
dot(H2, W_hh2)
    dot(H1, W_hh2) | The layers share a state: layer 2 reads that of layer 1
    dot(H1_new, W_hh2) | The layers share a state: layer 2 reads that of layer 1
H1, H2 = state & dot(H1, W_hh1) & dot(H2, W_hh2) & (H1_new, H2_new)
    H2 = state[0] & dot(H2, W_hh1) & dot(H1_new, W_hh2) & (H2, H2) | The layers share one variable
    H2 = state[1] & dot(H2, W_hh1) & dot(H1_new, W_hh2) & (H2, H2) | The layers share one variable
H1, H2 = H1_new, H2_new
    pass | The state is not passed on: every step reads the first one
    H1 = H1_new | The state of layer 2 is not passed on: every step reads the first one
    H2 = H2_new | The state of layer 1 is not passed on: every step reads the first one
    H1, H2 = 0 * H1, 0 * H2 | The state is not passed on: after the first step it is zeros
dot(H1, W_hh1) & dot(H2, W_hh2)
    0 & 0 | The state is not passed on: every step starts from zeros
outputs, (H1_new, H2_new)
    outputs, (H2_new, H1_new) | The states of the layers are swapped on return
    outputs, state | The state is not passed on: the function returns the one that it received
outputs.append(dot(H2_new, W_hq) + b_q)
    outputs.append(dot(H1_new, W_hq) + b_q) | The output layer reads layer 1 instead of layer 2
    outputs.append(dot(H2, W_hq) + b_q) | The output layer reads the state of the step before
    outputs.append(H2_new) | The output layer is missing
    outputs.append(softmax(dot(H2_new, W_hq) + b_q)) | The softmax belongs to the loss
    outputs.append(tanh(dot(H2_new, W_hq) + b_q)) | The output layer has an extra tanh
    outputs.insert(0, dot(H2_new, W_hq) + b_q) | The outputs are in reverse order
"""
LSTM_STEP = """
def f(X, H, C, i, f, o, c):
    (W_xi, W_hi, b_i), (W_xf, W_hf, b_f), (W_xo, W_ho, b_o), (W_xc, W_hc, b_c) = i, f, o, c
    I = sigmoid(dot(X, W_xi) + dot(H, W_hi) + b_i)
    F = sigmoid(dot(X, W_xf) + dot(H, W_hf) + b_f)
    O = sigmoid(dot(X, W_xo) + dot(H, W_ho) + b_o)
    C_tilda = tanh(dot(X, W_xc) + dot(H, W_hc) + b_c)
    C_new = F * C + I * C_tilda
    return O * tanh(C_new), C_new

O * tanh(C_new)
    O * C_new | The tanh is left out of the output
    O * sigmoid(C_new) | Sigmoid instead of tanh in the output
    tanh(O * C_new) | The output gate is inside the tanh
    tanh(C_new) | The output gate is not used
    O * tanh(C) | The output reads the memory of the step before
    O * tanh(C_tilda) | The output reads the candidate instead of the new memory
F * C + I * C_tilda
    I * C + F * C_tilda | The input gate and the forget gate are swapped
    F * C + C_tilda | The input gate is not used
    C + I * C_tilda | The forget gate is not used
    F * C + (1 - F) * C_tilda | `1 - F` instead of the input gate
    F * H + I * C_tilda | The forget gate keeps the state `H` instead of the memory `C`
    tanh(F * C + I * C_tilda) | The new memory has an extra tanh
dot(H,
    dot(C, | The gates read the memory instead of the state
O * tanh(C_new), C_new
    C_new, O * tanh(C_new) | `H` and `C` are returned in the wrong order
tanh(C_new), C_new
    tanh(C_new), C | The memory is not passed on: the function returns the one that it received
"""
GRU_STEP = """
def f(X, H, z, r, h):
    (W_xz, W_hz, b_z), (W_xr, W_hr, b_r), (W_xh, W_hh, b_h) = z, r, h
    Z = sigmoid(dot(X, W_xz) + dot(H, W_hz) + b_z)
    R = sigmoid(dot(X, W_xr) + dot(H, W_hr) + b_r)
    H_tilda = tanh(dot(X, W_xh) + dot(R * H, W_hh) + b_h)
    return Z * H + (1 - Z) * H_tilda

dot(R * H, W_hh) + b_h
    R * dot(H, W_hh) + b_h | The reset gate acts after the product, as in Gluon, not in the book
    R * (dot(H, W_hh) + b_h) | The reset gate acts after the product, as in Gluon, not in the book
    dot(H, W_hh) + b_h | The reset gate is not used
    dot(Z * H, W_hh) + b_h | The update gate instead of the reset gate
    dot((1 - R) * H, W_hh) + b_h | The reset gate is the other way round
dot(X, W_xh) + dot(R * H, W_hh)
    R * (dot(X, W_xh) + dot(H, W_hh)) | The reset gate acts on the input too
    dot(R * X, W_xh) + dot(H, W_hh) | The reset gate acts on the input instead of the state
Z * H + (1 - Z) * H_tilda
    (1 - Z) * H + Z * H_tilda | The update gate is the other way round
    Z * R * H + (1 - Z) * H_tilda | The reset gate acts on the kept state too
    Z * H + H_tilda | The candidate lacks `1 - Z`
    Z * H + Z * H_tilda | The candidate has `Z` instead of `1 - Z`
    H + (1 - Z) * H_tilda | The old state lacks `Z`
    (1 - Z) * H_tilda | The old state is missing
"""
GRAD_CLIPPING = """
def f(params, grads, theta):
    norm = sqrt(sum((grad ** 2).sum() for grad in grads))
    factor = theta / norm if norm > theta else 1
    return [grad * factor for grad in grads]

if norm > theta else 1
    | The gradients are scaled although their norm is below theta
    if norm < theta else 1 | The gradients are clipped when their norm is below theta
    if False else 1 | No gradient has changed. Assign to `param.grad[:]`: a new array has no effect.
[grad * factor for grad in grads]
    [g * min(1, theta / sqrt((g**2).sum())) for g in grads] | Each array is clipped by itself
    [g * theta / sqrt((g**2).sum()) for g in grads] | Each array is clipped by itself
    [clip(g, -theta, theta) for g in grads] | Each element is clipped by itself
    [grads[0] * factor, *grads[1:]] | Only the first array is scaled
    [*grads[:-1], grads[-1] * factor] | Only the last array is scaled
sqrt(sum((grad ** 2).sum() for grad in grads))
    sum((grad ** 2).sum() for grad in grads) | The square root of the norm is missing
    sqrt(sum((grad ** 2).mean() for grad in grads)) | The norm uses means instead of sums
    sum(abs(grad).sum() for grad in grads) | The norm has absolute values instead of squares
    sum(sqrt((grad ** 2).sum()) for grad in grads) | The norms of the arrays are added
    max(sqrt((grad ** 2).sum()) for grad in grads) | The norm is that of the largest array
    sqrt((grads[-1] ** 2).sum()) | The norm is that of the last array
    sqrt((grads[0] ** 2).sum()) | The norm is that of the first array
    sqrt(sum((param ** 2).sum() for param in params)) | The norm is of the parameters
theta / norm if
    norm / theta if | The factor is upside down
    1 / norm if | The new norm is 1 instead of theta
    theta if | The gradients are not divided by their norm
"""
# Mistakes that can be made in any line, and at once in all: regular expressions.
ANYWHERE = r"""
\+ (b_\w+)
    + 0 | A bias is missing
    + 2 * \1 | A bias is added twice (where Gluon has two, the book has one)
dot\(([^,]+), (W_\w+)\)
    dot(\1, \2.T) | Transposed weights
    dot(\2, \1) | The factors of a matrix product are swapped
    (\1 * \2) | `*` instead of the matrix product `nd.dot`
    0 | A product is missing
(\w+) = tanh\(
    \1 = sigmoid( | Sigmoid instead of tanh
    \1 = relu( | ReLU instead of tanh
    \1 = ( | The tanh is left out
(\w+) = sigmoid\(
    \1 = tanh( | Tanh instead of sigmoid in a gate
    \1 = ( | The sigmoid of a gate is left out
(W_x\w+), (W_h\w+), b
    \2, \1, b | The weights of the input and of the state are swapped
"""

FUNCTIONS: Dict[str, Any] = {"dot": np.dot, "tanh": np.tanh, "sqrt": np.sqrt, "clip": np.clip}
FUNCTIONS["sigmoid"] = lambda x: 1 / (1 + np.exp(-x))
FUNCTIONS["relu"] = lambda x: np.maximum(x, 0)
FUNCTIONS["softmax"] = lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


def explain(text: str, cases: Sequence[Any], results: Sequence[Any]) -> Optional[str]:
    """Plant no mistake, then one, then two in correct code, until it returns given results.

    Args:
        text: one of the texts of this module.
        cases: the arguments of each call, nested lists of NumPy arrays.
        results: for each call, the list of the arrays that the reader's function returned.

    Returns:
        What to tell the reader. It is empty if the results are right, and None if no two mistakes
        of the text explain them.
    """
    code, mistakes = _parse(text)
    for number in range(3):
        for combination in itertools.combinations(mistakes, number):
            planted = code
            for old, new in itertools.chain(*(replacements for _, replacements in combination)):
                planted = planted.replace(old, new)  # nothing, if the first mistake removed it
            if _returns(planted, cases, results):
                messages = [message for message, _ in combination]
                return " ".join(["There are two mistakes."] * (number - 1) + messages)
    return None


def _parse(text: str) -> Tuple[str, List[Mistake]]:
    """Return the correct code and its mistakes."""
    code, table = text.split("\n\n")

    def mistake(name: str, replacements: Sequence[Tuple[str, str]]) -> Mistake:
        if name.endswith("."):
            return name, replacements
        lines = [line for line in code.split("\n") if any(old in line for old, _ in replacements)]
        shown = " and ".join(f"`{line.strip()}`" for line in lines[:2])
        return f"{name}. Compare with {shown}.", replacements

    mistakes = []
    for part, wrong, name in _entries(table):
        mistakes.append(mistake(name, list(zip(part.split(" & "), wrong.split(" & ")))))
    for pattern, wrong, name in _entries(ANYWHERE):
        matches = list(re.finditer(pattern, code))
        kinds = [[match for match in matches if kind in match[0]] for kind in ("", "W_x", "W_h")]
        for places in [*([match] for match in matches), *kinds]:
            mistakes.append(mistake(name, [(match[0], match.expand(wrong)) for match in places]))
    for gates in re.findall(r"= (\w(?:, \w)+)\n", code):
        for order in itertools.permutations(gates.split(", ")):
            wrong = ", ".join(order)
            name = f"The gates take their parameters in another order, `{wrong}`"
            mistakes.append(mistake(name, [(f"= {gates}", f"= {wrong}")]))
    return code, mistakes


def _entries(table: str) -> Iterator[Tuple[str, str, str]]:
    """Yield parts of the code, what stands there instead of them, and the mistakes' names."""
    part = ""
    for line in table.strip("\n").split("\n"):
        if line.startswith(" "):
            wrong, name = line.split("|")
            yield part, wrong.strip(), name.strip()
        else:
            part = line


def _returns(code: str, cases: Sequence[Any], results: Sequence[Any]) -> bool:
    """Return whether the function ``f`` of a code returns these results."""
    names = dict(FUNCTIONS)
    try:
        exec(code, names)
        with np.errstate(all="ignore"):
            return all(equal(leaves(names["f"](*c)), result) for c, result in zip(cases, results))
    except Exception:  # two mistakes can make code that does not run
        return False


def leaves(nested: Any) -> List[Any]:
    """Return the values in nested lists, tuples and dictionaries."""
    if isinstance(nested, dict):
        nested = list(nested.values())
    if isinstance(nested, (list, tuple)):
        return [leaf for value in nested for leaf in leaves(value)]
    return [nested]


def equal(arrays: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
    """Return whether arrays are equal up to the rounding of float32."""
    return len(arrays) == len(others) and all(
        a.shape == b.shape and np.abs(a - b).max() <= 1e-4 * max(np.abs(b).max(), 1e-3)
        for a, b in zip(arrays, others)
    )


def explain_minibatches(
    batches: Sequence[Sequence[np.ndarray]], text: np.ndarray, b: int, s: int
) -> Optional[str]:
    """Return what is wrong with the minibatches (X, Y) of a text, if anything.

    Args:
        batches: the first minibatches, at most one more than the text has characters.
        text: a permutation of range(n), so that each number shows its position.
        b, s: batch_size and num_steps.
    """
    n, k, shapes = len(text), len(batches), {array.shape for pair in batches for array in pair}
    if not batches:
        return "There is no minibatch. Is a `yield` or `return` missing?"
    if k > n:
        return "The minibatches do not end. Stop where the rows of the text end."
    if shapes != {(b, s)} == {array.shape for pair in batches[:-1] for array in pair}:
        return "The last minibatch is too short. Stop while each row has `num_steps` labels."
    if shapes != {(b, s)}:
        found = " and ".join(map(str, shapes - {(b, s)}))
        return f"`X` or `Y` has the shape {found} instead of (batch_size, num_steps), {(b, s)}."
    if not np.isin(batches, text).all():
        return "A minibatch has numbers that are not in the text."
    X, Y = np.argsort(text)[np.array(batches, int)].swapaxes(0, 1)  # positions
    labels, columns, starts = Y - X, np.diff(X, axis=2), X[:, :, 0]
    moves, rows, offset = np.diff(starts, axis=0), np.diff(starts[0]), starts[0, 0]
    # Some editions leave out the last character before they fold the text.
    lengths = [(n - offset) // b, (n - offset - 1) // b]
    if b > 1 and (columns == b).all():
        return "The text runs down the columns. Fold it with `reshape((batch_size, -1))`."
    if (columns != 1).any():
        return "The characters of a row do not follow each other in the text."
    if (labels == 0).all():
        return "The labels are not shifted: `Y` equals `X`. It must begin one character later."
    if (labels == -1).all():
        return "The labels are shifted the wrong way: `Y` must begin one character after `X`."
    if (labels[:, :, :-1] == 1).all() and (labels != 1).any():
        return "The last label of a row is wrong: it is the character that follows the row of `X`."
    if (labels != 1).any():
        return "The labels are wrong: `Y` must be `X` shifted by one character."
    if k > 1 and b > 1 and (moves == b * s).all():
        return (
            "Rows are not continued from minibatch to minibatch, but within one. Fold the text "
            "into `batch_size` rows first, then cut them into `num_steps` columns."
        )
    if k > 1 and (moves == moves[0, 0]).all() and moves[0, 0] != s:
        return f"A minibatch begins {moves[0, 0]} characters after the last one, not `num_steps`."
    if (moves != s).any():
        return (
            "Rows are not continued from minibatch to minibatch: row i must begin where row i of "
            "the last minibatch ended. In random sampling it does not."
        )
    if b > 1 and not any((rows == length).all() for length in lengths):
        return "The rows are not `batch_size` equal parts of the text, one after the other."
    if offset > s:
        return f"The first minibatch begins at character {offset}. It must be below `num_steps`."
    if k < (lengths[1] - 1) // s:
        return "Minibatches are missing at the end: continue while `num_steps` labels remain."
    return None
