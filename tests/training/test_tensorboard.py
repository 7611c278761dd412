"""`train --log tensorboard` writes the history, with each epoch once, even after a resume."""

from __future__ import annotations

import csv
import math
import struct
import sys
from types import SimpleNamespace

import pytest

from d2l_deeprnn.cli import main
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training import runs
from d2l_deeprnn.training.trainer import TrainRecord

SMALL = ["--num-layers=1", "--num-hiddens=8", "--batch-size=8", "--num-steps=10"]
TRAIN = ["train", f"--corpus={SAMPLE_TEXT}", "--num-examples=3000", *SMALL, "--num-epochs=3"]
LOG = ["--log", "tensorboard"]


@pytest.fixture
def tensorboardX():
    return pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")


def events(directory):
    """Return the events in a directory, in the order of the files' names."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.glob("*tfevents*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            found.append(Event.FromString(data[place + 12 : place + 12 + length]))
            place += 12 + length + 4  # including two checksums
    return [event for event in found if event.HasField("summary")]


def scalars(directory):
    """Return tag -> {step: value}; a repeated step is an error."""
    found = {}
    for event in events(directory):
        for value in event.summary.value:
            steps = found.setdefault(value.tag, {})
            assert event.step not in steps, f"{value.tag} has step {event.step} twice"
            steps[event.step] = value.simple_value
    return found


def history(out):
    with open(out / "metrics.csv", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def assert_is_the_history(out):
    found, rows = scalars(out / "tensorboard"), history(out)
    for tag, column in [
        ("loss/train", "train_loss"),
        ("loss/validation", "valid_loss"),
        ("learning_rate", "learning_rate"),
    ]:
        assert found[tag] == {r["epoch"]: pytest.approx(r[column], rel=1e-6) for r in rows}
        if column != "learning_rate":
            perplexities = {r["epoch"]: pytest.approx(math.exp(r[column]), rel=1e-5) for r in rows}
            assert found[tag.replace("loss", "perplexity")] == perplexities
    assert found["tokens_per_second"].keys() == {r["epoch"] for r in rows}
    assert len(found) == 6


def test_events_equal_the_history(tensorboardX, tmp_path):
    assert main([*TRAIN, *LOG, "--schedule=cosine", "--out", str(tmp_path)]) == 0
    assert_is_the_history(tmp_path)
    rows = history(tmp_path)
    speed = scalars(tmp_path / "tensorboard")["tokens_per_second"]
    took = rows[1]["seconds"] - rows[0]["seconds"]
    assert speed[2] == pytest.approx(2700 / took, rel=0.2)  # metrics.csv has milliseconds
    times = [event.wall_time for event in events(tmp_path / "tensorboard")]
    assert times[2] - times[0] == pytest.approx(rows[2]["seconds"] - rows[0]["seconds"], abs=0.01)


def test_without_a_validation_part_its_metrics_are_missing(tensorboardX, tmp_path):
    assert main([*TRAIN, *LOG, "--valid-fraction=0", "--out", str(tmp_path)]) == 0
    found = scalars(tmp_path / "tensorboard")
    assert set(found) == {"loss/train", "perplexity/train", "learning_rate", "tokens_per_second"}


def test_a_resumed_run_has_each_epoch_once(tensorboardX, tmp_path):
    assert main([*TRAIN, *LOG, "--out", str(tmp_path)]) == 0
    resume = ["train", "--resume", "--out", str(tmp_path)]
    assert main([*resume, *LOG, "--num-epochs=5"]) == 0
    assert len(history(tmp_path)) == 5
    assert_is_the_history(tmp_path)
    # Also epochs that were trained without it.
    assert main([*resume, "--num-epochs=6"]) == 0
    assert main([*resume, *LOG, "--num-epochs=7"]) == 0
    assert len(history(tmp_path)) == 7
    assert_is_the_history(tmp_path)


def test_an_epoch_is_visible_when_it_is_done(tensorboardX, tmp_path, monkeypatch):
    from d2l_deeprnn.training.tensorboard import TensorBoard

    seen, epoch = [], TensorBoard.epoch

    def look(self, record):
        epoch(self, record)
        seen.append(sorted(scalars(tmp_path / "tensorboard")["loss/train"]))

    monkeypatch.setattr(TensorBoard, "epoch", look)
    assert main([*TRAIN, *LOG, "--out", str(tmp_path)]) == 0
    assert seen == [[1], [1, 2], [1, 2, 3]]


def test_a_perplexity_too_large_for_its_files_is_infinite(tensorboardX, tmp_path):
    from d2l_deeprnn.training.tensorboard import TensorBoard

    with TensorBoard(tmp_path / "events") as log:
        learner = SimpleNamespace(history=[TrainRecord(1, 500.0, 1000.0, 0.5, 0.0)])
        log.start(learner, SimpleNamespace(train=range(100)))
    found = scalars(tmp_path / "events")
    assert found["perplexity/train"][1] == found["perplexity/validation"][1] == math.inf
    assert found["loss/validation"][1] == 1000 and "tokens_per_second" not in found


def test_a_missing_package_is_reported_before_training(monkeypatch, tmp_path, capsys):
    for name in ("tensorboardX", "tensorboardX.event_file_writer"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(runs, "train", lambda *args, **how: pytest.fail("was trained"))
    assert main([*TRAIN, *LOG, "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--log tensorboard needs tensorboardX" in line
    assert line.endswith("pip install 'd2l_deeprnn[tensorboard]'")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_an_error(tensorboardX, tmp_path):
    """With tensorboardX's SummaryWriter, training would hang."""
    resource = pytest.importorskip("resource", reason="limits are POSIX's")
    from d2l_deeprnn.training.tensorboard import TensorBoard

    record = TrainRecord(1, 1.0, 1.0, 0.5, 1.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OSError, match="too large"), TensorBoard(tmp_path / "events") as log:
        log.start(SimpleNamespace(history=[]), SimpleNamespace(train=range(100)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            for _ in range(100):
                log.epoch(record)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_link_is_not_followed(tensorboardX, tmp_path, capsys):
    """The events of another run would be removed."""
    out, other = tmp_path / "run", tmp_path / "other"
    assert main([*TRAIN, "--out", str(out)]) == 0
    other.mkdir()
    (other / "events.out.tfevents.1").write_text("precious")
    (out / "tensorboard").symlink_to(other)
    assert main(["train", "--resume", "--num-epochs=4", *LOG, "--out", str(out)]) == 2
    assert "is a link: remove it" in capsys.readouterr().err
    assert (other / "events.out.tfevents.1").read_text() == "precious"
