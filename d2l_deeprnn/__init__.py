"""The chapter "Deep Recurrent Neural Networks" of 2019, running today.

Import it under the name of the chapter's own library::

    import d2l_deeprnn as d2l

Importing it makes ``import mxnet`` work. MXNet itself, which takes seconds to
load, is imported when a function that needs it is first used.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, List

from ._mxnet import diagnosis as _diagnosis
from ._mxnet import repairs as _repairs
from ._version import __version__

try:
    _repairs.prepare()
    # If MXNet was imported first, it is too late for its environment variables; _mxnet makes up for
    # that. If a library is missing, importing MXNet fails, and the error gives the reason.
    if "mxnet" in sys.modules or _diagnosis.missing_libraries():
        from ._mxnet import library as _mxnet  # noqa: F401
except _repairs.CannotImportMXNet:
    # The command imports this file too; it prints one line and has an exit status of its own.
    if os.path.basename(sys.argv[0] if sys.argv else "") not in ("d2l-deeprnn", "-m"):
        raise

# Public name -> module that defines it.
_HOME = {
    "D2LError": "errors",
    "Vocab": "text.vocab",
    "load_corpus": "text.corpora",
    "load_data_time_machine": "text.corpora",
    "set_seed": "_mxnet.library",
    "try_all_gpus": "_mxnet.library",
    "try_gpu": "_mxnet.library",
    "data_iter_consecutive": "text.minibatches",
    "data_iter_random": "text.minibatches",
    "to_onehot": "text.minibatches",
    "RNNModel": "nn.model",
    "predict_rnn": "chapter.predict",
    "predict_rnn_gluon": "chapter.predict",
    "EpochRecord": "chapter.train",
    "grad_clipping": "training.optimization",
    "grad_clipping_gluon": "training.optimization",
    "sgd": "training.optimization",
    "train_and_predict_rnn": "chapter.train",
    "train_and_predict_rnn_gluon": "chapter.train",
    "use_svg_display": "evidence.figures",
    # beyond the chapter: the curve while it trains
    "LivePlot": "evidence.live",
    # beyond the chapter: its first exercise
    "deep_gru": "nn.scratch",
    "deep_lstm": "nn.scratch",
    "deep_rnn": "nn.scratch",
    "two_layer_rnn": "nn.scratch",
    "DeepGateLSTMCell": "nn.deepgates",
    "deep_gate_lstm": "nn.deepgates",
    "params_from_gluon": "nn.convert",
    "params_to_gluon": "nn.convert",
    # beyond the chapter: training on any text; the functions are in runs, evaluate and generate
    "NGramModel": "training.ngram",
    "StackedRNN": "nn.stacked",
    "TrainSettings": "training.settings",
    "load_run": "training.runs",
    # beyond the chapter: export to other programs, and import
    "export_model": "export",
    "export_run": "export",
    "import_model": "export.imports",
    "import_run": "export.imports",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:  # what editors and type checkers read
    from ._mxnet.library import set_seed, try_all_gpus, try_gpu
    from .chapter.predict import predict_rnn, predict_rnn_gluon
    from .chapter.train import (
        EpochRecord,
        train_and_predict_rnn,
        train_and_predict_rnn_gluon,
    )
    from .errors import D2LError
    from .evidence.figures import use_svg_display
    from .evidence.live import LivePlot
    from .export import export_model, export_run
    from .export.imports import import_model, import_run
    from .nn.convert import params_from_gluon, params_to_gluon
    from .nn.deepgates import DeepGateLSTMCell, deep_gate_lstm
    from .nn.model import RNNModel
    from .nn.scratch import deep_gru, deep_lstm, deep_rnn, two_layer_rnn
    from .nn.stacked import StackedRNN
    from .text.corpora import load_corpus, load_data_time_machine
    from .text.minibatches import data_iter_consecutive, data_iter_random, to_onehot
    from .text.vocab import Vocab
    from .training.ngram import NGramModel
    from .training.optimization import grad_clipping, grad_clipping_gluon, sgd
    from .training.runs import load_run
    from .training.settings import TrainSettings


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # so that this function is not called again for the name
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_HOME})
