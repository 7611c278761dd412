"""Which broken trainings does ``reproduce`` refuse, and when?

Trains the chapter on the book's text with one mistake at a time. The trainings are compared with
the book epoch by epoch, by the verdict of ``d2l-deeprnn reproduce``: once with the losses that are
known for the seed, and once without, as for a seed whose losses are not known. A training ends as
soon as both have refused it. Writes ``results/broken_trainings.csv`` and ``.json``.

    python benchmarks/broken_trainings.py

Each training runs in a new process with one thread. Its rows are written when it ends, so the
script can be interrupted and repeated. Needs the book's text, and 35 minutes per seed.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple
from unittest import mock

import numpy as np
from turns import parser, resume

import d2l_deeprnn as d2l
from d2l_deeprnn._mxnet import nd
from d2l_deeprnn._perplexity import perplexity
from d2l_deeprnn.chapter import report
from d2l_deeprnn.chapter.book import BOOK, CHAPTER
from d2l_deeprnn.chapter.reproduce import Run
from d2l_deeprnn.chapter.train import PREDICTED_CHARS, EpochRecord
from d2l_deeprnn.training.learner import Diverged, Learner, new_model
from d2l_deeprnn.training.optimization import clipping_factor, scale, trainable_parameters
from d2l_deeprnn.training.settings import TrainSettings
from d2l_deeprnn.training.trainer import Callback

RIGHT = "nothing"
OTHER_SEED = 1000  # no losses are known for it

# Wrong settings -----------------------------------------------------------------------------------

SETTINGS: Dict[str, Dict[str, Any]] = {
    "one layer": {"num_layers": 1},
    "GRU": {"cell": "gru"},
    "128 units": {"num_hiddens": 128},
    "forget bias 1": {"forget_bias": 1.0},
    **{f"learning rate {lr}": {"lr": float(lr)} for lr in (2, 4, 6, 10, 20)},
    "no clipping": {"clipping_theta": 1e9},
    "theta 10": {"clipping_theta": 10.0},
    "random sampling": {"sampling": "random"},
    "9,000 characters": {"num_examples": 9000},
}

# Wrong code: functions that break a learner -------------------------------------------------------


def wider_initialization(learner: Learner) -> None:
    for param in learner.model.collect_params().values():
        param.set_data(2 * param.data())  # biases are 0


def one_bias_per_gate(learner: Learner) -> None:
    for name, param in learner.model.collect_params().items():
        if name.endswith("h2h_bias"):
            param.grad_req = "null"  # it stays 0


def clipping_each_array(learner: Learner) -> None:
    def clipped_gradients() -> List[nd.NDArray]:
        for param in trainable_parameters(learner.model):
            scale([param.grad()], clipping_factor([param.grad()], CHAPTER.clipping_theta))
        return [nd.zeros(1)]  # of norm 0, so that nothing is clipped again

    learner.network.gradients = clipped_gradients


def before_each_step(change: Callable[..., Tuple[Any, ...]]) -> Callable[[Learner], None]:
    """Return a function that breaks a learner by changing the minibatches or the hidden state."""

    def break_learner(learner: Learner) -> None:
        step = learner.train_step
        learner.train_step = lambda X, Y, state: step(*change(X, Y, state))

    return break_learner


def no_random_offset(learner: Learner) -> None:
    train_epoch = learner.train_epoch

    def train_from_the_beginning(callbacks: Sequence[Callback]) -> Any:
        with mock.patch("random.uniform", return_value=0.0):
            return train_epoch(callbacks)

    learner.train_epoch = train_from_the_beginning


def rolled(state: Sequence[nd.NDArray]) -> List[nd.NDArray]:
    """Give each row the state of the next one."""
    return [nd.concat(array[:, 1:], array[:, :1], dim=1) for array in state]


CODE: Dict[str, Callable[[Learner], None]] = {
    "Normal(0.02)": wider_initialization,
    "one bias per gate": one_bias_per_gate,
    "labels not transposed": before_each_step(
        lambda X, Y, state: (X, Y.reshape(Y.shape[::-1]).T, state)
    ),
    "clipping array by array": clipping_each_array,
    "state not carried": before_each_step(lambda X, Y, state: (X, Y, [0 * s for s in state])),
    "state rows mixed": before_each_step(lambda X, Y, state: (X, Y, rolled(state))),
    "no random offset": no_random_offset,
}

# Wrong reports of a right training: functions of the losses of all epochs, by minibatch -----------

Losses = Sequence[Sequence[float]]
REPORTS: Dict[str, Callable[[Losses], List[float]]] = {
    RIGHT: lambda epochs: [perplexity(fmean(losses)) for losses in epochs],
    "mean of perplexities": lambda epochs: [fmean(map(perplexity, losses)) for losses in epochs],
    "counter 10 epochs late": lambda epochs: REPORTS[RIGHT](epochs[10:]),
}
TRAININGS = (RIGHT, *SETTINGS, *CODE)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 on")
    options.add_argument("--trainings", nargs="+", choices=TRAININGS, help="default: all")
    arguments = options.parse_args()
    tasks = [
        {"training": training, "seed": seed}
        for seed in range(arguments.seeds)
        for training in arguments.trainings or TRAININGS
    ]
    resume(arguments, __file__, "judge", tasks)


class Judged:
    """A training as it is reported, and when the verdict refuses it.

    Attributes:
        refusals: "known" (losses) and "unknown" -> epoch and test of the first refusal.
    """

    def __init__(self, seed: int) -> None:
        settings = replace(BOOK.train_settings(), seed=seed)
        self.run = Run(settings)
        self._runs = {
            "known": self.run,
            "unknown": Run(replace(settings, seed=OTHER_SEED), history=self.run.history),
        }
        self.refusals: Dict[str, Tuple[int, str]] = {}

    def add(self, value: float, predict: Callable[[str], str]) -> None:
        """Add the perplexity of an epoch, and predictions if the book printed them."""
        epoch = len(self.run.history) + 1
        prefixes = CHAPTER.prefixes if epoch in BOOK.predictions else ()
        record = EpochRecord(epoch, value, 0.0, tuple(map(predict, prefixes)))
        self.run.history.append(record)
        for losses, run in self._runs.items():
            if losses not in self.refusals and report.verdict(run).agrees is False:
                self.refusals[losses] = epoch, self._test()

    def diverge(self) -> None:
        """Note that training ends with an error in the epoch after those added."""
        for losses in self._runs:
            self.refusals.setdefault(losses, (len(self.run.history) + 1, "error"))

    def _test(self) -> str:
        """Return the test that refuses the run after its last epoch."""
        rows = self.run.rows()
        if not rows or rows[-1].epoch < len(self.run.history):
            return "first losses"
        return "predictions" if rows[-1].agrees else "perplexity"

    def row(self) -> Dict[str, Any]:
        """Return the refusals, with empty cells if there are none, and perplexities."""
        cells: Dict[str, Any] = {}
        for losses, name in ("known", ""), ("unknown", "_without_losses"):
            epoch, test = self.refusals.get(losses, ("", ""))
            cells.update({f"test{name}": test, f"epoch{name}": epoch})
        values = {row.epoch: f"{row.perplexity:.6f}" for row in self.run.rows()}
        printed = {f"at_{line.epoch}": values.get(line.epoch, "") for line in BOOK.printed}
        return {**cells, **printed}


class KeepLosses(Callback):
    """Keeps the losses of each epoch's minibatches."""

    def __init__(self) -> None:
        self.epochs: List[List[float]] = []

    def before_scoring(self, trainer: Any) -> None:
        self.epochs.append(list(trainer.losses))


def new_learner(settings: TrainSettings, indices: Sequence[int], vocab_size: int) -> Learner:
    """Return a learner as ``reproduce`` has it."""
    ctx = d2l.try_gpu()
    model = new_model(settings, vocab_size, ctx)
    return Learner(settings, model, np.array(indices), np.array([], np.int32), ctx)


def judge(training: str, seed: int) -> List[Mapping[str, Any]]:
    """Train until both verdicts are known; return a row for each report of the training."""
    settings = replace(BOOK.train_settings(), seed=seed, **SETTINGS.get(training, {}))
    indices, vocab = d2l.load_data_time_machine(settings.num_examples)
    learner = new_learner(settings, indices, len(vocab))
    if training in CODE:
        CODE[training](learner)
    reports = REPORTS if training == RIGHT else {training: REPORTS[RIGHT]}
    judged = {name: Judged(seed) for name in reports}

    def predict(prefix: str) -> str:
        return d2l.predict_rnn_gluon(prefix, PREDICTED_CHARS, learner.model, vocab, learner.ctx)

    for epochs in trained(learner):
        for name, values in reports.items():
            run = judged[name].run
            for value in values(epochs)[len(run.history) : CHAPTER.num_epochs]:
                judged[name].add(value, predict)
        if all(
            len(each.refusals) == 2 or len(each.run.history) == CHAPTER.num_epochs
            for each in judged.values()
        ):
            break
    else:
        for each in judged.values():
            each.diverge()
    return [
        {"training": name, "seed": seed, "epochs": len(each.run.history), **each.row()}
        for name, each in judged.items()
    ]


def trained(learner: Learner) -> Iterator[Losses]:
    """Yield the losses so far after each epoch; end if training diverges."""
    kept = KeepLosses()
    while True:
        try:
            learner.train_epoch([kept])
        except Diverged:
            return
        yield kept.epochs


if __name__ == "__main__":
    main()
