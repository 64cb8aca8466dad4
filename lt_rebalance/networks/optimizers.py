"""torch's Adam and SGD without its compiler, which no training here uses.

torch's classes import `torch._dynamo`, and with it sympy, on creation, to exclude parts from compilation.
That is a third of the start time of a worker.
"""

import inspect
from typing import Any

import torch


def _plain(method: Any) -> Any:  # Any: of an optimizer, as torch has wrapped it, and as it is
    """Return a method of torch without torch's decorators."""
    return inspect.unwrap(method)


class _Plain(torch.optim.Optimizer):
    add_param_group = _plain(torch.optim.Optimizer.add_param_group)
    load_state_dict = _plain(torch.optim.Optimizer.load_state_dict)
    state_dict = _plain(torch.optim.Optimizer.state_dict)
    zero_grad = _plain(torch.optim.Optimizer.zero_grad)


class Adam(_Plain, torch.optim.Adam):
    """torch's Adam."""

    step = torch.no_grad()(_plain(torch.optim.Adam.step))


class SGD(_Plain, torch.optim.SGD):
    """torch's SGD."""

    step = torch.no_grad()(_plain(torch.optim.SGD.step))
