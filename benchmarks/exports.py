"""Is the held-out loss of a run's model the same in MXNet, ONNX Runtime and PyTorch?

    d2l-deeprnn train --corpus tinyshakespeare ... --out DIR
    python benchmarks/exports.py --runs DIR

Exports the best checkpoint of each run as ONNX and as safetensors. All libraries score the
validation part of the run's text in one go, in float32. Writes ``results/export.csv``, ``.json``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import turns

TOLERANCE = 1e-5  # nats per character; a larger difference is an error
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def main() -> None:
    options = turns.parser(__doc__)
    options.add_argument("--runs", type=Path, nargs="+", required=True, help="directories of runs")
    arguments = options.parse_args()
    rows = [row for directory in arguments.runs for row in losses(directory)]
    packages = ["onnx", "onnxruntime", "safetensors", "torch"]
    turns.write(arguments, rows, name="export", packages=packages, tolerance_nats=TOLERANCE)
    for row in rows:
        print(f"{row['run']}, {row['library']}: {row['nats']:.8f} nats")
    if max(abs(row["difference_nats"]) for row in rows) > TOLERANCE:
        sys.exit(f"the losses differ by more than {TOLERANCE:g} nats")


def losses(directory: Path) -> Iterator[Dict[str, Any]]:
    """Yield the row of each library, with the loss of the run's model."""
    from d2l_deeprnn.export import export_run
    from d2l_deeprnn.training import runs
    from d2l_deeprnn.training.evaluate import evaluate

    run, text = runs.load_run(directory), runs.read_own_text(directory)
    expected = None
    with tempfile.TemporaryDirectory() as folder:
        graph, weights = Path(folder, "model.onnx"), Path(folder, "model.safetensors")
        export_run(directory, graph, format="onnx")
        export_run(directory, weights, format="safetensors")
        libraries = {
            "MXNet": run.model,
            "ONNX Runtime": OnnxModel(graph),
            "PyTorch": PyTorchModel(weights),
        }
        for library, model in libraries.items():
            result = evaluate(model, text.valid, run.ctx, batch_size=1)
            expected = result.nats if expected is None else expected
            yield {
                "run": directory.name,
                "library": library,
                "nats": result.nats,
                "num_chars": result.num_chars,
                "difference_nats": result.nats - expected,
            }


class OnnxModel:
    """An exported graph that is called like an ``RNNModel``."""

    def __init__(self, path: Path) -> None:
        from d2l_deeprnn.export.onnx import runtime

        self._session = runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._states = self._session.get_inputs()[1:]

    def begin_state(self, batch_size: int, ctx: Any = None) -> List[Any]:
        from mxnet import nd

        return [nd.zeros((batch_size, state.shape[1])) for state in self._states]

    def __call__(self, inputs: Any, state: List[Any]) -> Tuple[Any, List[Any]]:
        from mxnet import nd

        given = {s.name: array.asnumpy() for s, array in zip(self._states, state)}
        tokens = inputs.asnumpy().astype("int64")
        scores, *new = self._session.run(None, {"tokens": tokens, **given})
        return _by_step(scores), [nd.array(array) for array in new]


class PyTorchModel:
    """An exported model in PyTorch, read by the example, that is called like an ``RNNModel``."""

    def __init__(self, path: Path) -> None:
        sys.path.append(str(EXAMPLES))
        from pytorch_generate import load

        self._model, _ = load(str(path))

    def begin_state(self, batch_size: int, ctx: Any = None) -> List[Any]:
        return []  # zeros

    def __call__(self, inputs: Any, state: Any) -> Tuple[Any, Any]:
        import torch

        with torch.no_grad():
            tokens = torch.from_numpy(inputs.asnumpy().astype("int64"))
            scores, state = self._model(tokens, state or None)
        return _by_step(scores.numpy()), state


def _by_step(scores: Any) -> Any:
    """Reorder (batch_size, num_steps, vocab_size) time step by time step, as in ``RNNModel``."""
    from mxnet import nd

    return nd.array(scores.swapaxes(0, 1).reshape(-1, scores.shape[-1]))


if __name__ == "__main__":
    main()
