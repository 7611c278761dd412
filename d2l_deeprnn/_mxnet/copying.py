"""Gluon's models can be copied, pickled and sent to other processes, and the copies can be trained.

MXNet 1.9.1 cannot copy or pickle a compiled (hybridized) model, since its graph is a pointer into
the library. The parameters of other copies lose the link to their gradients. A model takes along
the trainer that it was last given to, with all of its arrays. ``multiprocessing`` puts arrays on a
device of their own (``cpu_shared``), and a compiled graph accepts only arrays of one device.
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

    def out_of_shared_memory(array: Any) -> Any:
        shared = array.context.device_type == "cpu_shared"
        return array.copyto(mx.cpu()) if shared else array

    def with_gradients(param: Any, state: Dict[str, Any]) -> None:
        vars(param).update(state)
        if param._data is not None:
            param._data = [out_of_shared_memory(array) for array in param._data]
        if param._grad is not None:
            param._grad = [out_of_shared_memory(array) for array in param._grad]
            mx.autograd.mark_variables(param._data, param._grad, param.grad_req)

    copyreg.pickle(mx.nd.CachedOp, without_graph)
    mx.gluon.Parameter.__getstate__ = without_trainer
    mx.gluon.Parameter.__setstate__ = with_gradients
