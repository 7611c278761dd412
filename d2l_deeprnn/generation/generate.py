"""Generate text with a trained model: greedily, or by drawing each character."""

from __future__ import annotations

import itertools
import math
import numbers
from typing import Any, Callable, Iterable, List, Optional, Sequence, Union

import numpy as np

from .._checks import string_list, whole_number
from .._mxnet import at_least_float32, mx, nd
from .._mxnet.library import check_ctx, device_of
from ..nn.fast import one_step
from ..nn.model import check_vocab
from ..text.vocab import Vocab, describe_unknown

# Characters that greedy decoding reads from the device at once: reading each would wait for each.
CHUNK = 16


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
    """Continue prefixes in one batch.

    Special tokens such as ``<unk>`` are not characters, and are never generated.

    Args:
        model: an ``RNNModel``, or a model with the same call.
        vocab: the vocabulary that it was trained with.
        prefixes: beginnings of texts, each of at least one character.
        num_chars: characters to add to each, 0 or more; with ``stop``, the maximum.
        temperature: 0 takes the most likely character each time, as the book does. Above 0, a
            character is drawn from softmax(scores / temperature): 1 draws from the learned
            distribution, less is safer.
        top_k: draw from the k most likely characters only.
        top_p: draw from the nucleus only: the fewest most likely characters that together have this
            probability (Holtzman et al., 2020). With ``top_k``, it is applied second.
        seed: the same seed gives the same texts. The caller's random generators are not used.
        stop: one text or several. A row ends after the first of them that is added to it: ``"."``
            ends it after its first full stop.
        ctx: device of the model; that of its parameters if None.
        on_text: called with the index of a text in the result, and what was just added to it.
        rows: which prefixes to continue; all if None. The text drawn for a prefix does not depend
            on it, so that several processes can share the prefixes.

    Returns:
        Each of these prefixes, followed by the characters added to it.

    Raises:
        ValueError: if a prefix or a stop text is empty or has an unknown character, if a number or
            a row is out of its range, if the model was made for another vocabulary, or if its
            scores are not finite.
        TypeError: if ``prefixes`` is not a list of strings, ``stop`` neither a string nor such a
            list, ``vocab`` not a ``Vocab``, or ``ctx`` not one device.
    """
    check_ctx(ctx)
    prefixes = string_list("prefixes", prefixes)
    stops = string_list("stop", [stop] if isinstance(stop, str) else stop)
    _check(model, vocab, prefixes, num_chars, temperature, top_k, top_p, seed, stops)
    ctx = ctx or device_of(model)
    # One generator per row: the text drawn for a prefix does not depend on the others.
    seeds = np.random.SeedSequence(seed).spawn(len(prefixes))
    if rows is not None:
        if not isinstance(rows, range) or not set(rows) <= set(range(len(prefixes))):
            raise ValueError(
                f"rows must be a range within range({len(prefixes)}), the prefixes, not {rows!r}"
            )
        prefixes, seeds = [prefixes[row] for row in rows], [seeds[row] for row in rows]
    if num_chars == 0 or not prefixes:
        return prefixes
    is_char = np.array([_is_char(token) for token in vocab.idx_to_token])
    forbidden = nd.array(np.where(is_char, 0.0, -np.inf), ctx=ctx)
    alphabet = nd.arange(len(is_char), ctx=ctx).reshape((-1, 1))
    generators = [np.random.Generator(np.random.PCG64(s)) for s in seeds]
    texts = _Texts(prefixes, num_chars, stops, vocab, on_text)
    # All rows take their steps together. One with a shorter prefix writes while others still read.
    starts = np.array([len(prefix) for prefix in prefixes])
    given = np.zeros((starts.max(), len(prefixes), 1))
    for row, prefix in enumerate(prefixes):
        given[: len(prefix), row, 0] = vocab.encode(prefix)
    end = starts.max() + num_chars
    step = one_step(model)
    state = model.begin_state(batch_size=len(prefixes), ctx=ctx)
    current = nd.array(given[0], ctx=ctx)  # indices at the position before i
    chunk: List[Any] = []  # indices at the positions up to i that are not in the texts yet
    unchecked: List[nd.NDArray] = []  # the scores that greedy decoding took them from
    for i in range(1, end):
        scores, state = step(current, state)
        if scores.shape != (len(prefixes), len(vocab)):
            raise ValueError(
                f"the model returns scores of shape {scores.shape} for {len(prefixes)} characters, "
                f"but the vocabulary has {len(vocab)}: it must return one score per character"
            )
        reads = i < starts  # the other rows write
        if temperature == 0:
            # All arrays stay on the device, so that nothing waits for it. Use single precision: an
            # argmax has the type of its argument, and float16 has no index above 2048.
            scores = at_least_float32(scores)
            allowed = scores + forbidden.astype(scores.dtype, copy=False)
            unchecked.append(allowed)
            current = allowed.argmax(axis=1, keepdims=True).astype("float32", copy=False)
            if reads.any():
                read = nd.array(given[i], ctx=ctx)
                current = nd.where(nd.array(reads[:, None], ctx=ctx), read, current)
            chunk.append(current)
        else:
            indices = given[i].copy() if reads.any() else np.zeros((len(prefixes), 1))
            if not reads.all():
                writers = scores.asnumpy()[~reads].astype(np.float64)
                allowed = np.where(is_char, writers, -np.inf)
                drawing = list(itertools.compress(generators, ~reads))
                indices[~reads, 0] = _draw(allowed, temperature, top_k, top_p, drawing)
            # Slicing an array on the device is faster than copying one index there.
            one = int(indices[0, 0])
            current = alphabet[one : one + 1] if len(indices) == 1 else nd.array(indices, ctx=ctx)
            chunk.append(indices)
        if i == end - 1 or temperature > 0 or len(chunk) == CHUNK:
            if temperature == 0:
                chunk = list(nd.stack(*chunk).asnumpy())
                _check_finite(nd.stack(*unchecked).asnumpy())
                unchecked = []
            indices = np.stack(chunk).astype(int)[:, :, 0]  # (steps, rows)
            texts.add(indices, i + 1 - len(chunk))
            chunk = []
            if all(texts.ended):
                break
    return texts.texts


class _Texts:
    """The texts as they grow, each from its prefix to a stop text or to its full length."""

    def __init__(
        self,
        prefixes: Sequence[str],
        num_chars: int,
        stops: Sequence[str],
        vocab: Vocab,
        on_text: Optional[Callable[[int, str], Any]],
    ) -> None:
        self.texts = list(prefixes)
        self.ended = [False] * len(prefixes)
        self._starts = [len(prefix) for prefix in prefixes]
        self._num_chars, self._stops, self._vocab, self._on_text = num_chars, stops, vocab, on_text
        self._longest_stop = max(map(len, stops), default=0)

    def add(self, indices: np.ndarray, position: int) -> None:
        """Add a chunk of indices, (steps, rows), whose first step is at a position of the texts."""
        for row, start in enumerate(self._starts):
            if self.ended[row]:
                continue
            first, last = start - position, start + self._num_chars - position
            new = indices[max(first, 0) : max(last, 0), row]
            tokens = self._vocab.to_tokens(new.tolist())
            text, added = self.texts[row], "".join(tokens)
            end = self._end_of_stop(text[max(start, len(text) - self._longest_stop) :], added)
            self.texts[row] = text + added[:end]
            self.ended[row] = end is not None or len(self.texts[row]) == start + self._num_chars
            if added[:end] and self._on_text is not None:
                self._on_text(row, added[:end])

    def _end_of_stop(self, before: str, added: str) -> Optional[int]:
        """Return where in ``added`` the first stop text ends, if one does; it may begin before."""
        ends = []
        for stop in self._stops:
            begin = max(len(before) + 1 - len(stop), 0)
            place = (before + added).find(stop, begin)
            if place >= 0:
                ends.append(place + len(stop) - len(before))
        return min(ends, default=None)


def _draw(
    scores: np.ndarray,
    temperature: float,
    top_k: Optional[int],
    top_p: Optional[float],
    generators: Sequence[np.random.Generator],
) -> np.ndarray:
    """Draw an index from each row of scores, with the row's generator."""
    _check_finite(scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]  # most likely first
    ranked = np.take_along_axis(scores, order, axis=1)
    # The largest exponent is 0; a small temperature makes the others -inf at worst.
    with np.errstate(over="ignore", under="ignore"):
        p = np.exp((ranked - ranked[:, :1]) / temperature)
    cumulated = np.cumsum(p / p.sum(axis=1, keepdims=True), axis=1)
    if top_p is not None:
        sizes = (cumulated < top_p).sum(axis=1, keepdims=True) + 1
        beyond = np.arange(p.shape[1]) >= sizes
        cumulated = np.cumsum(np.where(beyond, 0.0, p), axis=1)
    uniform = np.array([[generator.random()] for generator in generators])
    drawn = (cumulated / cumulated[:, -1:] <= uniform).sum(axis=1, keepdims=True)
    return np.take_along_axis(order, drawn, axis=1)[:, 0]


def _check_finite(scores: np.ndarray) -> None:
    """Raise a ValueError unless the best score of each row is finite, and no score is NaN."""
    if not np.isfinite(scores.max(axis=-1)).all():  # NaN if one of them is
        raise ValueError(
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
    check_vocab(model, vocab)
    for prefix in prefixes:
        check_known("prefix", prefix, vocab)
    for stop in stops:
        check_known("stop text", stop, vocab)
    whole_number("num_chars", num_chars, 0)
    if not _is_number(temperature) or not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be a number of at least 0, not {temperature!r}")
    if top_k is not None:
        whole_number("top_k", top_k)
    if top_p is not None and not (_is_number(top_p) and 0 < top_p <= 1):
        raise ValueError(f"top_p must be above 0 and at most 1, not {top_p!r}")
    if temperature == 0 and not (top_k is None and top_p is None):
        raise ValueError("top_k and top_p need a temperature above 0: at 0 nothing is drawn")
    if seed is not None:
        whole_number("seed", seed, 0)


def check_known(name: str, text: str, vocab: Vocab) -> None:
    """Raise a ValueError if a text has a character that is not in the vocabulary."""
    unknown = describe_unknown(name, text, vocab)
    if unknown:
        raise ValueError(f"not in the vocabulary: {unknown}")


def _is_char(token: Any) -> bool:
    return isinstance(token, str) and len(token) == 1


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
