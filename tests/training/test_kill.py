"""A run that is killed at any moment and resumed ends like one without interruption."""

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from d2l_deeprnn import cli
from d2l_deeprnn.training.checkpoint import load_checkpoint
from d2l_deeprnn.training.runs import BEST, LAST, read_history

KILLS, NUM_EPOCHS = 15, 24
WORDS = ["--corpus=the_tide_tables", "--num-hiddens=32", "--dropout=0.3", "--optimizer=adam"]
WORDS += ["--lr=0.01", "--schedule=cosine", "--warmup-epochs=1", "--test-fraction=0.1"]
WORDS += ["--batch-size=8", "--num-steps=20", f"--num-epochs={NUM_EPOCHS}"]


@pytest.fixture
def start(tmp_path):
    """Start a training whose home, cache and temporary directories are in one directory."""
    places = {name: str(tmp_path / name) for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    for place in [*places.values(), tmp_path / "cwd"]:
        os.mkdir(place)

    def start(out, *more):
        return subprocess.Popen(
            [sys.executable, "-m", "d2l_deeprnn", "train", *more, "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path / "cwd",
            env={**os.environ, **places, "OMP_NUM_THREADS": "1"},
        )

    return start


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without interruption."""
    out = tmp_path_factory.mktemp("kill") / "whole"
    assert cli.main(["train", *WORDS, "--out", str(out)]) == 0
    return out


def ended(process):
    _, errors = process.communicate()
    assert "Traceback" not in errors, errors
    return process.returncode


def contents(directory, but):
    """Return the hashes of all files below a directory, except in one of its directories."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in directory.rglob("*")
        if but != path and but not in path.parents
    }


def is_writing(out):
    return any(out.glob(".*.part"))


def wait_for(happens, process, seconds=math.inf):
    end = time.monotonic() + seconds
    while not happens() and process.poll() is None and end > time.monotonic():
        time.sleep(0.0005)


def wait_for_a_checkpoint(out, process):
    def written():
        return (out / LAST).stat().st_mtime_ns if (out / LAST).exists() else None

    before = written()
    wait_for(lambda: written() != before, process)


def assert_same_run(out, whole):
    for name in (LAST, BEST):
        found, expected = load_checkpoint(out / name).arrays, load_checkpoint(whole / name).arrays
        assert found.keys() == expected.keys()
        for part in expected:
            assert np.array_equal(found[part], expected[part]), part
    histories = [[{**row, "seconds": 0} for row in read_history(d)] for d in (out, whole)]
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_killed_at_many_moments(start, whole, tmp_path, seeded):
    out = tmp_path / "killed"
    before = contents(tmp_path, but=out)
    draw = random.Random(seeded)
    kills = writing = 0
    while kills < KILLS:
        process = start(out, *WORDS, "--resume")
        if kills % 3 == 0:  # at any moment, even during start-up
            wait_for(lambda: False, process, draw.uniform(0, 4))
        else:  # during training; every third time while a checkpoint is being written
            wait_for_a_checkpoint(out, process)
            wait_for(lambda: False, process, draw.uniform(0, 0.5))
            if kills % 3 == 2:
                wait_for(lambda: is_writing(out), process)
        process.send_signal(signal.SIGKILL)
        status = ended(process)
        if status == -signal.SIGKILL:
            kills += 1
            writing += is_writing(out)
        else:  # it finished before the kill: start another run
            assert status == 0
            assert_same_run(out, whole)
            for path in out.iterdir():
                path.unlink()
    assert ended(start(out, *WORDS, "--resume")) == 0
    print(f"{kills} kills, {writing} of them left a file half written")
    assert_same_run(out, whole)
    assert writing and not is_writing(out)
    assert contents(tmp_path, but=out) == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_of_an_epoch(start, whole, tmp_path, number):
    out = tmp_path / "stopped"
    positions = []
    more = WORDS
    while not positions or len(load_checkpoint(out / LAST).data["learner"]["history"]) < NUM_EPOCHS:
        process = start(out, *more, "--resume")
        wait_for_a_checkpoint(out, process)
        time.sleep(0.1)
        process.send_signal(number)
        assert ended(process) in (128 + number, 0)
        positions.append(load_checkpoint(out / LAST).data["learner"]["position"])
        more = []  # resume with its own settings
        if len(positions) == 4:
            assert ended(start(out, "--resume")) == 0
    assert any(positions)
    assert_same_run(out, whole)
