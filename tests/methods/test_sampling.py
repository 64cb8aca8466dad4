"""Checks of class-balanced, deferred and progressive sampling."""

import dataclasses

import numpy as np
import pytest
import torch

from lt_rebalance.methods.registry import METHODS
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Budget, Execution
from tests.methods.test_sqrt_sampling import count_drawn
from tests.methods.toy import configure, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS_K = np.array([60, 30, 10])


def find_chances(name: str, progress: float, **options: float) -> list[float]:
    chances_K = METHODS[name].order(COUNTS_K, progress, configure(name, **options).options)
    return (chances_K / chances_K.sum()).tolist()


def test_classes_come_up_alike() -> None:
    assert find_chances("class_balanced_sampling", 0.0) == pytest.approx([1 / 3] * 3)
    drawn_K = count_drawn(make_training(configure("class_balanced_sampling"), counts=[(64, 16, 4, 1)]), 40)
    assert drawn_K.tolist() == pytest.approx([40 * 85 / 4] * 4, rel=0.15)


def test_deferred_sampling_shows_items_alike_before() -> None:
    assert find_chances("class_balanced_sampling", 0.79, deferred=0.8) == pytest.approx([0.6, 0.3, 0.1])
    assert find_chances("class_balanced_sampling", 0.8, deferred=0.8) == pytest.approx([1 / 3] * 3)


def test_progressive_sampling_goes_from_items_to_classes() -> None:
    assert find_chances("progressive_sampling", 0.0) == pytest.approx([0.6, 0.3, 0.1])
    assert find_chances("progressive_sampling", 0.5) == pytest.approx([7 / 15, 19 / 60, 13 / 60])
    assert find_chances("progressive_sampling", 1.0) == pytest.approx([1 / 3] * 3)


def test_deferred_sampling_begins_with_a_pass_of_the_training() -> None:
    """A pass has 11 steps of 8 items, the budget 88 steps: the first four passes show items alike."""
    budget = Budget(steps=88, rounds=1)
    method = configure("class_balanced_sampling", deferred=0.5)
    (lane,) = make_training(method, counts=[(64, 16, 4, 1)], budget=budget).lanes
    labels = [lane.training_set.labels_P[lane.batches[step]] for step in range(88)]
    early_K, late_K = (np.bincount(torch.cat(part), minlength=4) for part in (labels[:44], labels[44:]))
    assert early_K.tolist() == pytest.approx([256, 64, 16, 4], abs=32)
    assert late_K.tolist() == pytest.approx([85] * 4, rel=0.3)


@pytest.mark.parametrize(
    ("deferred", "num_steps", "steps_per_pass"),
    [(0.8, 10, 4), (0.0, 10, 10), (0.5, 10, 5), (0.77, 18_000, 6_980)],
)
def test_deferred_sampling_that_acts_in_the_last_pass_is_accepted(
    deferred: float, num_steps: int, steps_per_pass: int
) -> None:
    method = configure("class_balanced_sampling", deferred=deferred)
    method.require_acting(3, num_steps, steps_per_pass)


@pytest.mark.parametrize(
    ("deferred", "num_steps", "steps_per_pass", "last"),
    [(0.81, 10, 4, "0.8"), (0.5, 10, 10, "0"), (0.51, 10, 5, "0.5"), (0.8, 18_000, 6_980, "0.775")],
)
def test_deferred_sampling_that_acts_in_no_pass_is_refused(
    deferred: float, num_steps: int, steps_per_pass: int, last: str
) -> None:
    """In 10 steps, passes of 4 begin at 0, 0.4 and 0.8 of the budget."""
    method = configure("class_balanced_sampling", deferred=deferred)
    with pytest.raises(ValueError, match=rf"got {method.label} .* deferred to at most {last}, take more"):
        method.require_acting(3, num_steps, steps_per_pass)
    sooner = configure("class_balanced_sampling", deferred=float(last))
    sooner.require_acting(3, num_steps, steps_per_pass)


def test_progressive_sampling_of_a_single_pass_is_refused() -> None:
    method = configure("progressive_sampling")
    method.require_acting(3, 10, 9)
    for steps_per_pass in (10, 11):
        with pytest.raises(ValueError, match="from 0 of the budget on; take more steps"):
            method.require_acting(3, 10, steps_per_pass)


@pytest.mark.parametrize(
    "name", ["weighted_cross_entropy", "ldam_drw", "mixup_drw", "class_balanced_sampling"]
)
def test_method_that_is_deferred_beyond_its_training_is_refused(name: str) -> None:
    """The last of 10 steps begins at 0.9 of the budget."""
    configure(name, deferred=0.9).require_acting(3, 10, 1)
    for deferred in (0.91, 1.0):
        method = configure(name, deferred=deferred)
        with pytest.raises(
            ValueError, match=f"{method.label} begins after the last of 10 steps; .* most 0.9,"
        ):
            method.require_acting(3, 10, 1)


@pytest.mark.parametrize("name", ["none", "sqrt_sampling", "crt"])
def test_sampling_that_stays_as_it_is_may_be_of_a_single_pass(name: str) -> None:
    configure(name).require_acting(3, 10, 11)


def test_plan_is_refused_if_its_sampling_never_acts(cpu_execution: Execution) -> None:
    """The sample has 6,000 images, so a pass of batches of 100 has 60 steps."""

    def plan(num_steps: int) -> None:
        protocol = dataclasses.replace(
            get_protocol("sound"),
            classifier_budget=Budget(steps=num_steps, rounds=1),
            classifier_batch_size=100,
        )
        name = "class_balanced_sampling:deferred=0.8"
        cell = make_cell(protocol, dataset="fashion_mnist_mini", c=None, method=name, generator=None)
        compile_study(Study(name="deferred", cells=(cell,), seeds=(0,)), cpu_execution)

    plan(75)  # the second pass begins at 0.8
    with pytest.raises(ValueError, match=r"for 76 steps in passes of 60, .* set deferred to at most 0\.789"):
        plan(76)
