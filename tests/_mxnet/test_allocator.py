"""The allocator: told once, on glibc only, with no effect on results."""

import os
import platform
import subprocess
import sys

import pytest

from d2l_deeprnn._mxnet import library as _allocator

PROGRAM = """
import resource, sys
import d2l_deeprnn as d2l
from mxnet.gluon import rnn
d2l.set_seed(0)
corpus_indices, vocab = d2l.load_corpus("the_tide_tables", 6000)
model = d2l.RNNModel(rnn.LSTM(128, 2), len(vocab))
history = d2l.train_and_predict_rnn_gluon(
    model, 128, corpus_indices, vocab, d2l.try_gpu(), 4, 35, 5, 1, 32, ["the "],
    log=lambda line: None)
print([record.perplexity for record in history], history[-1].predictions)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def run(wish):
    environment = {**os.environ, _allocator.ALLOCATOR_VARIABLE: wish}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    figures, faults = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    return figures, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is only glibc to be told")
def test_results_are_the_same_and_pages_are_kept():
    figures, faults = run("keep")
    as_ever, faults_as_ever = run("default")
    assert figures == as_ever
    assert faults < faults_as_ever


@pytest.mark.parametrize("libc, expected", [("glibc", True), ("musl", False), ("", False)])
def test_only_glibc_is_told(monkeypatch, libc, expected):
    told = []

    class Library:
        def __init__(self, name):
            self.mallopt = lambda *setting: told.append(setting) or 1

    monkeypatch.delenv(_allocator.ALLOCATOR_VARIABLE, raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, "1"))
    monkeypatch.setattr(_allocator.ctypes, "CDLL", Library)
    assert _allocator.keep_freed_memory() is expected
    assert len(told) == (3 if expected else 0)


def test_it_can_be_left_alone_and_an_unknown_wish_is_named(monkeypatch):
    monkeypatch.setenv(_allocator.ALLOCATOR_VARIABLE, "default")
    assert not _allocator.keep_freed_memory()
    monkeypatch.setenv(_allocator.ALLOCATOR_VARIABLE, "off")
    with pytest.raises(
        ValueError, match="D2L_DEEPRNN_ALLOCATOR must be keep or default, not 'off'"
    ):
        _allocator.keep_freed_memory()
