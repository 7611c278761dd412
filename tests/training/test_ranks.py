"""Several processes train one model as one process does."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import sys
import textwrap
import time
import types

import numpy as np
import pytest
from mpi import COMMAND, WORDS, Job, losses_and_parameters, mpiexec, needs_mpi, train_until

from d2l_deeprnn._mxnet import gluon, mx
from d2l_deeprnn.cli import main
from d2l_deeprnn.nn.model import RNNModel
from d2l_deeprnn.training import launcher, ranks
from d2l_deeprnn.training.checkpoint import load_checkpoint
from d2l_deeprnn.training.learner import Learner, new_model
from d2l_deeprnn.training.ranks import SINGLE_PROCESS, Ranks, RanksError
from d2l_deeprnn.training.run_directory import run_directory
from d2l_deeprnn.training.settings import SettingsError, TrainSettings

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")


# Without MPI ----------------------------------------------------------------------------------


class Several(Ranks):
    """Three ranks, seen by one of them."""

    size = 3


def test_the_rows_of_a_minibatch_are_shared():
    assert [list(Several().part(8, rank)) for rank in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [len(Several().part(1, rank)) for rank in range(3)] == [1, 0, 0]
    assert SINGLE_PROCESS.part(8) == range(8)


def test_each_rank_needs_a_row():
    settings = TrainSettings(corpus=("numbers",), batch_size=2, num_hiddens=4)
    text = np.zeros(1000, "int32")
    model = new_model(settings, 2, mx.cpu())
    with pytest.raises(SettingsError, match="batch_size 2 is too small for 3 ranks"):
        Learner(settings, model, text, text, mx.cpu(), ranks=Several())


def test_a_sparse_gradient_is_refused():
    model = RNNModel(gluon.rnn.LSTM(4), 2)
    model.embedding = gluon.nn.Embedding(2, 4, sparse_grad=True)
    model.initialize()
    settings = TrainSettings(corpus=("numbers",), batch_size=4, num_hiddens=4)
    text = np.zeros(1000, "int32")
    with pytest.raises(SettingsError, match="embedding.weight is sparse, and several ranks"):
        Learner(settings, model, text, text, mx.cpu(), ranks=Several())


@pytest.mark.parametrize(
    "variables, number, world_size",
    [
        ({}, 0, 1),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, 2, 4),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, 1, 2),
        ({"PMIX_RANK": "3", "SLURM_STEP_NUM_TASKS": "8"}, 3, 8),
        ({"PMIX_RANK": "3"}, 0, 1),
        ({"PMI_RANK": "2", "PMI_SIZE": "4", "D2L_DEEPRNN_RANKS": "1"}, 0, 1),
        ({"PMI_RANK": "x", "PMI_SIZE": "4"}, 0, 1),
    ],
)
def test_variables_of_launchers(variables, number, world_size, monkeypatch):
    for name in sum(launcher.LAUNCHERS, ()):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (launcher.world_rank(), launcher.world_size()) == (number, world_size)


def test_without_mpi4py_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    refused = pytest.raises(RanksError, match=r"2 processes .* pip install 'd2l_deeprnn\[mpi\]'")
    with refused, ranks.distributed():
        pass


def test_an_invalid_time_limit_is_refused():
    with pytest.raises(ValueError, match="rank_timeout must be a"), ranks.distributed(0):
        pass


def test_the_threads_of_a_rank():
    both, one = [0, 1, 2, 3], [2, 3]
    assert ranks.threads_of(4, both, [both]) == 4
    assert ranks.threads_of(4, both, [both, both]) == 2
    assert ranks.threads_of(4, both, [both] * 3) == 1
    assert ranks.threads_of(4, both, [both] * 9) == 1
    # bound to its own processors, next to a rank that is bound to the others
    assert ranks.threads_of(2, one, [one, [0, 1]]) == 2
    # four processors are two cores
    assert ranks.threads_of(2, both, [both, both]) == 1


def test_each_rank_takes_a_gpu_of_its_own():
    gpus = [mx.gpu(0), mx.gpu(1)]
    assert [ranks.device_of(rank, 2, gpus) for rank in (0, 1)] == gpus
    assert ranks.device_of(3, 4, [mx.cpu()]) == mx.cpu()
    with pytest.raises(RanksError, match="3 ranks .* has 2 GPUs: start one rank per GPU"):
        ranks.device_of(0, 3, gpus)


# The same training whatever the number of ranks -----------------------------------------------

SGD, ADAM = {"optimizer": "sgd", "lr": 5}, {"optimizer": "adam", "lr": 0.01}
CASES = {
    "gru, random, adam": {"cell": "gru", "sampling": "random", "batch_size": 4, **ADAM},
    "rows that do not divide": {"batch_size": 5, **SGD},
    "rows that do not divide, adam": {"batch_size": 7, "sampling": "random", **ADAM},
    "dropout": {"batch_size": 5, "dropout": 0.5, **ADAM},
    "noise": {"batch_size": 4, "optimizer": "sgld", "lr": 1e-3},
}


@needs_mpi
@pytest.mark.parametrize("number", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_losses_do_not_depend_on_the_number_of_ranks(number):
    code = """
    import json, sys
    from mpi import losses_and_parameters, statistics
    found = losses_and_parameters(json.loads(sys.argv[1]))
    means = statistics()
    if found:
        print(json.dumps([found, means]))
    """
    found, means = json.loads(mpiexec(number, code, json.dumps(CASES)))
    assert all(mean == means[0] != 4 * [0.0] for mean in means)
    for name, one in losses_and_parameters(CASES).items():
        several = found[name]
        np.testing.assert_allclose(several["losses"], one["losses"], rtol=2e-5, err_msg=name)
        for parameter, values in one["parameters"].items():
            np.testing.assert_allclose(
                several["parameters"][parameter], values, atol=2e-4, err_msg=f"{name}, {parameter}"
            )


# The command ----------------------------------------------------------------------------------

# As far as its packages are installed
LOG = ["--log=tensorboard"] if importlib.util.find_spec("tensorboardX") else []
GENERATE = ["--prefix=the ", "--prefix=a", "--prefix=it", "--temperature=1", "--seed=3"]


def last(out):
    return load_checkpoint(out / "last.zip")


def history(out):
    return [record[:4] for record in last(out).data["learner"]["history"]]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A directory with runs of two ranks, and the output of each command."""
    folder = tmp_path_factory.mktemp("ranks")
    train_until(folder / "1 then 2", 15)
    code = f"""
    import os, sys
    from mpi import WORDS, commands, train_until
    os.chdir(sys.argv[1])
    commands(
        ["train", *WORDS, "--num-epochs=3", *{LOG}, "--out=two"],
        ["evaluate", "two"],
        ["generate", "two", *{GENERATE}],
        ["generate", "two", {GENERATE[0]!r}],
        # A checkpoint after each minibatch: the last one is in the middle of an epoch.
        ["train", *WORDS, "--num-epochs=1", "--checkpoint-minutes=1e-6", "--out=resumed"],
        ["train", "--resume", "--num-epochs=3", "--out=resumed"],
    )
    train_until("2 then 2", 15)
    train_until("2 then 2", 0)
    train_until("2 then 1", 15)
    train_until("1 then 2", 0)
    """
    return folder, mpiexec(2, code, folder).split("== 0\n")


@needs_mpi
def test_rank_0_prints_and_writes_for_all(two):
    folder, (printed, *_) = two
    assert printed.count("  1/3  ") == printed.count("Done: 3 epochs in ") == 1
    assert sorted(p.name for p in (folder / "two").iterdir()) == [
        ".lock", "best.zip", "config.json", "last.zip", "metrics.csv", *["tensorboard"] * len(LOG),
    ]  # fmt: skip
    assert not LOG or len(list((folder / "two" / "tensorboard").iterdir())) == 1
    assert json.loads((folder / "two" / "config.json").read_text())["ranks"] == 2


def test_evaluate_and_generate_compare_options_models_and_texts(tmp_path, monkeypatch):
    """A second machine without a shared disk may have an older copy of the run or the text."""
    seen = []
    for seed in "01":
        words = [*WORDS, f"--seed={seed}", "--num-epochs=1", "--out", str(tmp_path / seed)]
        assert main(["train", *words]) == 0

    class Noting(Ranks):
        size = 2

        def check_same(self, values):
            seen.append(values)

    monkeypatch.setattr(ranks, "distributed", lambda: contextlib.nullcontext(Noting()))

    def values(command, run, *words):
        assert main([command, str(tmp_path / run), *words]) == 0
        return seen[-1]

    for command, *others in [
        ("evaluate", ["--batch-size=2"], ["--baseline=ngram"], ["--corpus", "the_tide_tables"]),
        ("generate", ["--temperature=1", "--length=1"], ["--prefix=a"], ["--stop=."]),
    ]:
        same = values(command, "0")
        assert values(command, "0") == same
        assert values(command, "1") != same
        for words in others:
            assert values(command, "0", *words) != same


@needs_mpi
def test_evaluate_and_generate_share_their_rows(two, capsys):
    folder, (_, *printed) = two
    run = str(folder / "two")
    for words, several in zip([["evaluate", run], ["generate", run, *GENERATE]], printed):
        assert main(words) == 0
        assert several == capsys.readouterr().out
    assert main(["generate", run, GENERATE[0]]) == 0
    assert printed[2] == capsys.readouterr().out


@needs_mpi
def test_a_run_is_resumed_by_any_number_of_ranks(two):
    folder = two[0]
    stopped = last(folder / "2 then 1")
    assert stopped.data["learner"]["position"] > 0 and stopped.arrays["state/0"].shape == (2, 5, 8)
    train_until(folder / "2 then 1", 0)
    whole = last(folder / "two").arrays
    for name in "resumed", "2 then 2", "2 then 1", "1 then 2":
        own = last(folder / name).arrays
        assert own.keys() == whole.keys()
        for array in own:
            if name in ("resumed", "2 then 2"):
                assert np.array_equal(own[array], whole[array]), (name, array)
            else:
                np.testing.assert_allclose(own[array], whole[array], atol=1e-4, err_msg=name)


# Errors ---------------------------------------------------------------------------------------


def our_lines(errors):
    return [line for line in errors.splitlines() if line.startswith("d2l-deeprnn: error: ")]


def test_a_command_for_one_process_is_refused_with_several(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main(["reproduce", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "`reproduce` works in one process; mpiexec can start train, evaluate, generate" in error


@needs_mpi
def test_an_error_is_printed_once(tmp_path):
    code = """
    import errno, os, sys
    from mpi import WORDS, commands
    from d2l_deeprnn.cli import main
    from d2l_deeprnn.training import launcher, learner, run_directory
    from d2l_deeprnn.training.optimization import parameters_of

    os.chdir(sys.argv[1])
    train, second = ["train", *WORDS, "--num-epochs=2"], launcher.world_rank() == 1
    commands(
        [*train, "--out=lr", *["--lr=0.5"] * second],
        [*train, "--out=another" if second else "--out=one"],
        [*train, "--out=used"],
        ["train", "--resume", "--out=used"],
    )

    def change(self, X, Y, state):
        if second and self.position == 2:
            array = next(iter(parameters_of(self.model).values()))
            array[:] = array + 1e-6
        return train_step(self, X, Y, state)

    train_step, learner.Learner.train_step = learner.Learner.train_step, change
    commands([*train, "--out=differ"])
    learner.Learner.train_step = train_step

    def fail(path, *args):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    save_checkpoint, run_directory.save_checkpoint = run_directory.save_checkpoint, fail
    commands([*train, "--out=full"])
    run_directory.save_checkpoint = save_checkpoint

    # Only the first host has the directory. That is enough to train.
    os.chdir(str(launcher.world_rank()))
    assert main(["train", "--resume", "--num-epochs=2", "--out=run"]) == 0
    sys.exit(main(["evaluate", "run"]))
    """
    for rank in 0, 1:
        (tmp_path / str(rank)).mkdir()
    assert main(["train", *WORDS, "--num-epochs=1", "--out", str(tmp_path / "0" / "run")]) == 0
    train_until(tmp_path / "used", 5)
    with run_directory(tmp_path / "used", resume=True):
        status, output, errors = Job(2, code, tmp_path).wait()
    assert "\nDone: 2 epochs in " in output and status == 2
    *found, evaluated = errors.split("== 2\n")
    (line,) = our_lines(evaluated)
    assert "rank 1 on" in line and "there is no directory run" in line
    different = r"rank 1 on \S+ was started with another %s than rank 0: .* D2L_DEEPRNN_RANKS=1"
    expected = [
        different % "lr",
        different % "out",
        "another process is training in used",
        "another process is training in used",
        "the parameters of rank 1 differ from those of rank 0 after epoch 1",
        "last.zip: No space left on device",
    ]
    assert len(found) == len(expected)
    for lines, words in zip(found, expected):
        (line,) = our_lines(lines)
        assert re.search(words, line)
    assert not (tmp_path / "lr" / "config.json").exists()


@needs_mpi
def test_a_rank_that_fails_alone_ends_all(tmp_path):
    code = """
    import sys
    from d2l_deeprnn.training import launcher, learner

    if launcher.world_rank() == 1:
        def fail(*args):
            raise MemoryError("no room left")
        learner.Learner.train_step = fail
    """
    job = Job(2, textwrap.dedent(code) + COMMAND, "train", "--out", tmp_path / "run", *WORDS)
    status, _, errors = job.wait()
    assert status != 0
    (line,) = our_lines(errors)
    assert "rank 1 on" in line and "no room left" in line


def test_a_launcher_of_another_mpi_is_refused(monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 3)
    world = types.SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 1)
    mpi = types.SimpleNamespace(COMM_WORLD=world, Get_library_version=lambda: "Some MPI\n1.0")
    refused = "3 processes were started, but mpi4py's MPI sees 1: .* launcher's MPI .Some MPI"
    with pytest.raises(RanksError, match=refused):
        ranks._MPIRanks(mpi)


def wait_for_checkpoint(job, out):
    while not (out / "last.zip").exists():
        assert job.process.poll() is None, job.wait()
        time.sleep(0.02)


@needs_mpi
@pytest.mark.parametrize(
    "others, words",
    [
        pytest.param(
            "from mpi4py import MPI; MPI.COMM_WORLD.Barrier()",
            "of 2 ranks, rank 1 did not join",
            marks=pytest.mark.slow,
        ),
        ("pass", "rank 1 did not start MPI within"),
    ],
)
def test_a_missing_rank_is_named(others, words, tmp_path):
    code = f"""
    import sys
    from d2l_deeprnn.training import launcher
    if launcher.world_rank():
        {others}
        sys.exit()
    if {"MPI" in others}:
        from mpi4py import MPI
    from d2l_deeprnn.training import runs
    runs.train(None, sys.argv[1], rank_timeout=0.5)
    """
    status, _, errors = Job(2, code, tmp_path / "run").wait()
    assert status == 2
    (line,) = our_lines(errors)
    assert "rank 0 on" in line and words in line and "within 0.5 seconds" in line
    assert "to train one model per process, set D2L_DEEPRNN_RANKS=1" in line


@needs_mpi
def test_a_rank_that_hangs_is_named_but_not_one_that_works():
    code = """
    import os, signal, time
    from mpi import distributed
    with distributed(60) as ranks:
        ranks.allgather(0)  # on a busy machine, one of them may start later than the other
    with distributed(5) as ranks:
        ranks.root_first(lambda: time.sleep(6))
        with ranks.working():
            time.sleep(6 * ranks.rank)
        if ranks.allgather(ranks.rank) == [0, 1] and ranks.rank == 0:
            print("waited", flush=True)
    with distributed(5) as ranks:
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        ranks.allgather(0)
    """
    job = Job(2, code)
    status, output, errors = job.wait()
    # mpiexec kills the stopped process, and may see the end of that one first.
    assert status in (2, signal.SIGKILL) and output.split() == ["waited"]
    (line,) = our_lines(errors)
    assert re.search(r"rank 0 on \S+: rank 1 on \S+ did not answer for 5 seconds", line)
    if sys.platform == "linux":
        job.wait_until_gone()


def test_scoring_and_generating_may_take_any_time(tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "run")
    assert main(["train", *WORDS, "--num-epochs=1", "--out", out]) == 0
    depth, seen = [], []

    @contextlib.contextmanager
    def working(self):
        depth.append(1)
        yield
        depth.pop()

    forward = RNNModel.forward

    def recording(self, *args):
        seen.append(len(depth))
        return forward(self, *args)

    monkeypatch.setattr(Ranks, "working", working)
    monkeypatch.setattr(RNNModel, "forward", recording)
    for command in ["evaluate", out], ["generate", out, "--length=3"]:
        assert main(command) == 0
        assert set(seen) == {1}, command
        seen.clear()


def test_a_missing_package_on_one_rank_is_reported(tmp_path, monkeypatch):
    said = []
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr(launcher, "silence", lambda: None)
    monkeypatch.setattr(launcher, "write_stderr", said.append)
    assert main(["evaluate", str(tmp_path)]) == 2
    (line,) = said
    assert re.match("d2l-deeprnn: error: rank 1 on .* mpi4py, .* is not installed", line)


def test_each_process_may_work_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("D2L_DEEPRNN_RANKS", "1")
    assert main(["train", *WORDS, "--num-epochs=1", "--out", str(tmp_path / "run")]) == 0
    assert "\nDone: 1 epoch in " in capsys.readouterr().out
    assert main(["runs", str(tmp_path)]) == 0
    monkeypatch.setenv("D2L_DEEPRNN_RANKS", "4")
    assert main(["runs", str(tmp_path)]) == 2
    assert "D2L_DEEPRNN_RANKS must be 1 or unset, not '4'" in capsys.readouterr().err


@linux
@needs_mpi
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_to_mpiexec_leaves_a_checkpoint(number, tmp_path):
    out = tmp_path / "run"
    job = Job(2, COMMAND, "train", "--out", out, *WORDS, "--num-epochs=1000")
    wait_for_checkpoint(job, out)
    job.process.send_signal(number)
    _, output, _ = job.wait()
    assert "\nStopped " in output
    assert (
        main(["train", "--resume", "--out", str(out), f"--num-epochs={len(history(out)) + 1}"]) == 0
    )
    job.wait_until_gone()


@linux
@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_killed_rank_ends_all_and_loses_nothing(seed, tmp_path):
    random = np.random.RandomState(seed)
    out = tmp_path / "run"
    job = Job(
        2, COMMAND, "train", "--out", out, *WORDS, "--num-epochs=1000", "--checkpoint-minutes=1e-6"
    )
    if seed % 4:  # every fourth time, at any moment of the start
        wait_for_checkpoint(job, out)
    while not job.ranks():
        time.sleep(0.01)
    time.sleep(random.uniform(0, 2))
    os.kill(job.ranks()[random.randint(len(job.ranks()))], signal.SIGKILL)
    status, _, _ = job.wait()
    assert status != 0
    job.wait_until_gone()
    if (out / "config.json").exists():
        written = (out / "last.zip").exists()
        done = len(history(out)) if written else 0
        starts_over = pytest.warns(UserWarning, match="has no checkpoint yet")
        with contextlib.nullcontext() if written else starts_over:
            assert main(["train", "--resume", "--out", str(out), f"--num-epochs={done + 1}"]) == 0
        assert len(history(out)) == done + 1
