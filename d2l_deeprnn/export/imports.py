"""Import models from safetensors files written by ``export`` or re-saved by PyTorch."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple

from .._mxnet import gluon, nd
from .._mxnet.library import set_value, try_gpu
from ..files import PathLike, new_directory, user_path
from ..nn.model import RNNModel
from ..text.vocab import Vocab
from ..training.learner import build_model
from ..training.run_directory import RunError
from ..training.runs import write_run
from ..training.settings import SettingsError, TrainSettings, from_dict
from ..training.trainer import history_in
from . import ExportError
from .network import Network, compare, recurrent_parameters
from .safetensors import AGAIN, Contents, read

CELLS = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "rnn"}  # mode -> cell in a run's settings
UNKNOWN_TEXT = "unknown"  # the text's name if the file does not have it


class ImportedModel(NamedTuple):
    """An imported model with its vocabulary.

    Attributes:
        model: the model, around a fused layer of Gluon.
        vocab: the vocabulary that it was trained with.
        lower: whether its text was converted to lower case.
        fold_whitespace: whether runs of white space in the text were replaced with single spaces.
        source: the model's origin, if the file has it.
    """

    model: RNNModel
    vocab: Vocab
    lower: bool
    fold_whitespace: bool
    source: Dict[str, Any]


def import_model(path: PathLike) -> ImportedModel:
    """Read a model from a safetensors file.

    Args:
        path: a file that ``export_model`` or ``export_run`` wrote, or that another program wrote
            with the same metadata. Nothing in it is executed.

    Returns:
        The model, equal to the bit to the one that was exported, on the device of ``try_gpu``, with
        its vocabulary.

    Raises:
        ExportError: if the file is missing, damaged, or not such a file.
        ImportError: if the package safetensors is missing.

    Example:
        >>> import pathlib, tempfile
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> from mxnet.gluon import rnn
        >>> vocab = d2l.Vocab("time machine")
        >>> model = d2l.RNNModel(rnn.LSTM(8), len(vocab))
        >>> model.initialize()
        >>> scores, _ = model(nd.array([[1, 2]]), model.begin_state(batch_size=1))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "lstm.safetensors"
        >>> d2l.export_model(model, vocab, path, format="safetensors")
        >>> again = d2l.import_model(path)
        >>> same, _ = again.model(nd.array([[1, 2]]), again.model.begin_state(batch_size=1))
        >>> bool((same == scores).asnumpy().all()), again.vocab.idx_to_token == vocab.idx_to_token
        (True, True)
    """
    contents = read(user_path(path))
    network, first = contents.network, contents.network.layers[0]
    kind, _, activation = first.mode.partition("_")
    kinds = {"lstm": gluon.rnn.LSTM, "gru": gluon.rnn.GRU, "rnn": gluon.rnn.RNN}
    options: Dict[str, Any] = {"activation": activation} if activation else {}
    size = len(contents.vocab)
    layer = kinds[kind](first.num_hiddens, len(network.layers), input_size=size, **options)
    model = RNNModel(layer, size)
    _set_values(model, network)
    return ImportedModel(model, *contents[1:])


def import_run(path: PathLike, out: PathLike) -> None:
    """Make a run from a model in a safetensors file.

    The run has the model's parameters to the bit. It can be evaluated, generate text, and be
    exported again. If the file names the text that the model was trained on, the run can be trained
    further, but with a new optimizer and new random numbers: the file does not contain their state.

    Args:
        path: as in ``import_model``.
        out: directory of the run. It must not exist, or be empty.

    Raises:
        ExportError, ImportError: as ``import_model``. An RNN with relu is an ExportError, too,
            since runs do not support it.
        RunError: if the directory is not empty, or is not a directory.
        OSError: if a file cannot be written.
    """
    path, out = user_path(path), user_path(out)
    contents = read(path)
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise RunError(f"{out} exists and is not an empty directory: choose another")
    try:
        settings = _settings(contents)
        text = _text(contents)
        history = history_in({"history": [], **contents.source})
        model = build_model(settings, len(contents.vocab))
        _set_values(model, contents.network)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason: Any = error
        if type(error) is KeyError:
            reason = f"{error} is missing in its metadata"
        elif isinstance(error, (TypeError, AttributeError)):
            reason = f"its metadata is damaged: {AGAIN}"
        raise ExportError(f"{path} cannot be imported: {reason}") from error
    source = contents.source
    imported = {
        "file": path.name,
        "epochs": len(history),
        **{name: source[name] for name in ("run", "checkpoint", "d2l_deeprnn") if name in source},
    }
    with new_directory(out) as directory:
        write_run(directory, settings, model, contents.vocab, history, text=text, imported=imported)


def _set_values(model: RNNModel, network: Network) -> None:
    """Copy a network's parameters to a model, and check that the model computes the same."""
    model.initialize(ctx=try_gpu())
    for layer, parameters in zip(network.layers, recurrent_parameters(model.rnn)):
        for name, param in parameters.items():
            param.set_data(nd.array(getattr(layer, name)))
    for param, value in [
        (model.dense.weight, network.dense_weight),
        (model.dense.bias, network.dense_bias),
    ]:
        param.shape = value.shape
        set_value(param, nd.array(value))
    compare(model, network, network.forward, "the imported model")


def _settings(contents: Contents) -> TrainSettings:
    """Return the settings of the model's run, or those that are known."""
    layers = contents.network.layers
    mode = layers[0].mode
    if mode not in CELLS:
        raise ValueError(
            f"its cell is {mode}, but a run can only have {', '.join(CELLS.values())} (with tanh): "
            "use d2l_deeprnn.import_model"
        )
    known: Dict[str, Any] = {
        "cell": CELLS[mode],
        "num_layers": len(layers),
        "num_hiddens": layers[0].num_hiddens,
        "keep_case": not contents.lower,
        "keep_whitespace": not contents.fold_whitespace,
    }
    if "settings" not in contents.source:
        return TrainSettings(corpus=(UNKNOWN_TEXT,), **known)
    settings = from_dict(contents.source["settings"])
    for name, value in known.items():
        if getattr(settings, name) != value:
            raise SettingsError(
                f"{name} is {getattr(settings, name)!r} in its settings, but {value!r} in its "
                "layers or its cleaning"
            )
    return settings


def _text(contents: Contents) -> Mapping[str, Any]:
    """Return the known facts about the text that the model was trained on."""
    if "settings" not in contents.source:
        return {"sha256": None, "vocab_size": len(contents.vocab)}
    text: Dict[str, Any] = contents.source["text"]
    sha256 = text["sha256"]
    if sha256 is not None and not isinstance(sha256, str):
        raise ValueError(f"the sha256 of its text must be a string, not {sha256!r}")
    return text
