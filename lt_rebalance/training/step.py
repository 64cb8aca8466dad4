"""A training step as one program: a captured CUDA graph on a GPU, a plain call on a CPU."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP_CALLS = 3
"""calls of a step before its capture, in which libraries choose algorithms and allocate memory"""


class StepProgram:
    """A training step; on a GPU captured once for each input shape, and replayed."""

    def __init__(self, step: Callable[..., Tensor], device: torch.device) -> None:
        """Set a function of tensors that draws no random numbers and does not wait for the host."""
        self._step = step
        self._captures = device.type == "cuda"
        self._num_calls: dict[tuple[torch.Size, ...], int] = {}
        self._graphs: dict[tuple[torch.Size, ...], _Graph] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run one step and return its result, which the next call may overwrite."""
        if not self._captures:
            return self._step(*inputs)
        shapes = tuple(tensor.shape for tensor in inputs)
        self._num_calls[shapes] = num_calls = self._num_calls.get(shapes, 0) + 1
        if num_calls <= WARM_UP_CALLS:
            return _on_side_stream(self._step, inputs)
        if shapes not in self._graphs:
            self._graphs[shapes] = _Graph(self._step, inputs)
        return self._graphs[shapes].replay(inputs)


def _on_side_stream(step: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
    """Run a step on a side stream, as calls before a capture require."""
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(current)
    with torch.cuda.stream(side):
        result = step(*inputs)
    current.wait_stream(side)
    return result


class _Graph:
    """A captured step with the memory of its inputs and its result."""

    def __init__(self, step: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = step(*self._inputs)

    def replay(self, inputs: Sequence[Tensor]) -> Tensor:
        for own, tensor in zip(self._inputs, inputs, strict=True):
            own.copy_(tensor)
        self._graph.replay()
        return self._result
