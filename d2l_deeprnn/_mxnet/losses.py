"""Losses of minibatches, read from the device a little later than they are computed.

Reading a number from the device waits for it. The chapter's loop read each loss at once, and the
device was idle while the next minibatch was prepared. If no loss were read, the device's queue, and
the memory it holds, would grow with the length of the text.
"""

from __future__ import annotations

import collections
from typing import Any, Callable, Deque

from . import nd

IN_FLIGHT = 4  # minibatches that the device may have in its queue


class LateLosses:
    """Reports each loss when ``IN_FLIGHT`` more were added, or when ``read`` is called.

    Args:
        on_loss: called with one number for each loss, in order.
    """

    def __init__(self, on_loss: Callable[[float], Any]) -> None:
        self._on_loss = on_loss
        self._in_flight: Deque[nd.NDArray] = collections.deque()

    def add(self, loss: nd.NDArray) -> None:
        """Add an array of one number, which may still be computed."""
        self._in_flight.append(loss)
        if len(self._in_flight) > IN_FLIGHT:
            self._read_first()

    def read(self) -> None:
        """Wait for all losses, and report them."""
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
