"""Trained models in the formats of other programs.

The file of a format is called as the format is, and has one function,
``write(export, file)``: it writes the model of an ``Export`` into a binary
file, or raises an ``ExportError`` where the format cannot hold the model. What
it needs beside this package is imported in that function.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import D2LError
from ..files import PathLike, atomic_file, user_path

if TYPE_CHECKING:
    from ..nn.model import RNNModel
    from ..text.vocab import Vocab
    from .network import Export

# Format -> what it is for; the command line shows it.
FORMATS = {
    "onnx": "a graph for ONNX Runtime and other programs that read ONNX",
    "safetensors": "parameters as torch.nn names them, for PyTorch and `import`",
    "html": "a page that runs the model in a browser, without a network",
}


class ExportError(D2LError, RuntimeError):
    """A model cannot be exported or imported; the message says why."""


def export_model(
    model: RNNModel,
    vocab: Vocab,
    path: PathLike,
    *,
    format: str,
    lower: bool = True,
    fold_whitespace: bool = True,
    float32: bool = False,
) -> None:
    """Write a trained model into a file for other programs.

    What the file will compute is compared with the model before anything is
    written: scores and states, on random tokens and states.

    Args:
        model: an ``RNNModel`` around a fused layer of Gluon, a ``StackedRNN``,
            or cells, with values in its parameters, in float32. It must not be
            a subclass, nor hold one: nothing would say what that computes.
        vocab: the vocabulary that it was trained with.
        path: of the file. It must not exist.
        format: ``"onnx"``, ``"safetensors"`` or ``"html"``.
        lower: whether the text was turned into lower case, as the chapter's
            is; stands in the file, for those who clean prefixes.
        fold_whitespace: whether line breaks and runs of white space in it were
            turned into one space each, as in the chapter's; likewise.
        float32: keep the parameters of a page (``html``) in single precision.
            Otherwise they are rounded to half precision, which makes the page
            half as large. The other formats always keep them.

    Raises:
        ExportError: if the model is one that the format cannot hold, if it
            has no values yet, if ``path`` exists or cannot be made, or if what
            was to be written does not compute what the model does.
        ValueError: if the format is unknown, or the model was made for another
            vocabulary.
        ImportError: if a package that the format needs is missing.
        OSError: if the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> import d2l_deeprnn as d2l
        >>> from mxnet import nd
        >>> from mxnet.gluon import rnn
        >>> vocab = d2l.Vocab("time machine")
        >>> model = d2l.RNNModel(rnn.GRU(8, num_layers=2), len(vocab))
        >>> model.initialize()
        >>> _ = model(nd.array([[1]]), model.begin_state(batch_size=1))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "gru.safetensors"
        >>> d2l.export_model(model, vocab, path, format="safetensors")
        >>> path.stat().st_size > 1000
        True
    """
    from .network import Export

    path = user_path(path)
    check_output(path, format)
    write_export(Export.of(model, vocab, lower, fold_whitespace), path, format, float32=float32)


def export_run(
    directory: PathLike,
    path: PathLike,
    *,
    format: str,
    checkpoint: str = "best",
    float32: bool = False,
) -> None:
    """Write the model of a run into a file for other programs; see ``export_model``.

    Args:
        directory: of a run of ``train``.
        path: of the file. It must not exist.
        format: ``"onnx"``, ``"safetensors"`` or ``"html"``.
        checkpoint: "best" or "last".
        float32: as in ``export_model``.

    Raises:
        RunError, CheckpointError: as ``load_run``.
        ExportError, ValueError, ImportError, OSError: as ``export_model``.
    """
    from ..training.runs import load_run
    from .network import Export, source_of_run

    directory, path = user_path(directory), user_path(path)
    check_output(path, format)
    run = load_run(directory, checkpoint=checkpoint)
    export = Export.of(
        run.model,
        run.vocab,
        not run.settings.keep_case,
        not run.settings.keep_whitespace,
        source_of_run(directory, run, checkpoint),
    )
    write_export(export, path, format, float32=float32)


def check_output(path: Path, format: str) -> None:
    """Refuse, before anything is computed, what cannot be written.

    Raises:
        ValueError: if the format is unknown.
        ExportError: if the file exists, or its directory does not.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    if path.is_symlink() or path.exists():
        raise ExportError(f"{path} already exists: choose another file, or remove it first")
    if not path.parent.is_dir():
        raise ExportError(
            f"{path} cannot be written: there is no directory {path.parent}; create it, or choose "
            "another"
        )


def write_export(export: Export, path: Path, format: str, *, float32: bool = False) -> None:
    """Write a model in a format, all of it or nothing."""
    module: Any = importlib.import_module(f".{format}", __name__)
    options = {"float32": float32} if format == "html" else {}
    with atomic_file(path) as file:
        module.write(export, file, **options)


def missing(error: ImportError, format: str, needs: str) -> ImportError:
    """The error that a package is missing which a format needs, with the command that helps.

    Args:
        error: what importing the package gave.
        format: the name of the extra is the same.
        needs: the packages, in words.
    """
    return ImportError(
        f"the format {format} needs {needs} ({error}): pip install 'd2l_deeprnn[{format}]'"
    )
