"""Checks of the optimizers: they are torch's, bit for bit, and no training brings its compiler along."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lt_rebalance.networks.optimizers import SGD, Adam

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "adam": (Adam, torch.optim.Adam, {"betas": (0.5, 0.9), "fused": True}),
    "adam, a scheduled rate": (Adam, torch.optim.Adam, {"weight_decay": 0.1, "fused": True}),
    "adam, not fused": (Adam, torch.optim.Adam, {}),
    "sgd": (SGD, torch.optim.SGD, {"fused": True}),
    "sgd, nesterov": (
        SGD,
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True},
    ),
}

TRAININGS = """\
import dataclasses, runpy, sys
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.studies.protocols import PROTOCOLS, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.configs import Budget
from lt_rebalance.training.device import resolve_execution

tiny = runpy.run_path("tests/tiny.py")
tiny["know_tiny"]()
budget = Budget(steps=2, rounds=2)
protocol = dataclasses.replace(
    PROTOCOLS["sound"], name="two", classifier_budget=budget, generator_budget=budget
)
cgan = {"method": "cgan", "generator": "small_mlp_cgan_leaky"}
cell = make_cell(protocol, dataset=tiny["TINY"], c="1/2", **cgan)
stage = cell.stage(0, resolve_execution("cpu", "float32", 1, has_cuda=False))
store = open_store(sys.argv[1], RESULTS_VERSION, create=True)
run_stage(stage.generator_stage, store)
run_stage(stage, store)
print(len(store.list_keys()), "torch._dynamo" in sys.modules)
"""


def train(make: Callable[..., torch.optim.Optimizer], **settings: object) -> list[torch.Tensor]:
    """Return the parameters and the state of an optimizer after each of six steps, taken up after three."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(size, generator=generator, requires_grad=True) for size in ((3, 4), (4,))]
    optimizer = make(parameters, **settings)
    found = []
    for step in range(6):
        if step == 3:
            state = optimizer.state_dict()
            optimizer = make(parameters, **settings)
            optimizer.load_state_dict(state)
        optimizer.zero_grad()
        assert all(parameter.grad is None for parameter in parameters)
        items = torch.randn(8, 3, generator=generator)
        (items @ parameters[0] + parameters[1]).square().mean().backward()
        optimizer.step()
        moments = [each for state in optimizer.state.values() for each in state.values()]
        found += [each.detach().clone() for each in (*parameters, *moments) if each is not None]
    assert all(parameter.requires_grad for parameter in parameters)
    return found


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_and_states_are_those_of_torch_bit_for_bit(name: str) -> None:
    ours, theirs, settings = SETTINGS[name]
    for rate in (0.01, torch.tensor(0.01)) if name == "adam, a scheduled rate" else (0.01,):
        found, expected = train(ours, lr=rate, **settings), train(theirs, lr=rate, **settings)
        assert len(found) == len(expected) >= 12
        assert all(map(torch.equal, found, expected))
    assert issubclass(ours, theirs)


@pytest.mark.slow
def test_trainings_bring_no_compiler_along(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRAININGS, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert result.stdout.split() == ["2", "False"], result.stderr
