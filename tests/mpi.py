"""Several processes that train together, as ``mpiexec`` starts them, and what they train."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from interpreter import clean_environment

from d2l_deeprnn._mxnet import gluon, repairs
from d2l_deeprnn.cli import main
from d2l_deeprnn.nn.model import RNNModel
from d2l_deeprnn.text.corpora import SAMPLE_TEXT
from d2l_deeprnn.training import launcher, ranks, runs
from d2l_deeprnn.training.learner import Learner, new_model
from d2l_deeprnn.training.optimization import parameters_of
from d2l_deeprnn.training.ranks import distributed
from d2l_deeprnn.training.settings import TrainSettings
from d2l_deeprnn.training.trainer import Callback

# The one beside this Python belongs to mpi4py's MPI.
MPIEXEC = shutil.which(
    "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)


def is_installed():
    return MPIEXEC is not None and importlib.util.find_spec("mpi4py") is not None


needs_mpi = pytest.mark.skipif(
    not is_installed(),
    reason="mpiexec or mpi4py is not installed (the extra mpi)",
)
# Ranks that wait for each other leave the processor to others, such as other tests.
ranks.SPINNING = 0.0
COMMAND = """
import sys
from d2l_deeprnn.cli import main
from d2l_deeprnn.training import ranks
ranks.SPINNING = 0.0
sys.exit(main(sys.argv[1:]))
"""
# Words of a small run of the command, and its settings.
WORDS = [f"--corpus={SAMPLE_TEXT}", "--num-examples=700", "--num-hiddens=8", "--batch-size=5"]
WORDS += ["--num-steps=10", "--dropout=0.2", "--optimizer=adam", "--lr=0.01"]
SETTINGS = TrainSettings(
    corpus=(SAMPLE_TEXT,), num_examples=700, num_hiddens=8, batch_size=5, num_steps=10,
    dropout=0.2, optimizer="adam", lr=0.01, num_epochs=3,
)  # fmt: skip


def train_until(out, minibatches):
    """Begin or resume a run, and stop it after some minibatches; 0 to finish it."""
    done = []

    def should_stop():
        done.append(1)
        return len(done) == minibatches

    result = runs.train(SETTINGS, out, resume=True, should_stop=should_stop)
    assert result.stopped == (minibatches > 0), result


class EachMinibatch(Callback):
    """Calls a function with the progress after each minibatch."""

    def __init__(self, function):
        self.function = function

    def after_step(self, trainer, progress):
        self.function(progress)


def losses_and_parameters(cases):
    """Train a network for each of some settings; return both, by case, on rank 0."""
    random = np.random.RandomState(1)
    text = (np.arange(270) % 7 + random.randint(0, 3, 270)).astype("int32")
    found = {}
    with distributed() as ranks:
        for name, case in cases.items():
            settings = TrainSettings(
                corpus=("numbers",), num_hiddens=12, num_steps=7, num_epochs=9,
                clipping_theta=0.5, **case,
            )  # fmt: skip
            ctx = ranks.device()
            model = new_model(settings, 9, ctx)
            learner = Learner(settings, model, text[:170], text[170:], ctx, ranks=ranks)
            minibatches = []
            while len(minibatches) < 12:  # two epochs
                learner.train_epoch([EachMinibatch(minibatches.append)])
            last = parameters_of(model)
            found[name] = {
                "losses": [[record.train_loss, record.valid_loss] for record in learner.history],
                "parameters": {name: last[name].asnumpy().tolist() for name in last},
            }
        return found if ranks.rank == 0 else None


class Normed(RNNModel):
    """A model of the user's own, with a layer that has statistics of the rows that it has read."""

    def __init__(self):
        super().__init__(gluon.rnn.LSTM(4), 9)
        self.norm = gluon.nn.BatchNorm()

    def hybrid_forward(self, F, inputs, state):
        outputs, state = self.rnn(F.one_hot(inputs.T, self.vocab_size), state)
        return self.dense(self.norm(outputs.reshape((-1, 4)))), state


def statistics():
    """Train a model with batch normalization; return its statistics on this rank."""
    text = np.arange(270) * np.arange(270) % 9
    settings = TrainSettings(corpus=("numbers",), num_hiddens=4, num_steps=7, batch_size=4)
    with distributed() as ranks:
        model = Normed()
        model.initialize()
        learner = Learner(settings, model, text[:170], text[170:], ranks.device(), ranks=ranks)
        learner.train_epoch()
        return ranks.allgather(model.norm.running_mean.data().asnumpy().tolist())


def commands(*calls):
    """Give commands, one after the other, and write a line with the status after each."""
    for words in calls:
        status = main([str(word) for word in words])
        if launcher.world_rank() == 0:
            for stream in (sys.stdout, sys.stderr):
                print(f"== {status}", file=stream, flush=True)


class Job:
    """Some processes started by ``mpiexec``; they can be found as long as one lives.

    Args:
        number: how many.
        code: Python's, for each of them. It can import this module.
        arguments: ``sys.argv[1:]``.
        environment: further variables.
    """

    def __init__(self, number, code, *arguments, **environment):
        self._mark = f"D2L_DEEPRNN_TEST={uuid.uuid4().hex}"
        env = clean_environment()
        name, _, value = self._mark.partition("=")
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [env.get("PYTHONPATH")])])
        env.update({repairs.THREADS_VARIABLE: "1", "PYTHONPATH": path, name: value, **environment})
        words = [MPIEXEC, "-n", str(number), sys.executable, "-c", textwrap.dedent(code)]
        # A session of its own, as from a terminal of its own.
        self.process = subprocess.Popen(
            [*words, *map(str, arguments)], env=env, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait(self):
        """Wait for the end; gives the exit status, standard output, and standard error."""
        output, errors = self.process.communicate()
        return self.process.returncode, output, errors

    def ranks(self):
        """Number of a rank -> its process, for those that live."""
        return {
            int(variables["PMI_RANK"]): process
            for process, variables in self._processes()
            if "PMI_RANK" in variables
        }

    def wait_until_gone(self):
        """Wait until no process of the job is left."""
        while list(self._processes()):
            time.sleep(0.05)

    def _processes(self):
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                words = path.read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended, or is another user's
                continue
            if self._mark in words:
                yield int(path.parent.name), dict(word.partition("=")[::2] for word in words)


def mpiexec(number, code, *arguments, **environment):
    """Run code in several processes; gives what they printed on standard output."""
    status, output, errors = Job(number, code, *arguments, **environment).wait()
    assert status == 0, errors
    return output
