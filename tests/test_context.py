"""Devices and seeds."""

from __future__ import annotations

import random

import numpy as np
import pytest

import d2l_deeprnn as d2l
from d2l_deeprnn import context
from d2l_deeprnn._mxnet import mx, nd


def test_equal_to_the_original(original):
    assert d2l.try_gpu() == original.try_gpu()
    assert d2l.try_all_gpus() == original.try_all_gpus()


@pytest.mark.parametrize("num_gpus", [0, 1, 3])
def test_with_any_number_of_gpus(monkeypatch, num_gpus):
    class Allocator:
        @staticmethod
        def array(values, ctx):
            if ctx.device_type == "gpu" and ctx.device_id >= num_gpus:
                raise mx.MXNetError("no such device")

    monkeypatch.setattr(context, "nd", Allocator)
    assert d2l.try_gpu() == (mx.gpu(0) if num_gpus else mx.cpu())
    assert d2l.try_all_gpus() == ([mx.gpu(i) for i in range(num_gpus)] or [mx.cpu()])


@pytest.mark.gpu
def test_a_gpu_is_used_where_there_is_one():
    if not mx.context.num_gpus():
        pytest.skip("MXNet sees no GPU: none is there, or this is its CPU build")
    assert d2l.try_gpu() == mx.gpu(0)
    assert nd.ones((2,), ctx=d2l.try_gpu()).sum().asscalar() == 2


def test_one_seed_for_three_generators():
    def draw():
        return random.random(), np.random.rand(), nd.random.uniform().asscalar()

    d2l.set_seed(11)
    first = draw()
    d2l.set_seed(11)
    assert draw() == first
    d2l.set_seed(12)
    assert all(a != b for a, b in zip(draw(), first))


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, "1", None, True])
def test_bad_seeds_are_named(seed):
    with pytest.raises(ValueError, match=f"seed must be a whole number .* not {seed!r}"):
        d2l.set_seed(seed)
