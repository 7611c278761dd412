"""Gluon's models can be copied and pickled, and the copies can be trained.

MXNet 1.9.1 can do neither with a model that was compiled (hybridized), since its
graph is a pointer into the library. Of one that was not, the copy's parameters
have lost their link to their gradients. And a model takes the trainer that it was
last given to along, with all of its arrays.
"""

from __future__ import annotations

import copyreg
from typing import Any, Dict, Tuple


def prepare(mx: Any) -> None:
    """Teach MXNet's classes how they are copied and pickled."""

    def without_graph(graph: Any) -> Tuple[Any, ...]:
        return type(None), ()  # None, for which Gluon compiles another at the next call

    def without_trainer(param: Any) -> Dict[str, Any]:
        return {**vars(param), "_trainer": None}

    def with_gradients(param: Any, state: Dict[str, Any]) -> None:
        vars(param).update(state)
        if param._grad is not None:
            mx.autograd.mark_variables(param._data, param._grad, param.grad_req)

    copyreg.pickle(mx.nd.CachedOp, without_graph)
    mx.gluon.Parameter.__getstate__ = without_trainer
    mx.gluon.Parameter.__setstate__ = with_gradients
