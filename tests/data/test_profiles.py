"""Checks of the profiles beside C: the field's counts, rounding, groups of classes, validation splits."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.long_tail import (
    Cut,
    DataConfig,
    Subset,
    count_short,
    counts_by_rank,
    draw_subset,
    kept_counts,
    parse_ratio,
)
from lt_rebalance.ground.imbalance import (
    count_groups,
    data_rank,
    rank_groups,
    say_data,
    scale_of,
)
from lt_rebalance.ground.plain import config_from_dict, to_plain
from lt_rebalance.methods.registry import METHODS, plan_rebalancing
from lt_rebalance.studies.protocols import NATURAL, get_protocol, grid, make_cell, read_level
from lt_rebalance.studies.workload import describe_short

CIFAR10_LT_100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]


def exp(ratio: str) -> Cut:
    return Cut(profile="exp", value=parse_ratio(ratio))


def step(ratio: str) -> Cut:
    return Cut(profile="step", value=parse_ratio(ratio))


# Counts


def test_exp_gives_the_published_counts_of_cifar_10_lt() -> None:
    assert counts_by_rank([5000] * 10, exp("100")) == CIFAR10_LT_100
    assert sum(counts_by_rank([5000] * 10, exp("100"))) == 12_406


def test_exp_gives_the_published_total_of_cifar_100_lt() -> None:
    counts = counts_by_rank([500] * 100, exp("100"))
    assert sum(counts) == 10_847
    assert (counts[0], counts[-1]) == (500, 5)


@pytest.mark.parametrize(("largest", "num_classes"), [(5000, 10), (500, 100), (6000, 10), (1280, 1000)])
@pytest.mark.parametrize("ratio", [10, 20, 50, 100, 200, 256])
def test_exp_agrees_with_the_floating_point_of_the_published_code(
    largest: int, num_classes: int, ratio: int
) -> None:
    published = [int(largest * (1 / ratio) ** (i / (num_classes - 1.0))) for i in range(num_classes)]
    assert counts_by_rank([largest] * num_classes, exp(str(ratio))) == published


def test_exp_is_exact_where_floating_point_falls_below_a_whole_number() -> None:
    # 500 * 32 ** (-2/5) is 125, and less in floating point.
    assert int(500 * 32 ** (-2 / 5)) == 124
    assert counts_by_rank([500] * 6, exp("32")) == [500, 250, 125, 62, 31, 15]
    assert counts_by_rank([1000] * 4, exp("1000")) == [1000, 100, 10, 1]
    assert counts_by_rank([8] * 4, exp("8")) == [8, 4, 2, 1]


def test_exp_is_exact_just_below_a_whole_number() -> None:
    # 10**6 / ratio is 1e-10 below 2, which is closer than floating point is trusted.
    ratio = Fraction(10**6, 2) + Fraction(1, 10**4)
    assert counts_by_rank([10**6] * 2, Cut(profile="exp", value=ratio)) == [10**6, 1]


def test_step_keeps_the_first_half_and_cuts_the_rest() -> None:
    assert counts_by_rank([500] * 4, step("100")) == [500, 500, 5, 5]
    assert counts_by_rank([5000] * 10, step("100")) == [5000] * 5 + [50] * 5
    assert counts_by_rank([500] * 4, step("3")) == [500, 500, 166, 166]  # 166.67, cut as int() cuts


def test_step_of_an_odd_number_of_classes_keeps_every_class() -> None:
    assert counts_by_rank([100] * 5, step("10")) == [100, 100, 10, 10, 10]


@pytest.mark.parametrize("make", [exp, step])
@pytest.mark.parametrize("num_classes", [2, 3, 10, 43])
@pytest.mark.parametrize("ratio", ["3/2", "10", "100"])
def test_profile_falls_from_largest_to_largest_over_ratio(make: Any, num_classes: int, ratio: str) -> None:
    counts = counts_by_rank([700] * num_classes, make(ratio))
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (700, int(700 / Fraction(ratio)))


def test_class_with_fewer_images_keeps_what_it_has() -> None:
    assert counts_by_rank([100, 30, 40, 40], exp("8")) == [100, 30, 25, 12]
    assert count_short([100, 30, 40, 40], exp("8"), "label", 0) == 1  # 50 asked of 30
    assert count_short([100] * 4, exp("8"), "label", 0) == 0


def test_shortage_is_told_once_with_the_number_of_classes() -> None:
    data = make_cell(get_protocol("sound"), dataset="mnist", c="exp 100", method="none", generator=None).data
    assert describe_short(data, [0, 1]) == (
        "mnist: 1 of 10 classes with fewer images than exp 100 requires, all of which are kept"
    )
    assert describe_short(make_data(), [0]) == ""


def test_largest_class_need_not_be_the_first_one() -> None:
    # The largest class sets the scale, the order who is asked for how much.
    assert kept_counts([20, 80, 80, 80], exp("8"), "label", 0) == [20, 40, 20, 10]


# Drawing

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 40))


def draw(**changes: Any) -> Subset:
    arguments: dict[str, Any] = {
        "cut": exp("8"),
        "subset_draw": "per_seed",
        "class_order": "label",
        "validation_per_class": 0,
        "seed": 0,
    }
    return draw_subset(LABELS, 4, **(arguments | changes))


@pytest.mark.parametrize("subset_draw", ["paper", "per_seed"])
@pytest.mark.parametrize("class_order", ["label", "permuted"])
@pytest.mark.parametrize("cut", [exp("8"), step("8")])
def test_both_draws_and_orders_go_with_every_profile(subset_draw: str, class_order: str, cut: Cut) -> None:
    subset = draw(cut=cut, subset_draw=subset_draw, class_order=class_order, seed=0)
    expected = [40, 20, 10, 5] if cut.profile == "exp" else [40, 40, 5, 5]
    assert sorted(subset.counts_K, reverse=True) == expected
    assert (subset.counts_K == expected) == (class_order == "label")
    for label, indices in enumerate(subset.indices_by_class):
        assert set(LABELS[indices]) == {label} and len(set(indices.tolist())) == len(indices)


# Configurations


def make_data(**changes: Any) -> DataConfig:
    values: dict[str, Any] = {
        "dataset": "fashion_mnist_mini",
        "c": None,
        "subset_draw": "per_seed",
        "class_order": "label",
        "validation_per_class": 0,
        "profile": "exp",
        "ratio": "100",
    }
    return DataConfig(**(values | changes))


def test_configuration_of_a_profile_is_named_and_kept() -> None:
    data = make_data()
    assert (data.label, data.cut) == ("exp 100", exp("100"))
    assert config_from_dict(DataConfig, to_plain(data)) == data


@pytest.mark.parametrize("changes", [{}, {"c": "1/2", "profile": None, "ratio": None}])
def test_validation_beyond_a_class_is_refused_as_such(changes: dict[str, Any]) -> None:
    """And not as a ratio that leaves less than no image."""
    with pytest.raises(ValueError, match="validation_per_class must be at least 0 and below the smallest"):
        make_data(validation_per_class=100_000, **changes)


def test_configuration_of_a_c_has_no_trace_of_profiles() -> None:
    plain = to_plain(make_data(c="1/2", profile=None, ratio=None))
    assert set(plain) == {"dataset", "c", "subset_draw", "class_order", "validation_per_class"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "gamo"}, "unknown profile 'gamo'; known: exp, step"),
        ({"profile": None}, "a profile goes with a ratio"),
        ({"ratio": None}, "a profile goes with a ratio"),
        ({"c": "1/2"}, "C and a profile exclude each other, got C 1/2 and exp 100"),
        ({"ratio": "100.0"}, "a ratio must be given in lowest terms, '100', got '100.0'"),
        ({"ratio": "1"}, "an imbalance ratio is a number above 1"),
        ({"ratio": "many"}, "an imbalance ratio must be a number such as 100, got 'many'"),
        ({"ratio": "601"}, "leaves the smallest class no image of the 600"),
        ({"ratio": "600", "validation_per_class": 1}, "leaves the smallest class no image of the 599"),
        ({"subset_draw": None}, "unknown subset draw"),
    ],
)
def test_configuration_that_means_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_data(**changes)


def test_natural_is_the_original_set_to_the_last_field() -> None:
    protocol = get_protocol("sound")
    original, natural = (
        make_cell(protocol, dataset="fashion_mnist_mini", c=level, method="none", generator=None)
        for level in (None, NATURAL)
    )
    assert natural == original
    assert (natural.data.c, natural.data.profile, natural.data.label) == (None, None, "original")


def test_levels_are_read_as_axes_name_them() -> None:
    assert read_level("0.5") == {"c": "1/2", "profile": None, "ratio": None}
    assert read_level("step 1.5") == {"c": None, "profile": "step", "ratio": "3/2"}
    assert read_level(NATURAL) == read_level(None) == {"c": None, "profile": None, "ratio": None}


def test_natural_runs_every_method_and_the_original_set_none_alone() -> None:
    axes: dict[str, Any] = {"dataset": "mnist", "methods": ["none", "oversample"], "generators": []}
    protocols = [get_protocol("sound")]
    found = {level: grid(protocols, cs=[level], **axes) for level in (NATURAL, None)}
    assert [cell.method.name for cell in found[NATURAL]] == ["none", "oversample"]
    assert [cell.method.name for cell in found[None]] == ["none"]
    assert set(grid(protocols, cs=[None, NATURAL], **axes)) == set(found[NATURAL])


# Names and order


def test_names_go_from_the_original_set_over_each_profile_from_mild_to_strong() -> None:
    ordered = ["original", "7/9", "1/2", "exp 3/2", "exp 10", "exp 100", "exp 200", "step 2", "step 100"]
    assert sorted(reversed(ordered), key=data_rank) == ordered
    assert [say_data(each) for each in ("7/9", "exp 100", "original")] == [
        "C = 7/9",
        "exp 100",
        "the original set",
    ]
    assert [scale_of(each) for each in ("7/9", "1/2", "exp 10", "step 2")] == ["C", "C", "exp", "step"]


# Methods


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("counts", [[7, 7, 7], [1, 1, 1], [3, 1, 9], [1, 5]])
def test_every_method_plans_equal_classes_single_images_and_a_largest_class_anywhere(
    name: str, counts: list[int]
) -> None:
    for draw_name in METHODS[name].draws or (None,):
        plan = plan_rebalancing(name, draw_name, counts, np.random.default_rng(0))
        assert min(plan.counts_K) >= 1
        if len(set(counts)) == 1:
            assert plan.counts_K == counts and sum(plan.num_synthetic_K) == 0
        if name in ("oversample", "cgan"):
            assert plan.counts_K == [max(counts)] * len(counts)


# Groups


def test_count_groups_end_where_the_field_has_them_end() -> None:
    # Liu et al. 2019: many more than 100, medium 20 to 100, few fewer than 20.
    assert count_groups([101, 100, 20, 19]) == {"many_shot": [0], "medium_shot": [1, 2], "few_shot": [3]}


def test_count_group_without_classes_is_absent() -> None:
    assert count_groups([6000, 625]) == {"many_shot": [0, 1]}
    assert {name: len(labels) for name, labels in count_groups(CIFAR10_LT_100).items()} == {
        "many_shot": 8,
        "medium_shot": 2,
    }


def test_rank_groups_of_a_natural_set_go_by_its_counts() -> None:
    assert rank_groups([10, 90, 50, 70])["head"] == [1]


# The full set


def test_exp_of_fashion_mnist_keeps_counts_of_the_rule(full_data_dir: Path) -> None:
    labels_N = load_dataset("fashion_mnist", full_data_dir).train_labels_N
    subset = draw_subset(
        labels_N,
        10,
        cut=exp("100"),
        subset_draw="per_seed",
        class_order="label",
        validation_per_class=0,
        seed=0,
    )
    assert subset.counts_K == [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]
