"""Let a trained model write: greedily, or by drawing each character."""

from __future__ import annotations

import itertools
import math
import numbers
from typing import Any, Callable, Iterable, List, Optional, Sequence, Union

import numpy as np

from .._checks import positive_int, prefix_list, whole_number
from .._mxnet import mx, nd
from .._mxnet.context import check_ctx, device_of
from ..nn.fast import one_step
from ..nn.model import check_vocab
from ..text.vocab import Vocab, describe_unknown

# Greedy decoding reads so many characters at once from the device: often
# enough for somebody who watches, seldom enough not to wait for each.
PORTION = 16


def generate(
    model: Any,
    vocab: Vocab,
    prefixes: Iterable[str],
    num_chars: int,
    *,
    temperature: float = 0.0,
    top_k: Optional[int] = None,
    top_p: Optional[float] = None,
    seed: Optional[int] = None,
    stop: Union[str, Iterable[str]] = (),
    ctx: Optional[mx.Context] = None,
    on_text: Optional[Callable[[int, str], Any]] = None,
    rows: Optional[range] = None,
) -> List[str]:
    """Continue prefixes, all of them in one batch.

    Special tokens such as ``<unk>`` are never written: they are no characters.

    Args:
        model: an ``RNNModel``, or what takes and returns the same.
        vocab: the vocabulary that it was trained with.
        prefixes: beginnings of texts, each of at least one character.
        num_chars: characters to add to each, 0 or more; with ``stop``, at most.
        temperature: 0 takes the most likely character each time, as the book
            does. Above 0, a character is drawn from softmax(scores /
            temperature): 1 is what the model has learnt, less is safer.
        top_k: draw from the k most likely characters only.
        top_p: draw from the nucleus only: as many of the most likely
            characters as it takes to hold this probability (Holtzman et al.,
            2020). After ``top_k``, where both are given.
        seed: the same number gives the same texts. The random generators of
            the caller are not used.
        stop: a text, or several. A row ends as soon as one of them has been added
            to it, and keeps it: ``"."`` ends a row after its first full stop.
        ctx: device of the model; that of its parameters if None.
        on_text: called with the row of a prefix and what was added to it, as
            it comes.
        rows: which prefixes to continue; all if None. What is drawn for a prefix
            does not depend on it, so that processes can share them.

    Returns:
        Each of these prefixes and the characters added to it.

    Raises:
        ValueError: if a prefix or a stop text is empty or has an unknown character, if a
            number or a row is out of its range, if the model was made for another
            vocabulary, or if its scores are not finite.
        TypeError: if ``prefixes`` does not hold strings, or is one, if ``stop`` holds
            something else, or if ``ctx`` is not one device.
    """
    check_ctx(ctx)
    prefixes = prefix_list(prefixes)
    stops = [stop] if isinstance(stop, str) else list(stop)
    _check(model, vocab, prefixes, num_chars, temperature, top_k, top_p, seed, stops)
    ctx = ctx or device_of(model)
    # One generator a row: what is drawn for a prefix does not depend on the others.
    seeds = np.random.SeedSequence(seed).spawn(len(prefixes))
    if rows is not None:
        if not isinstance(rows, range) or not set(rows) <= set(range(len(prefixes))):
            raise ValueError(
                f"rows must be a range within range({len(prefixes)}), the prefixes, not {rows!r}"
            )
        prefixes, seeds = [prefixes[row] for row in rows], [seeds[row] for row in rows]
    texts = list(prefixes)
    ended = [False] * len(texts)
    longest_stop = max(map(len, stops), default=0)
    if num_chars == 0 or not texts:
        return texts
    letters = np.array([isinstance(t, str) and len(t) == 1 for t in vocab.idx_to_token])
    forbidden = nd.array(np.where(letters, 0.0, -np.inf), ctx=ctx)
    alphabet = nd.arange(len(letters), ctx=ctx).reshape((-1, 1))
    generators = [np.random.Generator(np.random.PCG64(s)) for s in seeds]
    # The rows go through the model side by side. One whose prefix has ended
    # writes while another still reads, and ends earlier.
    starts = np.array([len(prefix) for prefix in prefixes])
    longest, end = starts.max(), starts.max() + num_chars
    given = np.zeros((longest, len(prefixes), 1))
    for row, prefix in enumerate(prefixes):
        given[: len(prefix), row, 0] = vocab.encode(prefix)
    step = one_step(model)
    state = model.begin_state(batch_size=len(prefixes), ctx=ctx)
    current = nd.array(given[0], ctx=ctx)  # indices at the position before i
    waiting: List[Any] = []  # the indices after that, not yet written
    for i in range(1, end):
        scores, state = step(current, state)
        if scores.shape != (len(prefixes), len(vocab)):
            raise ValueError(
                f"the model gives scores of shape {scores.shape} for {len(prefixes)} characters, "
                f"but the vocabulary has {len(vocab)}: it must give one score per character"
            )
        reads = i < starts  # the others write
        if temperature == 0:
            # All of it stays on the device, which nobody waits for.
            current = (
                (scores + forbidden.astype(scores.dtype, copy=False))
                .argmax(axis=1, keepdims=True)
                .astype("float32", copy=False)
            )
            if reads.any():
                of_prefixes = nd.array(given[i], ctx=ctx)
                current = nd.where(nd.array(reads[:, None], ctx=ctx), of_prefixes, current)
            waiting.append(current)
        else:
            indices = given[i].copy() if reads.any() else np.zeros((len(prefixes), 1))
            if not reads.all():
                of_writers = np.where(letters, scores.asnumpy()[~reads].astype(np.float64), -np.inf)
                of_rows = list(itertools.compress(generators, ~reads))
                indices[~reads, 0] = _draw(of_writers, temperature, top_k, top_p, of_rows)
            # To copy it to the device takes longer than to find it there.
            one = int(indices[0, 0])
            current = alphabet[one : one + 1] if len(indices) == 1 else nd.array(indices, ctx=ctx)
            waiting.append(indices)
        if i == end - 1 or temperature > 0 or len(waiting) == PORTION:
            read = nd.stack(*waiting).asnumpy() if temperature == 0 else np.stack(waiting)
            indices = read.astype(int)[:, :, 0]  # (portion, rows)
            first = i + 1 - len(waiting)
            waiting = []
            for row, start in enumerate(starts):
                if ended[row]:
                    continue
                begin = max(start - first, 0)
                new = indices[begin : max(start + num_chars - first, 0), row]
                # The most likely of scores that are no numbers is a forbidden one.
                if not letters[new].all():
                    raise _not_finite()
                piece = "".join(vocab.to_tokens(new.tolist()))
                # A stop text may have begun in what was added before.
                before = texts[row][max(start, len(texts[row]) - longest_stop) :]
                end_of_row = _end_of_stop(before, piece, stops)
                piece = piece[:end_of_row]
                texts[row] += piece
                ended[row] = end_of_row is not None or len(texts[row]) == start + num_chars
                if piece and on_text is not None:
                    on_text(row, piece)
            if all(ended):
                break
    return texts


def _end_of_stop(before: str, piece: str, stops: Sequence[str]) -> Optional[int]:
    """Find where in a piece the first stop text ends, if one does; it may begin before."""
    ends = []
    for stop in stops:
        begin = max(len(before) + 1 - len(stop), 0)
        found = (before + piece).find(stop, begin)
        if found >= 0:
            ends.append(found + len(stop) - len(before))
    return min(ends, default=None)


def _draw(
    scores: np.ndarray,
    temperature: float,
    top_k: Optional[int],
    top_p: Optional[float],
    generators: Sequence[np.random.Generator],
) -> np.ndarray:
    """Draw an index in each row of scores, with the row's generator."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]  # most likely first
    ranked = np.take_along_axis(scores, order, axis=1)
    if not np.isfinite(ranked[:, 0]).all() or np.isnan(scores).any():
        raise _not_finite()
    # The largest exponent is 0: a small temperature makes the others -inf at worst.
    with np.errstate(over="ignore"):
        p = np.exp((ranked - ranked[:, :1]) / temperature)
    cumulated = np.cumsum(p / p.sum(axis=1, keepdims=True), axis=1)
    if top_p is not None:
        sizes = (cumulated < top_p).sum(axis=1, keepdims=True) + 1
        beyond = np.arange(p.shape[1]) >= sizes
        cumulated = np.cumsum(np.where(beyond, 0.0, p), axis=1)
    uniform = np.array([[generator.random()] for generator in generators])
    drawn = (cumulated / cumulated[:, -1:] <= uniform).sum(axis=1, keepdims=True)
    return np.take_along_axis(order, drawn, axis=1)[:, 0]


def _not_finite() -> ValueError:
    return ValueError(
        "the model's scores are not finite: training diverged, or its parameters are damaged; "
        "use an earlier checkpoint"
    )


def _check(
    model: Any,
    vocab: Vocab,
    prefixes: Sequence[str],
    num_chars: int,
    temperature: float,
    top_k: Optional[int],
    top_p: Optional[float],
    seed: Optional[int],
    stops: Sequence[str],
) -> None:
    if not prefixes:
        raise ValueError("prefixes is empty: give at least one")
    for prefix in prefixes:
        if not isinstance(prefix, str):
            raise TypeError(f"prefixes must hold strings, not {prefix!r}")
        if not prefix:
            raise ValueError("a prefix is empty: give at least one character to start from")
        check_known("prefix", prefix, vocab)
    for stop in stops:
        if not isinstance(stop, str):
            raise TypeError(f"stop must hold strings, not {stop!r}")
        if not stop:
            raise ValueError("a stop text is empty: give at least one character")
        check_known("stop text", stop, vocab)
    check_vocab(model, vocab)
    whole_number("num_chars", num_chars, 0)
    if not _is_number(temperature) or not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be a number of at least 0, not {temperature!r}")
    if top_k is not None:
        positive_int("top_k", top_k)
    if top_p is not None and not (_is_number(top_p) and 0 < top_p <= 1):
        raise ValueError(f"top_p must be above 0 and at most 1, not {top_p!r}")
    if temperature == 0 and not (top_k is None and top_p is None):
        raise ValueError("top_k and top_p need a temperature above 0: at 0 nothing is drawn")
    if seed is not None:
        whole_number("seed", seed, 0)


def check_known(name: str, text: str, vocab: Vocab) -> None:
    """Raise a ValueError if a character of a text is not in the vocabulary."""
    unknown = describe_unknown(name, text, vocab)
    if unknown:
        raise ValueError(f"not in the vocabulary: {unknown}")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
