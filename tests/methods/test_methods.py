"""Checks of the rebalancing methods: a contract over METHODS, and each method by hand."""

from collections.abc import Sequence

import numpy as np
import pytest

from lt_rebalance.ground.seeding import numpy_stream
from lt_rebalance.methods.contract import RebalancePlan
from lt_rebalance.methods.registry import (
    METHODS,
    MethodConfig,
    check_draw,
    get_method,
    plan_rebalancing,
    split_options,
)
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.configs import Budget

COUNTS = [8, 4, 2, 1]
COUNTS_7_9 = [6000, 4667, 3630, 2824, 2196, 1708, 1329, 1034, 804, 625]
COUNTS_1_2 = [6000, 3000, 1500, 750, 375, 188, 94, 47, 24, 12]
EVERY_METHOD = [(name, draw) for name, method in METHODS.items() for draw in method.draws or (None,)]
# Training items of each class after the method, from the counts before it.
COUNTS_AFTER = {
    "none": lambda counts_K: list(counts_K),
    "undersample": lambda counts_K: [min(counts_K)] * len(counts_K),
    "oversample": lambda counts_K: [max(counts_K)] * len(counts_K),
    "cgan": lambda counts_K: [max(counts_K)] * len(counts_K),
}


def make_plan(name: str, draw: str | None, counts_K: Sequence[int] = COUNTS, seed: int = 0) -> RebalancePlan:
    return plan_rebalancing(name, draw, counts_K, numpy_stream(seed, "resampling"))


def positions(plan: RebalancePlan) -> list[list[int]]:
    return [positions.tolist() for positions in plan.positions_by_class]


# Contract


@pytest.mark.parametrize(("name", "draw"), EVERY_METHOD)
@pytest.mark.parametrize("counts_K", [COUNTS, COUNTS_7_9, [3, 9, 1, 9]])
def test_method_plans_positions_in_range_and_empties_no_class(
    name: str, draw: str | None, counts_K: list[int]
) -> None:
    plan = make_plan(name, draw, counts_K)
    assert len(plan.positions_by_class) == len(plan.num_synthetic_K) == len(counts_K)
    for count, chosen, num_synthetic in zip(
        counts_K, plan.positions_by_class, plan.num_synthetic_K, strict=True
    ):
        assert len(chosen) > 0
        assert chosen.min() >= 0 and chosen.max() < count
        assert num_synthetic >= 0
    assert plan.counts_K == [
        len(chosen) + num_synthetic
        for chosen, num_synthetic in zip(plan.positions_by_class, plan.num_synthetic_K, strict=True)
    ]


@pytest.mark.parametrize(("name", "draw"), [pair for pair in EVERY_METHOD if METHODS[pair[0]].only_plans])
def test_method_that_only_plans_acts_on_unbalanced_counts(name: str, draw: str | None) -> None:
    assert (make_plan(name, draw).counts_K != COUNTS) == (name != "none")


@pytest.mark.parametrize(("name", "draw"), [pair for pair in EVERY_METHOD if pair[0] in COUNTS_AFTER])
@pytest.mark.parametrize("counts_K", [COUNTS, COUNTS_1_2, [3, 9, 1, 9], [5, 5]])
def test_method_reaches_its_counts(name: str, draw: str | None, counts_K: list[int]) -> None:
    assert make_plan(name, draw, counts_K).counts_K == COUNTS_AFTER[name](counts_K)


@pytest.mark.parametrize(("name", "draw"), EVERY_METHOD)
def test_images_are_made_only_by_what_can_make_them(name: str, draw: str | None) -> None:
    assert (sum(make_plan(name, draw).num_synthetic_K) > 0) == METHODS[name].makes_images


@pytest.mark.parametrize(("name", "draw"), EVERY_METHOD)
def test_method_leaves_a_balanced_set_as_it_is_but_for_order(name: str, draw: str | None) -> None:
    plan = make_plan(name, draw, [4, 4, 4])
    assert [sorted(chosen) for chosen in positions(plan)] == [[0, 1, 2, 3]] * 3
    assert sum(plan.num_synthetic_K) == 0


@pytest.mark.parametrize(("name", "draw"), EVERY_METHOD)
def test_method_with_the_same_stream_makes_the_same_plan(name: str, draw: str | None) -> None:
    assert positions(make_plan(name, draw, seed=4)) == positions(make_plan(name, draw, seed=4))


@pytest.mark.parametrize(("name", "draw"), EVERY_METHOD)
def test_method_draws_per_seed_only_where_the_draw_is_random(name: str, draw: str | None) -> None:
    differs = positions(make_plan(name, draw, COUNTS_7_9, seed=0)) != positions(
        make_plan(name, draw, COUNTS_7_9, seed=1)
    )
    assert differs == (draw == "random")


@pytest.mark.parametrize("name", METHODS)
def test_method_has_a_description(name: str) -> None:
    assert get_method(name).description


# Each method


def test_none_keeps_every_image_once() -> None:
    assert positions(make_plan("none", None)) == [list(range(8)), [0, 1, 2, 3], [0, 1], [0]]


def test_undersample_first_keeps_the_first_images() -> None:
    assert positions(make_plan("undersample", "first", [5, 2, 3])) == [[0, 1]] * 3


def test_undersample_random_keeps_distinct_images_that_are_not_always_the_first() -> None:
    plan = make_plan("undersample", "random", [1000, 20])
    chosen = positions(plan)[0]
    assert len(set(chosen)) == 20
    assert sorted(chosen) != list(range(20))


def test_undersample_random_reaches_every_image_over_seeds() -> None:
    seen = {i for seed in range(60) for i in positions(make_plan("undersample", "random", [6, 2], seed))[0]}
    assert seen == set(range(6))


def test_oversample_cyclic_repeats_images_in_turn() -> None:
    plan = make_plan("oversample", "cyclic", [7, 3, 1])
    assert positions(plan) == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 1, 2, 0], [0] * 7]


def test_oversample_random_keeps_every_original_and_differs_from_cyclic() -> None:
    plan, cyclic = (
        make_plan("oversample", "random", COUNTS_1_2),
        make_plan("oversample", "cyclic", COUNTS_1_2),
    )
    for count, chosen in zip(COUNTS_1_2, plan.positions_by_class, strict=True):
        assert set(chosen.tolist()) == set(range(count))
    repeats = np.bincount(plan.positions_by_class[1], minlength=3000)
    assert np.bincount(cyclic.positions_by_class[1]).tolist() == [2] * 3000
    assert repeats.min() == 1 and repeats.max() > 2


@pytest.mark.parametrize(("counts_K", "num_synthetic"), [(COUNTS_7_9, 35_183), (COUNTS_1_2, 48_010)])
def test_cgan_fills_every_class_but_the_largest(counts_K: list[int], num_synthetic: int) -> None:
    plan = make_plan("cgan", None, counts_K)
    assert plan.num_synthetic_K == tuple(6000 - count for count in counts_K)
    assert sum(plan.num_synthetic_K) == num_synthetic
    assert positions(plan) == [list(range(count)) for count in counts_K]


# Steps


@pytest.mark.parametrize(
    ("name", "draw", "counts_K", "steps_per_epoch", "steps"),
    [
        ("none", None, [6000] * 10, 600, 18_000),
        ("oversample", "cyclic", COUNTS_7_9, 600, 18_000),
        ("cgan", None, COUNTS_1_2, 600, 18_000),
        ("none", None, COUNTS_7_9, 249, 7_470),
        ("none", None, COUNTS_1_2, 120, 3_600),
        ("undersample", "first", COUNTS_7_9, 63, 1_890),
        ("undersample", "first", COUNTS_1_2, 2, 60),
    ],
)
def test_method_gives_the_published_steps_in_30_epochs(
    name: str, draw: str | None, counts_K: list[int], steps_per_epoch: int, steps: int
) -> None:
    num_items = sum(make_plan(name, draw, counts_K).counts_K)
    batching = Batching(num_items=num_items, batch_size=100, smallest=1)
    round_ends = Budget(epochs=30).round_ends(batching.steps_per_pass)
    assert batching.steps_per_pass == round_ends[0] == steps_per_epoch
    assert len(round_ends) == 30
    assert round_ends[-1] == steps


# Errors


def test_get_method_of_unknown_name_names_the_known() -> None:
    with pytest.raises(
        ValueError, match="unknown method 'smite'; known: none, undersample, oversample, cgan"
    ):
        get_method("smite")


@pytest.mark.parametrize(
    ("name", "draw", "known"),
    [
        ("undersample", None, "first, random"),
        ("oversample", "first", "cyclic, random"),
        ("none", "random", "none"),
        ("cgan", "random", "none"),
    ],
)
def test_plan_with_a_draw_the_method_does_not_offer_is_refused(
    name: str, draw: str | None, known: str
) -> None:
    with pytest.raises(ValueError, match=f"unknown draw {draw!r} of method '{name}'; known: {known}"):
        make_plan(name, draw)


def test_check_draw_of_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown method"):
        check_draw("smite", None)


@pytest.mark.parametrize(("name", "draw"), EVERY_METHOD)
def test_plan_with_an_empty_class_is_refused(name: str, draw: str | None) -> None:
    with pytest.raises(ValueError, match=r"at least one image, got counts \[3, 0\]"):
        make_plan(name, draw, [3, 0])


# Asked for with options


@pytest.mark.parametrize(
    ("asked", "name", "options"),
    [
        ("focal", "focal", {}),
        ("focal:gamma=1", "focal", {"gamma": 1}),
        ("ldam_drw:max_margin=0.3, scale=20.0", "ldam_drw", {"max_margin": 0.3, "scale": 20.0}),
        ("mine.py:loss@12345678:strength=2", "mine.py:loss@12345678", {"strength": 2}),
        ("mine.py:loss@12345678", "mine.py:loss@12345678", {}),
        ("mine.py:pick:kind=first", "mine.py:pick", {"kind": "first"}),
    ],
)
def test_options_are_read_from_what_is_asked_for(asked: str, name: str, options: dict[str, object]) -> None:
    assert split_options(asked) == (name, options)


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ("focal:gamma=", r"NAME:OPTION=VALUE,OPTION=VALUE, got 'focal:gamma='"),
        ("focal:=1", "NAME:OPTION=VALUE"),
        ("focal:", "NAME:OPTION=VALUE"),
        ("focal:gamma", "NAME:OPTION=VALUE"),
        ("focal:gamma=1,", "NAME:OPTION=VALUE"),
        ("focal:gamma=1,gamma=2", "given once, got gamma twice"),
    ],
)
def test_options_that_cannot_be_read_are_refused(asked: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        split_options(asked)


def test_label_is_what_is_asked_for_without_what_is_usual() -> None:
    options = {"max_margin": 0.3, "scale": 30.0}
    assert MethodConfig(name="ldam", draw=None, options=options).label == "ldam:max_margin=0.3"
    assert MethodConfig(name="ldam", draw=None).label == "ldam"
    assert MethodConfig(name="none", draw=None).label == "none"
