"""Export trained models to other programs.

Each format has a module of the same name with a function ``write(export, file)``. It writes the
model of an ``Export`` to a binary file, or raises an ``ExportError`` if the format does not support
the model. It imports the packages that it needs only when it is called.
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

# Format -> description, for the command line.
FORMATS = {
    "onnx": "a graph for ONNX Runtime and other programs that read ONNX",
    "safetensors": "parameters as torch.nn names them, for PyTorch and `import`",
    "html": "a page that runs the model in a browser, also offline",
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
    """Write a trained model to a file for other programs.

    Before anything is written, the scores and states of the exported network are compared with the
    model's, on random tokens and states.

    Args:
        model: an ``RNNModel`` around a fused layer of Gluon, a ``StackedRNN``, or cells, with
            initialized float32 parameters. Subclasses are rejected, since they may compute
            anything.
        vocab: the vocabulary that it was trained with.
        path: the file to create. It must not exist.
        format: ``"onnx"``, ``"safetensors"`` or ``"html"``.
        lower: whether the text was converted to lower case, as in the chapter. The file records
            this, so that other programs can clean prefixes in the same way.
        fold_whitespace: whether runs of white space in the text were replaced with single spaces,
            as in the chapter. The file records this, too.
        float32: keep the parameters of a page (``html``) in single precision. Otherwise they are
            rounded to half precision, which makes the page half as large. The other formats always
            use single precision.

    Raises:
        ExportError: if the format does not support the model, if a parameter has no value yet, if
            ``path`` exists or cannot be created, or if the exported network computes something
            else.
        ValueError: if the format is unknown, or the model was made for another vocabulary.
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
    """Write the model of a run to a file for other programs; see ``export_model``.

    Args:
        directory: directory of a run of ``train``.
        path: the file to create. It must not exist.
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
    source = source_of_run(directory, run, checkpoint)
    if format == "html":
        from .html import first_words

        source["beginning"] = first_words(directory, run)
    keeps = run.settings.keep_case, run.settings.keep_whitespace
    export = Export.of(run.model, run.vocab, not keeps[0], not keeps[1], source)
    write_export(export, path, format, float32=float32)


def check_output(path: Path, format: str) -> None:
    """Check the format and the path before anything is computed.

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
    """Write a model in a format, completely or not at all."""
    module: Any = importlib.import_module(f".{format}", __name__)
    options = {"float32": float32} if format == "html" else {}
    with atomic_file(path) as file:
        module.write(export, file, **options)


def missing(error: ImportError, format: str, needs: str) -> ImportError:
    """Return an error that says how to install the packages that a format needs.

    Args:
        error: the error of the import.
        format: name of the format and of the extra.
        needs: the packages, as the message names them.
    """
    return ImportError(
        f"the format {format} needs {needs} ({error}): pip install 'd2l_deeprnn[{format}]'"
    )
