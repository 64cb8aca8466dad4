"""Adam and SGD of torch that do not bring its compiler along, which no training here uses.

torch's own import `torch._dynamo`, and sympy with it, as soon as they are made, to tell a compiler what it
must not look into. That is a third of the time that a worker takes to start.
"""

import inspect
from typing import Any

import torch


def _plain(method: Any) -> Any:  # Any: of an optimizer, as torch has wrapped it, and as it is
    """Return a method of torch's without what torch has put around it."""
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
