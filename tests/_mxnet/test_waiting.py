"""Threads wait in a loop on a quiet machine, and soon sleep beside other programs."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from interpreter import python

from d2l_deeprnn._mxnet import waiting

SPIN, POLICY = waiting.SPIN_VARIABLE, waiting.POLICY_VARIABLE
counted = pytest.mark.skipif(
    not waiting.look(), reason="the kernel does not say how long threads wait"
)


@pytest.fixture
def undecided(monkeypatch):
    """An environment without what decides how threads wait."""
    for name in SPIN, POLICY:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def decided():
    """What decides how threads wait."""
    return {name: os.environ[name] for name in (SPIN, POLICY) if name in os.environ}


@counted
def test_a_loop_of_openmps_length_that_can_be_shortened(undecided):
    waiting.prepare()
    assert decided() == {SPIN: "300000", POLICY: "active"}
    waiting.prepare()
    assert decided() == {SPIN: "300000", POLICY: "active"}


def test_a_short_loop_where_the_kernel_does_not_say_who_waits(undecided, monkeypatch, tmp_path):
    monkeypatch.setattr(waiting, "PROC", tmp_path)
    waiting.prepare()
    assert decided() == {SPIN: "1000"}


@pytest.mark.parametrize("chosen", [{SPIN: "5"}, {POLICY: "passive"}, {POLICY: "active"}])
def test_the_user_decides(chosen, undecided):
    os.environ.update(chosen)
    before = threading.active_count()
    waiting.prepare()
    assert decided() == chosen
    assert waiting.watch(None) is None and threading.active_count() == before


def test_nobody_watches_without_gnu_openmp(undecided):
    os.environ.update(waiting.SWITCHED)
    assert waiting.watch(object()) is None


@counted
def test_openmp_itself_says_what_was_set():
    code = "import d2l_deeprnn as d2l\nd2l.try_gpu()"
    _, said = python(code, OMP_DISPLAY_ENV="VERBOSE")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in said and "GOMP_SPINCOUNT = '300000'" in said
    _, said = python(code, OMP_DISPLAY_ENV="VERBOSE", GOMP_SPINCOUNT="77")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said and "GOMP_SPINCOUNT = '77'" in said


def others(busy=0.0, own=0.0, **waited):
    """Whether others were in the way in two seconds, in which so much was counted."""
    before = waiting.Look(10.0, 5.0, 1.0, {"1": 1.0, "2": 1.0, "ended": 3.0})
    threads = {name[1:]: 1.0 + seconds for name, seconds in waited.items()}
    after = waiting.Look(12.0, 5.0 + busy, 1.0 + own, {"1": 1.0, "2": 1.0, "new": 7.0, **threads})
    return waiting.others_in_the_way(before, after)


def test_others_are_in_the_way_if_they_compute_and_we_wait():
    assert others(busy=4.0, own=2.6, t1=0.7, t2=0.7)
    assert not others(busy=4.0, own=3.9, t1=0.7, t2=0.7)  # our threads are in each other's way
    assert not others(busy=2.0, own=1.0, t1=0.1, t2=0.1)  # the others have processors of their own
    assert not others()


def stat_of(tmp_path, stat, **tasks):
    """A directory such as /proc."""
    (tmp_path / "stat").write_text(stat)
    for name, content in tasks.items():
        task = tmp_path / "self" / "task" / name[1:]
        task.mkdir(parents=True)
        if content is not None:
            (task / "schedstat").write_text(content)


STAT = """\
cpu  9 9 9 9 9 9 9 9 0 0
cpu0 100 20 3 7000 500 4 5 6 0 0
cpu1 1000 0 0 900 0 0 0 0 0 0
cpu10 7 7 7 7 7 7 7 7 0 0
intr 5
"""


def test_what_the_kernel_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(waiting, "PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    stat_of(tmp_path, STAT, t7="5 2000000000 9\n", t8="5 0 9\n", ended=None)
    seen = waiting.look()
    assert seen.busy == pytest.approx((138 + 1000) / os.sysconf("SC_CLK_TCK"))
    assert seen.waited == {"7": 2.0, "8": 0.0}


@pytest.mark.parametrize(
    "stat, task",
    [("", "5 6 7\n"), ("cpu0 1\n", "5 6 7\n"), ("cpu0 a b c d e\n", "5 6 7\n"), (STAT, "5\n")],
)
def test_what_the_kernel_writes_otherwise_counts_for_nothing(stat, task, monkeypatch, tmp_path):
    monkeypatch.setattr(waiting, "PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    stat_of(tmp_path, stat, t7=task)
    assert waiting.look() is None


@counted
def test_a_look_leaves_nothing_in_pythons_table_of_strings(monkeypatch):
    entered = []
    monkeypatch.setattr(sys, "intern", lambda text: entered.append(text) or text)
    assert waiting.look()
    assert not entered


def test_other_systems_count_nothing(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert waiting.look() is None


class Team:
    """Notes what happens to the idle team."""

    def __init__(self, library):
        library.append("begun")
        self.library = library

    def dismiss(self):
        self.library.append("dismissed")


def test_an_idle_team_while_others_are_in_the_way(monkeypatch):
    monkeypatch.setattr(waiting, "_IdleTeam", Team)
    happened = []
    watch = waiting._Watch(happened)

    def note(*looks):
        happened.clear()
        for in_the_way in looks:
            watch.note(in_the_way)
        return happened

    assert note(False, False) == []
    assert note(True, True) == ["begun"]
    almost = [False] * (waiting.QUIET_LOOKS - 1)
    assert note(*almost) == []  # quiet, but not for long enough
    assert note(True, *almost) == []
    assert note(False, False) == ["dismissed"]
    assert note(True) == ["begun"]


def test_a_team_that_cannot_be_had_is_asked_for_again(monkeypatch):
    def fail(library):
        raise RuntimeError("can't start new thread")

    happened = []
    watch = waiting._Watch(happened)
    monkeypatch.setattr(waiting, "_IdleTeam", fail)
    watch.note(True)
    monkeypatch.setattr(waiting, "_IdleTeam", Team)
    watch.note(True)
    assert happened == ["begun"]


@counted
def test_the_threads_of_an_idle_team_come_and_go():
    code = """
        import os, time
        import d2l_deeprnn as d2l
        from d2l_deeprnn._mxnet import mx, nd, waiting
        nd.dot(nd.ones((600, 600)), nd.ones((600, 600))).wait_to_read()
        library = mx.base._LIB
        def until(number):
            while len(os.listdir("/proc/self/task")) != number:
                time.sleep(0.01)
        before = len(os.listdir("/proc/self/task"))
        for _ in range(3):
            team = waiting._IdleTeam(library)
            until(before + max(2, len(os.sched_getaffinity(0))))
            team.dismiss()
            until(before)
        print("done")
    """
    environment = {POLICY: "passive", "OMP_NUM_THREADS": "2"}  # nobody else makes a team
    assert python(code, **environment)[0] == "done"


@counted
def test_beside_busy_programs_there_is_an_idle_team():
    code = """
        import os, subprocess, sys, threading, time
        import d2l_deeprnn as d2l
        from d2l_deeprnn._mxnet import nd
        a = nd.ones((600, 600))
        busy = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(2 * len(os.sched_getaffinity(0)))
        ]
        try:
            while "d2l_deeprnn idle" not in [thread.name for thread in threading.enumerate()]:
                nd.dot(a, a).wait_to_read()
        finally:
            for process in busy:
                process.kill()
        print("there")
    """
    assert python(code, OMP_NUM_THREADS="2")[0] == "there"


@counted
def test_training_computes_the_same_beside_an_idle_team():
    code = """
        import d2l_deeprnn as d2l
        from d2l_deeprnn._mxnet import gluon, mx, waiting
        text = "it was a dark and stormy night. " * 40
        vocab = d2l.Vocab(text)
        indices = vocab.encode(text)
        for idle in False, True:
            team = waiting._IdleTeam(mx.base._LIB) if idle else None
            d2l.set_seed(0)
            model = d2l.RNNModel(gluon.rnn.LSTM(32, 2), len(vocab))
            history = d2l.train_and_predict_rnn_gluon(
                model, 32, indices, vocab, mx.cpu(), 4, 10, 1, 1, 8, [], log=lambda line: None
            )
            print(repr([record.perplexity for record in history]).replace(" ", ""))
    """
    first, second = python(code, OMP_NUM_THREADS="2")[0].split()
    assert first == second
