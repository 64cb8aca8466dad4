"""Fused networks of several lanes: the forms, and the choice between them.

A lane keeps its own networks and optimizers in every form. In a stacked form they are views of tensors with
an axis for the lanes, so code for states, samples and tests is the same for all forms. A lane's slices are
computed only from its own, so a lane that diverges does not affect the others. Shape suffix: L lanes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from lt_rebalance.training.lane import stack

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")
"""as torch names them"""


class LaneStack:
    """Networks of several lanes with their optimizers, computed one lane after another."""

    def __init__(self, networks: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Set the networks, of equal structure, and the optimizers, of equal hyperparameters and steps."""
        self.networks = networks
        self._optimizers = optimizers

    def __call__(self, *inputs_L: Tensor) -> Tensor:
        """Return the outputs of every lane's network on its slice of the inputs."""
        return stack([network(*each) for network, *each in zip(self.networks, *inputs_L, strict=True)])

    def train(self, mode: bool = True) -> None:
        """Set training or evaluation mode."""
        for network in self.networks:
            network.train(mode)

    def requires_grad_(self, requires_grad: bool) -> None:
        """Set whether backward passes reach the parameters."""
        for network in self.networks:
            network.requires_grad_(requires_grad)

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        """Update the parameters of every lane."""
        for optimizer in self._optimizers:
            optimizer.step()

    def set_learning_rate(self, rate: Tensor) -> None:
        """Set the learning rate of optimizers that store it as a tensor; allowed in a captured step."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"].copy_(rate)


class VmapStack(LaneStack):
    """Stacked parameters, applied by `torch.vmap`: batched matrix products and grouped convolutions."""

    _unfolds_convolutions = False

    def __init__(self, networks: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__(networks, optimizers)
        self._parameters = _stack_named([dict(network.named_parameters()) for network in networks])
        self._buffers = _stack_named([dict(network.named_buffers()) for network in networks])
        names = {parameter: name for name, parameter in networks[0].named_parameters()}
        for parameter, name in names.items():
            self._parameters[name].requires_grad_(parameter.requires_grad)
        trained = [self._parameters[names[each]] for each in optimizers[0].param_groups[0]["params"]]
        self._optimizers = [_stack_optimizers(optimizers, trained)]

    def __call__(self, *inputs_L: Tensor) -> Tensor:
        """Return the outputs of every lane's network on its slice of the inputs."""
        with _VmapLayers(unfolds_convolutions=self._unfolds_convolutions):
            outputs_L: Tensor = torch.vmap(self._apply)(self._parameters, self._buffers, *inputs_L)
        return outputs_L

    def _apply(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], *inputs: Tensor) -> Any:
        return functional_call(self.networks[0], (dict(parameters), dict(buffers)), inputs)

    def requires_grad_(self, requires_grad: bool) -> None:
        """Set whether backward passes reach the parameters."""
        for parameter in self._parameters.values():
            parameter.requires_grad_(requires_grad)


class UnfoldStack(VmapStack):
    """As `VmapStack`, with convolutions as batched matrix products of unfolded images."""

    _unfolds_convolutions = True


class _VmapLayers(TorchFunctionMode):
    """Makes layers compute the same under vmap as without it.

    Under vmap autocast does not reach all convolutions, and some normalisation layers need float32.
    """

    def __init__(self, *, unfolds_convolutions: bool) -> None:
        super().__init__()
        self._unfolds_convolutions = unfolds_convolutions

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in NORMALISATIONS:
            args, kwargs = _map_tensors(_widen, args, kwargs)
        elif func in CONVOLUTIONS:
            args, kwargs = _map_tensors(_autocast, args, kwargs)
            if func is nn.functional.conv2d and self._unfolds_convolutions:
                func = _unfolded_conv2d
        return func(*args, **(kwargs or {}))


NORMALISATIONS = (nn.functional.batch_norm, nn.functional.group_norm, nn.functional.layer_norm)
CONVOLUTIONS = (nn.functional.conv2d, nn.functional.conv_transpose2d)


def _map_tensors(change: Callable[[Tensor], Tensor], args: Any, kwargs: Any) -> tuple[Any, Any]:
    def change_any(value: Any) -> Any:
        return change(value) if isinstance(value, Tensor) else value

    return [*map(change_any, args)], {name: change_any(value) for name, value in (kwargs or {}).items()}


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _autocast(tensor: Tensor) -> Tensor:
    if not torch.is_autocast_enabled(tensor.device.type):
        return tensor
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def _unfolded_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Compute `torch.nn.functional.conv2d`, with its arguments except padding by name."""
    if isinstance(padding, str):
        raise NotImplementedError(f"convolutions with padding {padding!r} are not unfolded")
    kernel = weight.shape[2:]
    steps, pads, gaps = (
        (each, each) if isinstance(each, int) else tuple(each) for each in (stride, padding, dilation)
    )
    sides = [
        (side + 2 * pad - (size - 1) * gap - 1) // step + 1
        for side, pad, size, gap, step in zip(input.shape[2:], pads, kernel, gaps, steps, strict=True)
    ]
    columns = nn.functional.unfold(input, kernel, gaps, pads, steps)
    weight = weight.flatten(1)
    if groups == 1:
        outputs = weight @ columns
    else:
        outputs = weight.unflatten(0, (groups, -1)) @ columns.unflatten(1, (groups, -1))
        outputs = outputs.flatten(1, 2)
    if bias is not None:
        outputs = outputs + bias.unsqueeze(1)
    return outputs.view(*outputs.shape[:2], *sides)


def _stack_named(named: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack tensors of one name, and make each of them a view of its slice."""
    stacked = {}
    for name in named[0]:
        lanes = [tensors[name] for tensors in named]
        stacked[name] = torch.stack([tensor.detach() for tensor in lanes])
        for tensor, slice_ in zip(lanes, stacked[name], strict=True):
            tensor.data = slice_
    return stacked


def _stack_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], parameters: Sequence[Tensor]
) -> torch.optim.Optimizer:
    """Return the optimizer over stacked parameters, and make every lane's moments views of its slices."""
    settings = {**optimizers[0].defaults}
    if isinstance(settings["lr"], Tensor):
        settings["lr"] = settings["lr"].clone()
    stacked: torch.optim.Optimizer = type(optimizers[0])(parameters, **settings)
    counts_steps = isinstance(stacked, torch.optim.Adam)
    names = ADAM_MOMENTS if counts_steps else ("momentum_buffer",) if settings["momentum"] else ()
    lanes = zip(*(optimizer.param_groups[0]["params"] for optimizer in optimizers), strict=True)
    for parameter, of_lanes in zip(parameters, lanes, strict=True):
        states = [optimizer.state[each] for optimizer, each in zip(optimizers, of_lanes, strict=True)]
        for state, each in zip(states, of_lanes, strict=True):
            if not state:  # no step has been made
                if counts_steps:
                    state["step"] = torch.zeros((), device=each.device)
                state |= {name: torch.zeros_like(each, requires_grad=False) for name in names}
        stacked.state[parameter] = _stack_named([{name: state[name] for name in names} for state in states])
        if counts_steps:
            assert len({float(state["step"]) for state in states}) == 1
            stacked.state[parameter]["step"] = states[0]["step"].clone()
            for state in states:
                state["step"] = stacked.state[parameter]["step"]
    return stacked


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How lanes are fused into programs. It changes speed, and results within rounding."""

    form: str
    """a name in FORMS"""
    max_lanes: int
    """largest number of lanes in one program; the others take turns with them, round by round"""

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"unknown form {self.form!r}; known: {', '.join(FORMS)}")
        if self.max_lanes < 1:
            raise ValueError(f"max_lanes must be at least 1, got {self.max_lanes}")


FORMS: dict[str, type[LaneStack]] = {
    "separate": LaneStack,
    "vmap": VmapStack,
    "unfold": UnfoldStack,
}

ALONE = Fusion(form="separate", max_lanes=1)
