"""Losses are handed on in order, each when some more were added, and all of them in the end."""

from d2l_deeprnn._mxnet import nd
from d2l_deeprnn._mxnet.losses import IN_FLIGHT, LateLosses


def test_each_loss_waits_for_those_behind_it():
    read = []
    late = LateLosses(read.append)
    for i in range(50):
        late.add(nd.array([i]))
        assert read == list(range(i + 1 - IN_FLIGHT))
    late.finish()
    assert read == list(range(50)) and all(type(loss) is float for loss in read)
    late.finish()
    assert len(read) == 50


def test_fewer_than_are_in_flight():
    read = []
    late = LateLosses(read.append)
    late.add(nd.array([0.5]))
    assert read == []
    late.finish()
    assert read == [0.5]
