"""Methods are tried at every moment before a plan: a wrong return value is reported with its line."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lt_rebalance.ground.own_file import WrongReturnError
from lt_rebalance.methods.contract import (
    Method,
    Mix,
    Mixed,
    RebalancePlan,
    SecondTraining,
    keep_all,
    without_synthesis,
)
from lt_rebalance.methods.filling import fill_up
from lt_rebalance.methods.registry import METHODS, MethodConfig
from lt_rebalance.studies.trying import require_method
from tests.methods.toy import SPEC, configure


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_registry_passes(name: str) -> None:
    require_method(configure(name), SPEC, "paper_cnn")


def good_mixed(images: torch.Tensor, labels: torch.Tensor, *_: torch.Tensor) -> Mixed:
    return Mixed(images, labels.unsqueeze(-1), torch.ones(*labels.shape, 1))


def good_draw(*_: Any) -> tuple[Any, ...]:
    return ()


def mixing(
    draw: Callable[..., Any] = good_draw,
    apply: Callable[..., Any] = good_mixed,
    reweigh: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    return {"mix": Mix(stream="x/y", draw=draw, apply=apply, reweigh=reweigh)}


def nothing(*_: Any) -> None:
    return None


def second(share: Any, prepare: Callable[..., None] = nothing) -> dict[str, Any]:
    return {"then": SecondTraining(stream="x/y", prepare=prepare, budget_share=lambda options: share)}


WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"plan": lambda counts, draw, rng, o: RebalancePlan(positions_by_class=None, num_synthetic_K=None)},
        "plan must return tuples with a value for each class, got None",
    ),
    (
        mixing(apply=lambda x, y: Mixed(x, y[..., None] + 4, torch.ones(2, x.shape[1], 1))),
        "a Mixed with labels_LBP from 0 to 3, got 4 to 7",
    ),
    (
        mixing(apply=lambda x, y: Mixed(x.double(), y[..., None], torch.ones(2, x.shape[1], 1))),
        "a Mixed with images_LBCHW as float32, got torch.float64",
    ),
    (
        second(1.0, lambda network, draw: network.requires_grad_(False) and None),
        "then.prepare must leave a parameter to train, got",
    ),
    ({"plan": lambda counts, draw, rng, o: keep_all(counts)}, "plan must return a RebalancePlan, got"),
    ({"order": lambda counts, progress, o: [1.0] * 4}, "order must return chances_K, 4 finite numbers"),
    ({"order": lambda counts, progress, o: np.ones(3)}, r"not all 0, as an array, got \(3,\)"),
    ({"order": lambda counts, progress, o: -np.ones(4)}, r"got \[-1.0, -1.0"),
    ({"order": lambda counts, progress, o: np.full(4, np.nan)}, r"got \[nan"),
    ({"order": lambda counts, progress, o: np.zeros(4)}, r"got \[0.0"),
    (mixing(draw=lambda rng, n, o: np.ones(n)), r"mix.draw must return a tuple .* got \(5,\)"),
    (mixing(draw=lambda rng, n, o: (np.ones(n + 1),)), r"first axis of 5 items, got \(6,\)"),
    (mixing(apply=lambda x, y: x), "mix.apply must return a Mixed, got"),
    (mixing(apply=lambda x, y: Mixed(x, y, torch.ones(2, 5, 1))), r"labels_LBP of shape \(2, 5, P\)"),
    (
        mixing(apply=lambda x, y: Mixed(x, y[..., None], torch.ones(2, 5))),
        r"weights_LBP of shape \(2, 5, 1\)",
    ),
    ({"loss": lambda z, y, n, p, o: None}, r"losses_LB of shape \(2, 5\) in floating point, got None"),
    ({"loss": lambda z, y, n, p, o: z.mean()}, r"got \(\) of torch.float32"),
    ({"loss": lambda z, y, n, p, o: z.argmax(-1)}, r"got \(2, 5\) of torch.int64"),
    ({"loss": lambda z, y, n, p, o: z.detach().sum(-1)}, "with a gradient, got none"),
    ({"adjust": lambda z, n, o: z.sum(-1)}, r"adjust must return logits_LNK of shape \(2, 7, 4\)"),
    ({"head": lambda linear, o: linear.weight}, r"head must return a torch.nn.Module, got \(4, "),
    (
        {"head": lambda linear, o: nn.Identity()},
        "head must make a layer that returns logits_NK",
    ),
    (
        {"head": lambda linear, o: nn.Sequential(nn.Dropout(0.5), linear)},
        "head must not draw from or set the global random stream of torch",
    ),
    (mixing(reweigh=lambda w, y, n, o: w[..., 0]), r"mix.reweigh must return weights_LBP of shape \(2, 5, "),
    (second(2.0), "then.budget_share must return a number above 0 and at most 1, got 2.0"),
    (second(None), "then.budget_share must return .*, got None"),
    (
        {"loss": lambda z, y, n, p, o: z.sum(-1) + torch.rand(1)},
        "loss must not draw from or set the global random stream of torch",
    ),
    ({"adjust": lambda z, n, o: z + np.random.rand()}, "adjust must not .* stream of numpy"),  # noqa: NPY002
    (mixing(draw=lambda rng, n, o: (np.full(n, random.random()),)), "mix.draw must not .* stream of python"),
    (
        {"plan": lambda counts, draw, rng, o: [torch.manual_seed(0), without_synthesis(keep_all(counts))][1]},
        "plan must not .* stream of torch",
    ),
]


@pytest.mark.parametrize(("moments", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_wrong_moment_is_told_with_the_line_it_is_defined_in(
    moments: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = dataclasses.replace(Method(description="wrong"), **moments)
    monkeypatch.setitem(METHODS, "wrong", method)
    before = torch.get_rng_state()
    with pytest.raises(WrongReturnError, match=rf"^{__file__}:\d+: .*{said}"):
        require_method(MethodConfig(name="wrong", draw=None), SPEC, "paper_cnn")
    assert torch.equal(torch.get_rng_state(), before)


def test_plan_of_images_that_nothing_makes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "wrong", Method(description="wrong", plan=fill_up))
    with pytest.raises(
        ValueError, match="of method 'wrong' asks for synthetic images, and nothing makes them"
    ):
        require_method(MethodConfig(name="wrong", draw=None), SPEC, "paper_cnn")


@dataclasses.dataclass
class Thawed:
    gamma: float = 2.0


@dataclasses.dataclass(frozen=True)
class Listed:
    weights: list[int] = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Bare:
    gamma: float


@dataclasses.dataclass(frozen=True)
class Misfit:
    gamma: float = "two"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"options": Thawed}, "which is not frozen; write @dataclass"),
        ({"options": Thawed()}, "got a value of type Thawed; give the class itself"),
        ({"options": int}, "got the class int; write @dataclass"),
        ({"options": Listed}, "got Listed.weights of type list"),
        ({"options": Bare}, "got none for Bare.gamma; write gamma: float = "),
        ({"options": Misfit}, "got 'two' for Misfit.gamma"),
        ({"loss": nothing, "mix": nothing}, "mix of a method must be a Mix, or left out, got function"),
        (
            {"needs_generator": True, "synthesize": lambda images_by_class, num_synthetic_K, rng, options: 0},
            "from a generator or from its synthesize, got both",
        ),
        ({"loss": 3}, "loss of a method must be a function, got one of type int"),
        ({"loss": lambda z, y: z}, "a method's loss takes .* got one that takes"),
        ({"order": lambda n: n}, "a method's order takes"),
        ({"adjust": lambda n: n}, "a method's adjust takes"),
        ({"draws": "all"}, "draws of a method must be a tuple of words, got 'all'"),
    ],
)
def test_method_declared_wrongly_is_refused_where_it_is_made(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Method(description="wrong", **fields)
