"""Check your own solutions of the exercises, and learn which mistake a wrong one has.

Give the function itself to the check of the same name, which returns a ``Verdict``::

    from d2l_deeprnn import check

    check.gru_step(gru_step)

The function is called with random parameters and states of several sizes. Its results and gradients
must be those of Gluon's fused layers (for ``gru_step``, of the book's equations, since Gluon's GRU
has another form). If they are not, mistakes are planted in correct code, first one at a time and
then two, until it returns what the function returned. The bank of mistakes is in ``_mistakes.py``.
"""

from __future__ import annotations

import contextlib
import html
import itertools
import random
import re
import traceback
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np

from . import _mistakes
from ._mistakes import equal, leaves
from ._mxnet import autograd, mx, nd
from ._mxnet.library import random_state, set_random_state
from .nn import scratch

Function = Callable[..., Any]
NUM_STEPS = 3
# Rows, inputs, hidden units and outputs. If all are equal, wrong shapes raise no error, so that
# mistakes such as transposed weights can be named.
SIZES = [(3, 4, 5, 6), (1, 6, 7, 2), (4, 4, 4, 4)]
UNKNOWN = "One or two of the usual mistakes do not explain this."
NOT_RECORDED = "Compute with `nd`, without `detach`, `asnumpy` and `asscalar`, to record gradients."


class Verdict(NamedTuple):
    """The result of a check, which is true if the function is right.

    Attributes:
        right: whether the function is right.
        message: what is wrong and where to look, or what was compared.
    """

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return ("Right. " if self.right else "Not right yet. ") + self.message

    def _repr_html_(self) -> str:
        """Return the HTML that Jupyter shows."""
        title, _, message = html.escape(repr(self), quote=False).partition(". ")
        message = re.sub("`(.+?)`", r"<code>\1</code>", message)
        style = f"border-left: 4px solid {'#2e9e5b' if self.right else '#d1603d'}"
        return f'<p style="{style}; padding-left: 0.8em"><b>{title}.</b> {message}</p>'


class _Wrong(Exception):
    """The reader's function is wrong. The text is the verdict's message."""


def two_layer_rnn(function: Callable[..., Any]) -> Verdict:
    """Check ``two_layer_rnn(inputs, state, params)``, as in ``d2l_deeprnn.two_layer_rnn``."""

    def arguments(normal: Function, n: int, d: int, h: int, q: int) -> List[Any]:
        params = [*_triple(normal, d, h), *_triple(normal, h, h), normal(h, q), normal(q)]
        return [[normal(n, d) for _ in range(NUM_STEPS)], [normal(n, h), normal(n, h)], params]

    def reference(inputs: Any, state: Any, params: Any) -> Any:
        layers = [[params[:3]], [params[3:6]]]
        H, state = _gluon("rnn_tanh", layers, nd.stack(*inputs), nd.stack(*state))
        return [nd.dot(H2, params[6]) + params[7] for H2 in H], [state[0], state[1]]

    names = {
        "`outputs` (one array for each time step)": [f"outputs[{t}]" for t in range(NUM_STEPS)],
        "`state` (one array for each layer)": ["H1", "H2"],
    }
    # Not the gradients of inputs and state, which may be detached: training does not need them.
    check = partial(_check, arguments, reference, names, NUM_STEPS + 2, _mistakes.TWO_LAYER_RNN)
    praise = "Outputs, state and gradients equal those of Gluon's `rnn.RNN` with two layers."
    return _verdict("two_layer_rnn", check, function, praise)


def lstm_step(function: Callable[..., Any]) -> Verdict:
    """Check ``lstm_step(X, H, C, i, f, o, c)``, which returns the new H and C.

    The last arguments are the parameters (W_x, W_h, b) of the input gate, the forget gate, the
    output gate and the candidate.
    """

    def arguments(normal: Function, n: int, d: int, h: int, q: int) -> List[Any]:
        return [normal(n, d), normal(n, h), normal(n, h), *(_triple(normal, d, h) for _ in "ifoc")]

    def reference(X: Any, H: Any, C: Any, i: Any, f: Any, o: Any, c: Any) -> Any:
        _, H, C = _gluon("lstm", [[i, f, c, o]], *(array.expand_dims(0) for array in (X, H, C)))
        return H[0], C[0]

    check = partial(_check, arguments, reference, ["H", "C"], 0, _mistakes.LSTM_STEP)
    praise = "`H`, `C` and the gradients equal those of Gluon's `rnn.LSTM`."
    return _verdict("lstm_step", check, function, praise)


def gru_step(function: Callable[..., Any]) -> Verdict:
    """Check ``gru_step(X, H, z, r, h)``, which returns the new H, in the book's form.

    The last arguments are the parameters (W_x, W_h, b) of the update gate, the reset gate and the
    candidate.
    """

    def arguments(normal: Function, n: int, d: int, h: int, q: int) -> List[Any]:
        return [normal(n, d), normal(n, h), *(_triple(normal, d, h) for _ in "zrh")]

    def reference(X: Any, H: Any, *gates: Any) -> Any:
        return scratch.gru_step(X, [H], leaves(gates))

    check = partial(_check, arguments, reference, ["H"], 0, _mistakes.GRU_STEP)
    praise = "`H` and the gradients equal those of the book's equations."
    return _verdict("gru_step", check, function, praise)


def grad_clipping(function: Callable[..., Any]) -> Verdict:
    """Check ``grad_clipping(params, theta, ctx)``, which scales each ``param.grad`` in place."""

    def check(function: Function) -> None:
        cases, results, theta, normal = [], [], 2.0, _normal(np.array)
        for norms in [3, 6, 1, 4], [1.5, 1.5, 1.5, 1.5], [1.2, 0.9, 0.6, 0.5], [1, 0.5, 0.2, 0.1]:
            params, grads = ([normal(n, 4) for n in (3, 4, 1, 2)] for _ in range(2))
            grads = [norm * grad / np.sqrt((grad**2).sum()) for norm, grad in zip(norms, grads)]
            arrays = [nd.array(param) for param in params]
            for array, grad in zip(arrays, grads):
                array.attach_grad()
                array.grad[:] = nd.array(grad)
            with _errors():
                function(arrays, theta, arrays[0].context)
                results.append([array.grad.asnumpy() for array in arrays])
            if not equal([array.asnumpy() for array in arrays], params):
                raise _Wrong("The parameters changed. Scale their gradients: `param.grad[:] *= …`.")
            cases.append([params, grads, theta])
        message = _mistakes.explain(_mistakes.GRAD_CLIPPING, cases, results)
        if message != "":
            raise _Wrong(message or f"{UNKNOWN} The book clips all gradients by their joint norm.")

    praise = "If the joint norm of the gradients is above theta, it becomes theta."
    return _verdict("grad_clipping", check, function, praise)


def data_iter(function: Callable[..., Any]) -> Verdict:
    """Check ``data_iter(corpus_indices, batch_size, num_steps, ctx)``, for adjacent sampling.

    It yields or returns minibatches X, Y, as ``d2l_deeprnn.data_iter_consecutive`` does.
    """

    def check(function: Function) -> None:
        for seed, (n, b, s) in enumerate(4 * [(64, 3, 5), (49, 2, 4), (41, 1, 7)]):
            random.seed(seed)  # for the offset that the function draws
            np.random.seed(seed)
            text = np.random.RandomState(seed).permutation(n)
            with _errors():
                batches = function(text.tolist(), b, s, nd.zeros(1).context)
                batches = [] if batches is None else list(itertools.islice(batches, n + 1))
                found = [_arrays(["X", "Y"], pair, "A minibatch") for pair in batches]
                tokens = [[array.asnumpy() for array in pair] for pair in found]
            message = _mistakes.explain_minibatches(tokens, text, b, s)
            if message:
                raise _Wrong(message)

    praise = "Each row continues in the next minibatch, and `Y` is `X` shifted by one character."
    return _verdict("data_iter", check, function, praise)


def _verdict(name: str, check: Function, function: Any, praise: str) -> Verdict:
    """Return the verdict of a check, which raises ``_Wrong`` if the function is wrong."""
    if not callable(function):
        return Verdict(False, f"Give the function itself, not a result: `check.{name}({name})`.")
    state = random_state()
    try:
        check(function)
    except _Wrong as wrong:
        return Verdict(False, str(wrong))
    finally:
        set_random_state(state)
    return Verdict(True, praise)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn an error of the reader's function into a verdict that shows the line."""
    try:
        yield
    except _Wrong:
        raise
    except Exception as error:
        # MXNet's messages have many lines; the reason is in the last one, after the condition.
        reason = str(error).strip().split("\n")[-1].rpartition("Check failed: ")[2]
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
        lines = [f" in `{f.line}`" for f in frames if f.filename == frames[0].filename] or [""]
        raise _Wrong(f"The function raises {type(error).__name__}{lines[-1]}: {reason}") from None


def _check(
    make_arguments: Function, reference: Function, names: Any, first: int, text: str, own: Function
) -> None:
    """Compare a network's results, and the gradients of its argument arrays from ``first`` on."""

    def results(sizes: Sequence[int]) -> Tuple[List[np.ndarray], List[np.ndarray]]:
        with _errors():
            return _results(own, make_arguments(_normal(nd.array), *sizes), names)

    try:
        for sizes in SIZES:
            expected, grads = _results(reference, make_arguments(_normal(nd.array), *sizes), names)
            found, found_grads = results(sizes)
            names_if: Dict[bool, List[str]] = {True: [], False: []}  # right or wrong
            for name, array, value in zip(leaves(names), found, expected):
                if array.shape != value.shape:
                    raise _Wrong(f"`{name}` has the shape {array.shape} instead of {value.shape}.")
                if np.isnan(array).any():
                    raise _Wrong(f"`{name}` contains NaN.")
                names_if[equal([array], [value])].append(f"`{name}`")
            if names_if[False]:
                right, wrong = (", ".join(names_if[is_right]) for is_right in (True, False))
                raise _Wrong(f"{UNKNOWN} Wrong: {wrong}. Right: {right or 'nothing'}.")
            if not equal(found_grads[first:], grads[first:]):
                raise _Wrong("The results are right, but not the gradients. " + NOT_RECORDED)
    except _Wrong as error:
        message = str(error)
        with contextlib.suppress(_Wrong):
            case = make_arguments(_normal(np.array), *SIZES[-1])
            message = _mistakes.explain(text, [case], [results(SIZES[-1])[0]]) or message
        raise _Wrong(message) from None


def _results(
    function: Function, arguments: Sequence[Any], names: Any
) -> Tuple[List[np.ndarray], List[np.ndarray]]:
    """Return the arrays that a function returns, and the gradients of all argument arrays."""
    given, normal = leaves(arguments), _normal(nd.array)  # the function may change the lists
    for array in given:
        array.attach_grad()
    with autograd.record():
        arrays = _arrays(names, function(*arguments), "The result")
        loss = nd.add_n(*((a.astype("float32") * normal(*a.shape)).sum() for a in arrays))
    with contextlib.suppress(mx.MXNetError):  # if nothing was recorded, the gradients stay 0
        loss.backward()
    return [a.asnumpy() for a in arrays], [a.grad.asnumpy() for a in given]


def _arrays(names: Any, value: Any, what: str) -> List[nd.NDArray]:
    """Return the arrays of a result as a list, or raise if its form is not that of the names."""
    if value is None:
        raise _Wrong(f"{what} is `None`. Is the `return` missing?")
    if isinstance(names, str):
        if not isinstance(value, nd.NDArray):
            kind = f"{type(value).__module__}.{type(value).__name__}"
            raise _Wrong(f"{what} is of the type `{kind}`. {NOT_RECORDED}")
        return [value]
    if len(names) == 1 and not isinstance(value, (list, tuple)):
        value = [value]
    elif isinstance(value, nd.NDArray) and value.ndim == 3:  # a stack of arrays
        value = list(value)
    labels = list(names) if isinstance(names, dict) else [f"`{name}`" for name in names]
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
        is_list = isinstance(value, (list, tuple))
        found = f"has {len(value)}" if is_list else f"is of the type `{type(value).__name__}`"
        raise _Wrong(f"{what} must have {len(names)} parts: {', '.join(labels)}. It {found}.")
    parts = names.values() if isinstance(names, dict) else names
    return [a for label, n, v in zip(labels, parts, value) for a in _arrays(n, v, label)]


def _gluon(mode: str, layers: Any, X: nd.NDArray, *states: nd.NDArray) -> Tuple[Any, ...]:
    """Return the outputs and states of Gluon's fused layers, by calling their kernel.

    Each layer is a list of the parameters (W_x, W_h, b) of its gates, in Gluon's order.
    """
    weights = [g[i].T.reshape(-1) for gates in layers for i in (0, 1) for g in gates]
    biases = [b for gates in layers for i in (1, 0) for b in (i * g[2] for g in gates)]
    sizes = {"state_size": states[0].shape[2], "num_layers": len(layers)}
    vector = nd.concat(*weights, *biases, dim=0)  # the second bias of each gate is 0
    return nd.RNN(X, vector, *states, mode=mode, state_outputs=True, **sizes)


def _normal(convert: Function) -> Function:
    """Return a function of a shape that draws arrays, the same ones for every call of this."""
    generator = np.random.RandomState(0)
    return lambda *shape: convert(generator.normal(0, 0.7, shape))


def _triple(normal: Function, num_inputs: int, num_hiddens: int) -> List[Any]:
    return [normal(num_inputs, num_hiddens), normal(num_hiddens, num_hiddens), normal(num_hiddens)]
