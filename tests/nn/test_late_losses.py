"""Losses are reported in order, each when some more were added, and all of them by ``read``."""

import pytest

from d2l_deeprnn._mxnet import nd
from d2l_deeprnn._mxnet.fast import IN_FLIGHT, LateLosses


def test_each_loss_waits_for_those_behind_it():
    read = []
    late = LateLosses(read.append)
    for i in range(50):
        late.add(nd.array([i]))
        assert read == list(range(i + 1 - IN_FLIGHT))
    late.read()
    assert read == list(range(50)) and all(type(loss) is float for loss in read)


def test_the_first_loss_that_is_refused_is_the_one_reported():
    def refuse(loss):
        raise ValueError(loss)

    late = LateLosses(refuse)
    with pytest.raises(ValueError, match="^1.0$"):
        for i in range(1, 2 + IN_FLIGHT):
            late.add(nd.array([i]))
    late.read()  # nothing is left to report
