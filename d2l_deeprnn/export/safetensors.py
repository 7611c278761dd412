"""Export to safetensors: parameters under the names that PyTorch gives them, without pickle.

PyTorch's ``LSTM``, ``GRU`` and ``RNN`` have the same gates in the same order as Gluon's, two biases
as well, and the same form of GRU. So only the names change; the values are the same to the bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from .._checks import expected_arrays
from ..files import parse_json
from ..text.vocab import Vocab
from . import ExportError, missing
from .network import FORMAT_VERSION, WEIGHTS, Export, Layer, Network

NEEDS = "the package safetensors"
AGAIN = "export the model again, with --format safetensors"
# Gluon's name -> PyTorch's, without the number of the layer.
NAMES = dict(zip(WEIGHTS, ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")))
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


class Contents(NamedTuple):
    """The contents of a file; see ``Export``."""

    network: Network
    vocab: Vocab
    lower: bool
    fold_whitespace: bool
    source: Dict[str, Any]


def write(export: Export, file: BinaryIO) -> None:
    """Write a model.

    Raises:
        ExportError: if ``torch.nn`` does not have such layers.
        ImportError: if safetensors is missing.
    """
    try:
        import safetensors.numpy
    except ImportError as error:
        raise missing(error, "safetensors", NEEDS) from error
    _check_equal_layers(export.network.layers)
    arrays = {}
    for i, layer in enumerate(export.network.layers):
        for name, torch_name in NAMES.items():
            arrays[f"rnn.{torch_name}{i}"] = getattr(layer, name)
    arrays["dense.weight"] = export.network.dense_weight
    arrays["dense.bias"] = export.network.dense_bias
    # "pt" marks the names as PyTorch's.
    metadata = {"format": "pt", **export.metadata()}
    file.write(safetensors.numpy.save(arrays, metadata=metadata))


def _check_equal_layers(layers: Sequence[Layer]) -> None:
    if any(layer.residual for layer in layers):
        raise ExportError("the model has a ResidualCell, which torch.nn lacks: use the format onnx")
    kinds = {(layer.mode, layer.num_hiddens) for layer in layers}
    if len(kinds) > 1:
        shown = ", ".join(f"{mode} with {size} units" for mode, size in sorted(kinds))
        raise ExportError(
            f"the model's layers differ ({shown}), but torch.nn needs equal ones: use the format "
            "onnx"
        )


def read(path: Path) -> Contents:
    """Read a file that ``write`` wrote, or that PyTorch saved with the same metadata.

    Raises:
        ExportError: if the file is missing, damaged, or not such a file.
        ImportError: if safetensors is missing.
    """
    try:
        import safetensors
    except ImportError as error:
        raise missing(error, "safetensors", NEEDS) from error
    try:
        if not path.is_file():
            raise ValueError("there is no such file" if not path.exists() else "it is not a file")
        with safetensors.safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_metadata(metadata)
            arrays = {}
            for name in sorted(file.keys()):
                dtype = file.get_slice(name).get_dtype()  # NumPy does not have all types
                if dtype != "F32":
                    raise ValueError(f"{name} must contain 32-bit floats (F32), not {dtype}")
                arrays[name] = file.get_tensor(name)
        return _contents(metadata, arrays)
    # The libraries can raise almost anything on corrupt input.
    except Exception as error:
        reason: Any = error
        if type(error) is KeyError:
            reason = f"{error} is missing in its metadata"
        elif isinstance(error, (safetensors.SafetensorError, TypeError, AttributeError)):
            reason = f"it is not a safetensors file, or it is damaged: {AGAIN}"
        raise ExportError(
            f"{path} cannot be imported: {' '.join(str(reason).split())[:600]}"
        ) from error


def _check_metadata(metadata: Dict[str, str]) -> None:
    version = metadata.get("d2l_deeprnn_format")
    if version is None:
        raise ValueError(
            "it has no metadata of a model; only files that `d2l-deeprnn export` wrote, or that "
            "keep the metadata of such a file, can be imported"
        )
    if version != FORMAT_VERSION:
        raise ValueError(
            f"its metadata has version {version!r}, not {FORMAT_VERSION}: update d2l_deeprnn"
        )


def _contents(metadata: Dict[str, str], arrays: Dict[str, np.ndarray]) -> Contents:
    layers: List[Dict[str, Any]] = parse_json(metadata["layers"])
    vocab = Vocab.from_tokens(parse_json(metadata["vocab"]))
    cleaning, source = parse_json(metadata["cleaning"]), parse_json(metadata["source"])
    lower, fold_whitespace = cleaning["lower"], cleaning["fold_whitespace"]
    if not isinstance(lower, bool) or not isinstance(fold_whitespace, bool):
        raise ValueError(f"its cleaning must be true or false, not {cleaning}")
    if not isinstance(source, dict):
        raise ValueError(f"its source must be names with values, not {source!r}")
    arrays = expected_arrays("", arrays, _shapes(layers, len(vocab)))
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite")
    values: List[Dict[str, Any]] = [
        {name: arrays[f"rnn.{torch_name}{i}"] for name, torch_name in NAMES.items()}
        for i in range(len(layers))
    ]
    network = Network(
        [Layer(layers[0]["cell"], **of_layer) for of_layer in values],
        arrays["dense.weight"],
        arrays["dense.bias"],
    )
    return Contents(network, vocab, lower, fold_whitespace, source)


def _shapes(layers: Sequence[Dict[str, Any]], vocab_size: int) -> Dict[str, Tuple[int, ...]]:
    """Return the names and shapes of the arrays that the file must contain."""
    if not layers:
        raise ValueError("its metadata lists no layers")
    cell, num_hiddens = layers[0]["cell"], layers[0]["num_hiddens"]
    if cell not in GATES:
        raise ValueError(f"its cell must be one of {', '.join(GATES)}, not {cell!r}")
    shapes: Dict[str, Tuple[int, ...]] = {}
    for i, layer in enumerate(layers):
        if (layer["cell"], layer["num_hiddens"], layer["residual"]) != (cell, num_hiddens, False):
            raise ValueError(f"its layers must be alike, but they are {layers}")
        rows = GATES[cell] * num_hiddens
        shapes[f"rnn.weight_ih_l{i}"] = (rows, num_hiddens if i else vocab_size)
        shapes[f"rnn.weight_hh_l{i}"] = (rows, num_hiddens)
        shapes[f"rnn.bias_ih_l{i}"] = shapes[f"rnn.bias_hh_l{i}"] = (rows,)
    shapes["dense.weight"] = (vocab_size, num_hiddens)
    shapes["dense.bias"] = (vocab_size,)
    return shapes
