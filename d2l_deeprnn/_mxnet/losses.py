"""Losses of minibatches, read from the device a little later than they are computed.

To read a number from the device is to wait for it. The chapter's loop did so
in every minibatch, and the device stood idle while the next one was prepared.
Never to read would let the device's queue, and the memory it holds, grow with
the length of the text.
"""

from __future__ import annotations

import collections
from typing import Any, Callable, Deque

from . import nd

IN_FLIGHT = 4  # minibatches that the device may have in its queue


class LateLosses:
    """Reports each loss when ``IN_FLIGHT`` more were added, the last at the end of a ``with``.

    Args:
        on_loss: called with one number for each loss, in order.
    """

    def __init__(self, on_loss: Callable[[float], Any]) -> None:
        self._on_loss = on_loss
        self._in_flight: Deque[nd.NDArray] = collections.deque()

    def add(self, loss: nd.NDArray) -> None:
        """Take an array of one number, which may still be computed."""
        self._in_flight.append(loss)
        if len(self._in_flight) > IN_FLIGHT:
            self._read_first()

    def __enter__(self) -> LateLosses:
        return self

    def __exit__(self, *exception: Any) -> None:
        # After an exception too, such as Ctrl-C in a notebook: training may resume from there.
        while self._in_flight:
            self._read_first()

    def _read_first(self) -> None:
        loss = float(self._in_flight[0].asscalar())
        self._in_flight.popleft()
        try:
            self._on_loss(loss)
        except BaseException:
            self._in_flight.clear()  # the first loss that is refused is the one to report
            raise
