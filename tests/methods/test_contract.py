"""One contract over all of METHODS: what every method keeps to in training, whatever it does there."""

import copy
import dataclasses
import functools
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lt_rebalance.ground.plain import config_from_dict, to_plain
from lt_rebalance.methods.contract import Method, RebalancePlan, without_synthesis
from lt_rebalance.methods.filling import fill_up
from lt_rebalance.methods.registry import METHODS, MethodConfig, plan_rebalancing
from lt_rebalance.stages.inputs import InputReader
from lt_rebalance.store import open_store
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.workload import count_items
from lt_rebalance.training.classifier import ClassifierTraining
from lt_rebalance.training.configs import Budget, Execution, GeneratorConfig
from lt_rebalance.training.stacks import Fusion
from tests.methods.toy import COUNTS, configure, finish, list_differences
from tests.methods.toy import make_training as make_toy_training
from tests.mostly_slow import mostly_slow

IN_TRAINING = [name for name, method in METHODS.items() if not method.only_plans]
NAMES = ["none", *IN_TRAINING]
"""methods that train differently from each other on one and the same set"""


@dataclass
class Nothing:
    """Options of a method without any."""


make_training = functools.partial(make_toy_training, budget=Budget(steps=4, rounds=2))
"""an epoch of three steps and one step of the next; training is resumed within the first epoch"""
PERMUTED = [COUNTS, (3, 12, 1, 6), (1, 3, 6, 12)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "how", [{"needs_generator": True}, {"synthesize": lambda images, num_synthetic_K, rng, options: None}]
)
def test_method_that_makes_images_needs_a_plan_that_asks_for_some(how: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a plan that asks for some, got none; give plan=fill_up"):
        Method(description="makes images that nobody asks for", **how)
    assert Method(description="fills up", plan=fill_up, **how).family == "made images"


def test_registry_is_had_without_torch() -> None:
    check = "import sys, lt_rebalance.methods.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False, timeout=60).returncode == 0


def test_family_of_each_method_is_the_one_that_the_documentation_lists_it_under() -> None:
    page = Path(__file__).parents[2] / "docs" / "methods.md"
    listed, family = {}, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4:
            family = cells[0] or family
            listed |= {name: family for name in re.findall(r"`(\w+)`", cells[1])}
    assert listed | {name: METHODS[name].family for name in METHODS} == listed


@functools.cache
def alone(
    name: str, seed: int = 0, counts_K: tuple[int, ...] = COUNTS, device: str = "cpu"
) -> ClassifierTraining:
    """Return a finished lane that had no company; several tests compare theirs with it."""
    return finish(make_training(configure(name), [seed], counts=[counts_K], device=device))


@pytest.mark.parametrize("name", METHODS)
def test_method_names_its_own_streams_after_itself(name: str) -> None:
    moments = (METHODS[name].mix, METHODS[name].then)
    assert all(moment.stream.startswith(f"{name}/") for moment in moments if moment is not None)


def test_documentation_lists_every_method_with_its_options() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8").splitlines()
    for name, method in METHODS.items():
        (line,) = [each for each in lines if each.startswith("|") and f"`{name}`" in each.split("|")[2]]
        told = " ".join(lines) if "_drw" in name else line
        assert [each.name for each in fields(method.options or Nothing) if f"`{each.name}`" not in told] == []


@pytest.mark.parametrize("name", METHODS)
def test_method_with_options_keeps_them_in_the_key_and_one_without_adds_nothing(name: str) -> None:
    config = configure(name)
    plain = to_plain(config)
    assert ("options" in plain) == (METHODS[name].options is not None)
    assert config_from_dict(MethodConfig, plain) == config
    with pytest.raises(ValueError, match=f"method '{name}' has no option"):
        configure(name, no_such=1.0)


@pytest.mark.parametrize("name", IN_TRAINING)
def test_cgan_is_not_trained_by_a_method_that_acts_on_classifiers(name: str) -> None:
    config = {"budget": {"epochs": 1, "steps": None, "rounds": None}, "batch_size": 8, "learning_rate": 1e-3}
    config |= {"architecture": "mlp_cgan_relu", "beta1": 0.9, "beta2": 0.999}
    with pytest.raises(ValueError, match=f"method '{name}' acts on the training of a classifier"):
        config_from_dict(GeneratorConfig, config | {"training_method": to_plain(configure(name))})


@pytest.mark.parametrize("name", IN_TRAINING)
def test_method_acts(name: str) -> None:
    (lane,) = alone(name).lanes
    (plain,) = alone("none").lanes
    assert lane.curves[-1]["test_loss"] != plain.curves[-1]["test_loss"]


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_agree_and_different_seeds_differ(name: str) -> None:
    first, same = alone(name), finish(make_training(configure(name)))
    other = alone(name, 3)
    states = [each.get_lane_state(each.lanes[0]) for each in (first, same, other)]
    assert list_differences(states[0], states[1]) == []
    differing = list_differences(states[0], states[2])
    assert any(each.startswith("classifier.network.14.") for each in differing)  # the last layer, or a head
    assert first.lanes[0].curves == same.lanes[0].curves != other.lanes[0].curves


@pytest.mark.parametrize("name", NAMES)
def test_lanes_that_take_turns_train_as_each_alone(name: str) -> None:
    together = finish(make_training(configure(name), [0, 3, 8], counts=PERMUTED))
    for index, seed in enumerate([0, 3, 8]):
        single = alone(name, seed, PERMUTED[index])
        states = (
            together.get_lane_state(together.lanes[index]),
            single.get_lane_state(single.lanes[0]),
        )
        assert list_differences(*states) == []
        assert together.lanes[index].curves == single.lanes[0].curves


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", DEVICES)
def test_lanes_at_once_train_as_each_alone_within_rounding(name: str, device: str) -> None:
    """Each lane has class counts of its own; on a GPU later steps replay a capture."""
    fusion = Fusion(form="vmap", max_lanes=3)
    together = finish(make_training(configure(name), [0, 3, 8], fusion, counts=PERMUTED, device=device))
    for index, seed in enumerate([0, 3, 8]):
        (twin_lane,) = alone(name, seed, PERMUTED[index], device).lanes
        for row, twin in zip(together.lanes[index].curves, twin_lane.curves, strict=True):
            for column in ("train_loss", "test_loss"):
                assert row[column] == pytest.approx(twin[column], rel=1e-3), column


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", mostly_slow(["separate", "vmap"], 1))
def test_training_that_is_taken_up_again_ends_as_one_straight_through(name: str, form: str) -> None:
    seeds, fusion = [0, 3], Fusion(form=form, max_lanes=2)
    straight, resumed = (make_training(configure(name), seeds, fusion) for _ in range(2))
    straight.run_round()
    for lane, again in zip(straight.lanes, resumed.lanes, strict=True):
        for field in lane.progress_fields:
            setattr(again, field, copy.deepcopy(getattr(lane, field)))
        resumed.set_lane_state(again, copy.deepcopy(straight.get_lane_state(lane)))
    finish(resumed), finish(straight)
    for lane, again in zip(straight.lanes, resumed.lanes, strict=True):
        states = straight.get_lane_state(lane), resumed.get_lane_state(again)
        assert list_differences(*states) == []
        assert lane.curves == again.curves


@pytest.mark.parametrize("name", NAMES)
def test_training_draws_nothing_from_global_generators(name: str) -> None:
    before = torch.get_rng_state()
    finish(make_training(configure(name)))
    assert torch.equal(torch.get_rng_state(), before)


@dataclass(frozen=True, kw_only=True)
class Most:
    """How many items of each class a method keeps."""

    most: int = 3


def plan_most(
    counts_K: Sequence[int], draw: str | None, rng: np.random.Generator, options: Most
) -> RebalancePlan:
    return without_synthesis([np.arange(min(options.most, count)) for count in counts_K])


MOST = Method(description="the first of each class", options=Most, plan=plan_most)


def test_plan_has_the_options_of_its_method(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    store = open_store(str(tmp_path), RESULTS_VERSION, create=True)
    assert store is not None
    monkeypatch.setitem(METHODS, "most", MOST)
    rng = np.random.default_rng(0)
    assert plan_rebalancing("most", None, [9, 5, 2], rng).counts_K == [3, 3, 2]
    assert plan_rebalancing("most", None, [9, 5, 2], rng, options={"most": 7}).counts_K == [7, 5, 2]
    with pytest.raises(ValueError, match="method 'most' has no option 'least'; known: most"):
        plan_rebalancing("most", None, [9, 5, 2], rng, options={"least": 7})
    cell = make_cell(small_protocol, dataset="fashion_mnist_mini", c="1/2", method="most", generator=None)
    for most in (3, 7):
        method = MethodConfig(name="most", draw=None, options={"most": most})
        stage = dataclasses.replace(cell, method=method).stage(0, cpu_execution)
        reader = InputReader("fashion_mnist_mini", None, store, torch.device("cpu"))
        counts = reader.read(stage).plan.counts_K
        assert max(counts) == most and sum(counts) == count_items(stage)


def test_plan_of_other_arguments_is_refused_with_those_that_it_takes() -> None:
    said = (
        r"a method's plan takes \(counts_K, draw, rng, options\), got one that takes \(counts_K, draw, rng\)"
    )
    with pytest.raises(ValueError, match=said):
        Method(description="old", plan=lambda counts_K, draw, rng: without_synthesis([]))  # type: ignore[misc, arg-type]
