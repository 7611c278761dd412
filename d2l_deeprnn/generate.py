"""Let a trained model write: greedily, or by drawing each character."""

from __future__ import annotations

import math
from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from ._checks import positive_int, whole_number
from ._mxnet import mx, nd
from .vocab import Vocab

# Greedy decoding reads so many characters at once from the device: often
# enough for somebody who watches, seldom enough not to wait for each.
PORTION = 16


def generate(
    model: Any,
    vocab: Vocab,
    prefixes: Sequence[str],
    num_chars: int,
    *,
    temperature: float = 0.0,
    top_k: Optional[int] = None,
    top_p: Optional[float] = None,
    seed: Optional[int] = None,
    ctx: Optional[mx.Context] = None,
    on_text: Optional[Callable[[int, str], Any]] = None,
) -> List[str]:
    """Continue prefixes, all of them in one batch.

    Special tokens such as ``<unk>`` are never written: they are no characters.

    Args:
        model: an ``RNNModel``.
        vocab: the vocabulary that it was trained with.
        prefixes: beginnings of texts, each of at least one character.
        num_chars: characters to add to each, 0 or more.
        temperature: 0 takes the most likely character each time, as the book
            does. Above 0, a character is drawn from softmax(scores /
            temperature): 1 is what the model has learnt, less is safer.
        top_k: draw from the k most likely characters only.
        top_p: draw from the nucleus only: as many of the most likely
            characters as it takes to hold this probability (Holtzman et al.,
            2020). After ``top_k``, where both are given.
        seed: the same number gives the same texts. The random generators of
            the caller are not used.
        ctx: device of the model; the CPU if None.
        on_text: called with the row of a prefix and what was added to it, as
            it comes.

    Returns:
        Each prefix and ``num_chars`` more characters.

    Raises:
        ValueError: if a prefix is empty or has an unknown character, or a
            number is out of its range; it is named.
        TypeError: if ``prefixes`` is a single string.
    """
    _check(vocab, prefixes, num_chars, temperature, top_k, top_p)
    ctx = ctx or mx.cpu()
    texts = list(prefixes)
    if num_chars == 0:
        return texts
    letters = np.array([isinstance(t, str) and len(t) == 1 for t in vocab.idx_to_token])
    forbidden = nd.array(np.where(letters, 0.0, -np.inf), ctx=ctx)
    # One generator a row: what is drawn for a prefix does not depend on the others.
    seeds = np.random.SeedSequence(seed).spawn(len(prefixes))
    generators = [np.random.Generator(np.random.PCG64(s)) for s in seeds]
    scores, state = _read_prefixes(model, vocab, prefixes, ctx)
    waiting: List[nd.NDArray] = []  # chosen on the device, not yet read
    for i in range(num_chars):
        scores = scores + forbidden
        if temperature == 0:
            chosen = scores.argmax(axis=1)  # (rows,)
        else:
            rows = zip(scores.asnumpy().astype(np.float64), generators)
            drawn = [_draw(row, temperature, top_k, top_p, rng) for row, rng in rows]
            chosen = nd.array(drawn, ctx=ctx)
        waiting.append(chosen)
        is_last = i == num_chars - 1
        if not is_last:
            scores, state = model(chosen.reshape((-1, 1)), state)
        if is_last or temperature > 0 or len(waiting) == PORTION:
            # (portion, rows) -> for each row its new characters
            indices = nd.stack(*waiting).asnumpy().astype(int).T.tolist()
            waiting = []
            for row, tokens in enumerate(indices):
                piece = "".join(vocab.to_tokens(tokens))
                texts[row] += piece
                if on_text is not None:
                    on_text(row, piece)
    return texts


def _read_prefixes(model: Any, vocab: Vocab, prefixes: Sequence[str], ctx: mx.Context) -> Any:
    """Scores after each prefix, (rows, vocab_size), and the states after them as one batch."""
    scores, states = [], []
    # One after the other, since they may differ in length.
    for prefix in prefixes:
        state = model.begin_state(batch_size=1, ctx=ctx)
        # Character by character: one shape for the compiled graph, whatever the length.
        for index in vocab.encode(prefix):
            output, state = model(nd.array([[index]], ctx=ctx), state)
        scores.append(output)
        states.append(state)
    axes = [info["__layout__"].index("N") for info in model.rnn.state_info(1)]
    kinds = zip(axes, zip(*states))
    return nd.concat(*scores, dim=0), [nd.concat(*kind, dim=axis) for axis, kind in kinds]


def _draw(
    scores: np.ndarray,
    temperature: float,
    top_k: Optional[int],
    top_p: Optional[float],
    generator: np.random.Generator,
) -> int:
    """Draw an index by its score."""
    order = np.argsort(-scores, kind="stable")[:top_k]  # most likely first
    # The largest exponent is 0, so that a small temperature cannot overflow.
    p = np.exp((scores[order] - scores[order[0]]) / temperature)
    p /= p.sum()
    if top_p is not None:
        size = int(np.searchsorted(np.cumsum(p), top_p)) + 1
        order, p = order[:size], p[:size] / p[:size].sum()
    return int(generator.choice(order, p=p))


def _check(
    vocab: Vocab,
    prefixes: Sequence[str],
    num_chars: int,
    temperature: float,
    top_k: Optional[int],
    top_p: Optional[float],
) -> None:
    if isinstance(prefixes, str):
        raise TypeError(f"prefixes must be a list of strings: [{prefixes!r}], not {prefixes!r}")
    if not prefixes:
        raise ValueError("prefixes is empty: give at least one")
    for prefix in prefixes:
        if not prefix:
            raise ValueError("a prefix is empty: give at least one character to start from")
        unknown = sorted({char for char in prefix if char not in vocab.token_to_idx})
        if unknown:
            raise ValueError(f"not in the vocabulary: {unknown} in prefix {prefix!r}")
    whole_number("num_chars", num_chars, 0)
    if not (0 <= temperature < math.inf):
        raise ValueError(f"temperature must be a number of at least 0, not {temperature!r}")
    if top_k is not None:
        positive_int("top_k", top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, not {top_p!r}")
    if temperature == 0 and not (top_k is None and top_p is None):
        raise ValueError("top_k and top_p need a temperature above 0: at 0 nothing is drawn")
