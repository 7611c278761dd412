"""Parts of models that are expressions of operators, compiled as one graph each.

To call MXNet's operators one by one from Python takes a good part of the time of one
character, and some of a minibatch's. A method that says of itself that it is an expression is
compiled by ``Graph`` as Gluon compiles a ``HybridBlock``: called once with symbols in place of
arrays. All else in a model is Python, may do anything, and is called each time.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from . import gluon, mx, nd
from .blocks import blocks_in

Method = Tuple[gluon.Block, str, Callable[..., Any]]  # its name, and what to call

# The same shapes come again and again. Any others are computed too.
COMPILED = {"static_alloc": True, "static_shape": True}


def expression(*parts: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say of a method ``hybrid_forward(self, F, inputs, states)`` that it can be compiled.

    It does nothing but call operators of ``F`` and blocks, and computes the same each time.
    Its class need not be a ``HybridBlock``, which takes no parts of another kind.

    Args:
        parts: names of the attributes that hold the blocks.
    """

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        method.parts = parts  # type: ignore[attr-defined]
        return method

    return mark


@contextlib.contextmanager
def replacing(methods: List[Method]) -> Iterator[None]:
    """Let blocks, under a method's name, have another function.

    A block that was compiled would not ask for it: it runs as if it had not been, which
    computes the same.
    """
    before = [
        (vars(block).get(name), getattr(block, "_active", None)) for block, name, _ in methods
    ]
    for block, name, function in methods:
        vars(block)[name] = function
        if isinstance(block, gluon.HybridBlock):
            block._active = False
    try:
        yield
    finally:
        for (block, name, _), (earlier, was_active) in zip(methods, before):
            if earlier is None:
                del vars(block)[name]
            else:
                vars(block)[name] = earlier
            if isinstance(block, gluon.HybridBlock):
                block._active = was_active


# What computes the same in each call, if its parts do.
_EXPRESSIONS = {
    *(gluon.rnn.LSTM, gluon.rnn.GRU, gluon.rnn.RNN),
    *(gluon.nn.Dense, gluon.nn.Activation, gluon.nn.Dropout, gluon.nn.HybridSequential),
}


def _is_expression(block: Any) -> bool:
    """Whether calling a block is nothing but an expression of operators."""
    own = type(block)
    if (
        not isinstance(block, gluon.HybridBlock)
        or (block._forward_hooks or block._forward_pre_hooks)
        or vars(block).keys() & {"forward", "hybrid_forward"}
    ):
        return False
    if own in _EXPRESSIONS:
        return all(map(_is_expression, block._children.values()))
    of_hybrid_blocks = gluon.HybridBlock.__call__, gluon.HybridBlock.forward
    return (own.__call__, own.forward) == of_hybrid_blocks and _says_so(block)


def _says_so(block: Any) -> bool:
    """Whether a block's ``hybrid_forward`` is marked as an expression, and its parts are some."""
    parts = getattr(getattr(type(block), "hybrid_forward", None), "parts", None)
    if parts is None or "hybrid_forward" in vars(block):
        return False
    return all(_is_expression(getattr(block, name)) for name in parts)


def can_be_compiled(block: Any) -> bool:
    """Whether there can be a ``Graph`` of a block's ``hybrid_forward``."""
    if isinstance(block, gluon.HybridBlock) or not _says_so(block):
        return False  # a HybridBlock compiles itself, if it is told to
    # A graph knows parameters by their names.
    names = {id(p): p.name for b in blocks_in(block) for p in b._reg_params.values()}
    return len(set(names.values())) == len(names)


class Graph(gluon.HybridBlock):
    """A block's ``hybrid_forward`` as one compiled graph.

    Args:
        block: one that can be compiled.
        kernels: gives the methods with which the block's fused layers are compiled, for
            symbols that stand for ``arrays``.
        arrays: what the kernels take in place of the layers' parameters.
        layers: those fused layers.
        when: called with the inputs, whether the graph computes what the method does.
        flags: of Gluon's ``hybridize``.
    """

    def __init__(
        self,
        block: gluon.Block,
        kernels: Callable[[List[Any]], List[Method]],
        when: Callable[[Any], bool],
        arrays: Sequence[nd.NDArray] = (),
        layers: Sequence[gluon.Block] = (),
        flags: Optional[Dict[str, bool]] = None,
    ) -> None:
        super().__init__(prefix="")  # else the blocks' scopes of names would refer to this one
        method = type(block).hybrid_forward
        parts = [(name, getattr(block, name)) for name in method.parts]
        # Not the parts themselves, which as a graph's children would be compiled, and lose
        # graphs of their own.
        for _, part in parts:
            for inner in blocks_in(part):
                if inner not in layers:
                    self.params.update(inner.params)

        def evaluate(F: Any, inputs: Any, states: Any, arrays: Any) -> Any:
            with replacing(kernels(arrays)):
                return method(block, F, inputs, states)

        def instead(F: Any, inputs: Any, states: Any) -> Any:
            """What the block's own method computes."""
            if F is nd and when(inputs) and all(getattr(block, n) is part for n, part in parts):
                # What a graph cannot do the block can, or it says what is wrong.
                with contextlib.suppress(mx.MXNetError):
                    return self(inputs, states, arrays)
            return method(block, F, inputs, states)

        self._evaluate = evaluate
        self.instead = instead
        self.hybridize(**(flags or {}))

    def hybrid_forward(self, F: Any, *args: Any, **params: Any) -> Any:
        return self._evaluate(F, *args)
