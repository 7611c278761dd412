"""The chapter "Deep Recurrent Neural Networks" of 2019, running today.

Made to be imported under the name of the chapter's own library::

    import d2l_deeprnn as d2l

Importing it makes ``import mxnet`` work. MXNet itself, which takes seconds to
load, is imported when a function that needs it is first used.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, List

from . import _repairs
from ._version import __version__

try:
    _repairs.prepare()
    # Where MXNet came first, it is too late for its environment variables, which _mxnet makes up
    # for. Where a library is missing, importing MXNet fails, and the reason is said.
    if "mxnet" in sys.modules or _repairs.missing_libraries():
        from . import _mxnet  # noqa: F401
except _repairs.CannotImportMXNet:
    # The command, which imports this file too, says it in one line and with its own exit status.
    if os.path.basename(sys.argv[0] if sys.argv else "") not in ("d2l-deeprnn", "-m"):
        raise

# Public name -> module that defines it.
_HOME = {
    "Vocab": "vocab",
    "load_corpus": "corpora",
    "load_data_time_machine": "corpora",
    "set_seed": "context",
    "try_all_gpus": "context",
    "try_gpu": "context",
    "data_iter_consecutive": "batches",
    "data_iter_random": "batches",
    "to_onehot": "batches",
    "RNNModel": "model",
    "predict_rnn": "predict",
    "predict_rnn_gluon": "predict",
    "EpochRecord": "train",
    "grad_clipping": "train",
    "grad_clipping_gluon": "train",
    "sgd": "train",
    "train_and_predict_rnn": "train",
    "train_and_predict_rnn_gluon": "train",
    "use_svg_display": "figure",
    # beyond the chapter: its first exercise
    "deep_gru": "scratch",
    "deep_lstm": "scratch",
    "deep_rnn": "scratch",
    "two_layer_rnn": "scratch",
    "DeepGateLSTMCell": "deepgates",
    "deep_gate_lstm": "deepgates",
    "params_from_gluon": "convert",
    "params_to_gluon": "convert",
    # beyond the chapter: training on any text; the functions are in runs, evaluate and generate
    "NGramModel": "ngram",
    "StackedRNN": "stacked",
    "TrainSettings": "settings",
    "load_run": "runs",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:  # what editors and type checkers read
    from .batches import data_iter_consecutive, data_iter_random, to_onehot
    from .context import set_seed, try_all_gpus, try_gpu
    from .convert import params_from_gluon, params_to_gluon
    from .corpora import load_corpus, load_data_time_machine
    from .deepgates import DeepGateLSTMCell, deep_gate_lstm
    from .figure import use_svg_display
    from .model import RNNModel
    from .ngram import NGramModel
    from .predict import predict_rnn, predict_rnn_gluon
    from .runs import load_run
    from .scratch import deep_gru, deep_lstm, deep_rnn, two_layer_rnn
    from .settings import TrainSettings
    from .stacked import StackedRNN
    from .train import (
        EpochRecord,
        grad_clipping,
        grad_clipping_gluon,
        sgd,
        train_and_predict_rnn,
        train_and_predict_rnn_gluon,
    )
    from .vocab import Vocab


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_HOME})
