"""Checks of the long-tailed cut: the published counts and draw, seeds, validation, rank groups."""

import hashlib
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.long_tail import (
    Cut,
    DataConfig,
    IndexArray,
    Subset,
    c_of_ratio,
    choose_validation,
    classes_by_first_appearance,
    counts_by_rank,
    draw_subset,
    kept_counts,
    parse_c,
    rank_order,
)
from lt_rebalance.ground.imbalance import rank_groups

COUNTS_7_9 = [6000, 4667, 3630, 2824, 2196, 1708, 1329, 1034, 804, 625]
COUNTS_1_2 = [6000, 3000, 1500, 750, 375, 188, 94, 47, 24, 12]
PAPER_ORDER = [9, 0, 3, 2, 7, 5, 1, 6, 4, 8]
# 4 classes of 40 images, in an order that mixes them.
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 40))


def cut(c: Fraction | str) -> Cut:
    """Return the paper's cut at a C."""
    return Cut(profile=None, value=parse_c(str(c)))


def draw(**changes: Any) -> Subset:
    """Draw from LABELS at C = 1/2, per seed, in label order, without validation, unless changed."""
    arguments: dict[str, Any] = {
        "cut": cut(Fraction(1, 2)),
        "subset_draw": "per_seed",
        "class_order": "label",
        "validation_per_class": 0,
        "seed": 0,
    }
    return draw_subset(LABELS, 4, **(arguments | changes))


def as_lists(subset: Subset) -> list[list[int]]:
    return [indices.tolist() for indices in subset.indices_by_class]


@pytest.fixture(scope="module")
def full_labels(full_data_dir: Path) -> IndexArray:
    """Return the 60,000 training labels of Fashion-MNIST."""
    return load_dataset("fashion_mnist", full_data_dir).train_labels_N


# C


@pytest.mark.parametrize(
    ("ratio", "c"),
    [(2, "12/13"), (5, "5/6"), (9.6, "7/9"), (10, "7/9"), (50, "11/17"), (100, "3/5"), (500, "1/2")],
)
def test_c_of_ratio_is_simple_and_near_and_the_papers_where_it_can_be(ratio: float, c: str) -> None:
    found = c_of_ratio(ratio, 10)
    assert str(found) == c
    assert float(found) ** -9 == pytest.approx(ratio, rel=0.05)


def test_c_of_ratio_depends_on_the_number_of_classes() -> None:
    assert c_of_ratio(4, 3) == Fraction(1, 2)
    assert float(c_of_ratio(1.01, 43)) ** -42 == pytest.approx(1.01, rel=0.05)


@pytest.mark.parametrize(
    ("ratio", "num_classes"),
    [(1e9, 2), (1e9, 3), (1e9, 10_000), (1.0001, 10_000), (1 + 1e-12, 10_000), (1.000001, 2)],
)
def test_c_of_an_extreme_ratio_is_found_at_once(ratio: float, num_classes: int) -> None:
    """Counted from a denominator of 2, the first would take half a billion steps."""
    found = c_of_ratio(ratio, num_classes)
    assert math.log(found.denominator / found.numerator) * (num_classes - 1) == pytest.approx(
        math.log(ratio), abs=0.052
    )


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.0, -3.0, float("inf"), float("nan")])
def test_c_of_no_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="an imbalance ratio is a number above 1"):
        c_of_ratio(ratio, 10)


def test_c_of_a_ratio_that_no_float_tells_from_1_is_refused() -> None:
    with pytest.raises(ValueError, match="an imbalance ratio is a number above 1"):
        c_of_ratio(1 + 1e-15, 10_000)


@pytest.mark.parametrize(
    ("text", "c"),
    [("7/9", Fraction(7, 9)), ("0.5", Fraction(1, 2)), ("1/2", Fraction(1, 2)), ("0.1", Fraction(1, 10))],
)
def test_parse_c_reads_fractions_and_decimals_exactly(text: str, c: Fraction) -> None:
    assert parse_c(text) == c


@pytest.mark.parametrize("text", ["1.5", "0", "1", "-1/2", "9/7"])
def test_parse_c_outside_the_open_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"C must be strictly between 0 and 1, got {text}"):
        parse_c(text)


@pytest.mark.parametrize("text", ["abc", "1/0", "", "7/9/2", "nan", "inf"])
def test_parse_c_of_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="C must be a fraction such as 7/9"):
        parse_c(text)


# Counts


@pytest.mark.parametrize(("c", "counts", "total"), [("7/9", COUNTS_7_9, 24_817), ("1/2", COUNTS_1_2, 11_990)])
def test_counts_by_rank_of_full_set_equal_the_published(c: str, counts: list[int], total: int) -> None:
    assert counts_by_rank([6000] * 10, cut(c)) == counts
    assert sum(counts) == total


def test_counts_by_rank_where_the_product_is_whole_are_not_rounded_up() -> None:
    assert counts_by_rank([6000] * 5, cut("1/2"))[4] == 375  # 6000 / 16
    assert 1000 * 0.1**2 > 10  # in floating point, so that its ceiling is 11
    assert counts_by_rank([1000] * 4, cut("0.1")) == [1000, 100, 10, 1]


def test_counts_by_rank_never_exceed_what_a_class_has() -> None:
    assert counts_by_rank([100, 30, 40], cut("1/2")) == [100, 30, 25]


def test_counts_by_rank_never_empty_a_class() -> None:
    assert counts_by_rank([10] * 6, cut("1/10")) == [10, 1, 1, 1, 1, 1]


def test_kept_counts_without_c_keep_everything() -> None:
    assert kept_counts([5, 7, 6], None, None, seed=0) == [5, 7, 6]


def test_kept_counts_permuted_give_the_head_to_the_first_of_the_order() -> None:
    counts_K = kept_counts([80] * 4, cut("1/2"), "permuted", seed=3)
    order = rank_order(4, "permuted", seed=3)
    assert [counts_K[label] for label in order] == [80, 40, 20, 10]


def test_rank_order_by_label_is_the_same_for_every_seed() -> None:
    assert rank_order(5, "label", seed=0) == rank_order(5, "label", seed=1) == [0, 1, 2, 3, 4]


def test_rank_order_permuted_is_equal_for_equal_seeds_and_differs_for_different() -> None:
    orders = [rank_order(10, "permuted", seed) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == list(range(10)) for order in orders)


def test_rank_order_permuted_gives_the_head_to_every_class_in_turn() -> None:
    assert {rank_order(10, "permuted", seed)[0] for seed in range(200)} == set(range(10))


def test_rank_order_of_unknown_name_names_the_known() -> None:
    with pytest.raises(ValueError, match="unknown class order 'random'; known: label, permuted"):
        rank_order(10, "random", seed=0)


# The published draw


def test_classes_by_first_appearance_of_small_labels() -> None:
    assert classes_by_first_appearance(np.array([2, 2, 0, 1, 0, 2])) == [2, 0, 1]


def test_classes_by_first_appearance_of_full_set(full_labels: IndexArray) -> None:
    assert classes_by_first_appearance(full_labels) == PAPER_ORDER


@pytest.mark.parametrize(
    ("c", "counts", "digest"),
    [("7/9", COUNTS_7_9, "610c2029f7371fb0"), ("1/2", COUNTS_1_2, "8e261441a1ce68e3")],
)
def test_paper_draw_from_full_set_equals_the_published(
    full_labels: IndexArray, c: str, counts: list[int], digest: str
) -> None:
    subset = draw_subset(
        full_labels,
        10,
        cut=cut(c),
        subset_draw="paper",
        class_order="label",
        validation_per_class=0,
        seed=5,
    )
    assert subset.counts_K == counts
    assert subset.indices_by_class[9][:5].tolist() == [43294, 26666, 44729, 48210, 12813]
    content = np.concatenate([subset.indices_by_class[label] for label in PAPER_ORDER]).astype("<i8")
    assert hashlib.sha256(content.tobytes()).hexdigest()[:16] == digest


def test_paper_draw_is_the_same_for_every_seed() -> None:
    assert as_lists(draw(subset_draw="paper", seed=0)) == as_lists(draw(subset_draw="paper", seed=1))


# Draws of any kind


@pytest.mark.parametrize("subset_draw", ["paper", "per_seed"])
@pytest.mark.parametrize("class_order", ["label", "permuted"])
@pytest.mark.parametrize("validation_per_class", [0, 4])
def test_subset_holds_distinct_images_of_the_right_class(
    subset_draw: str, class_order: str, validation_per_class: int
) -> None:
    subset = draw(
        subset_draw=subset_draw, class_order=class_order, validation_per_class=validation_per_class, seed=2
    )
    largest = 40 - validation_per_class
    assert sorted(subset.counts_K, reverse=True) == [largest, largest // 2, largest // 4, -(-largest // 8)]
    for label, indices in enumerate(subset.indices_by_class):
        assert set(LABELS[indices]) == {label}
        assert len(set(indices.tolist())) == len(indices) == subset.counts_K[label]


def test_per_seed_draw_is_equal_for_equal_seeds_and_differs_for_different() -> None:
    draws = [as_lists(draw(seed=seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1]
    assert set(draws[0][3]) != set(draws[2][3])


def test_per_seed_draws_are_nested_over_c() -> None:
    smaller, larger = as_lists(draw(cut=cut("1/3"))), as_lists(draw(cut=cut("2/3")))
    for few, many in zip(smaller, larger, strict=True):
        assert few == many[: len(few)]


def test_permuted_class_order_changes_counts_with_the_seed() -> None:
    counts = [draw(class_order="permuted", seed=seed).counts_K for seed in (0, 0, 1)]
    assert counts[0] == counts[1] != counts[2]
    assert sorted(counts[2], reverse=True) == [40, 20, 10, 5]


def test_subset_without_c_holds_every_image() -> None:
    subset = draw(cut=None, subset_draw=None, class_order=None)
    assert sorted(np.concatenate(subset.indices_by_class).tolist()) == list(range(160))
    assert subset.counts_K == [40] * 4


def test_subset_of_unknown_draw_names_the_known() -> None:
    with pytest.raises(ValueError, match="unknown subset draw 'fixed'; known: paper, per_seed"):
        draw(subset_draw="fixed")


# Validation


@pytest.mark.parametrize("subset_draw", ["paper", "per_seed"])
@pytest.mark.parametrize("c", [Fraction(1, 2), None])
def test_validation_is_balanced_and_disjoint_from_training(subset_draw: str, c: Fraction | None) -> None:
    subset = draw(subset_draw=subset_draw, cut=c and cut(c), validation_per_class=10)
    validation = subset.validation_indices
    assert np.bincount(LABELS[validation], minlength=4).tolist() == [10] * 4
    assert len(set(validation.tolist())) == 40
    assert not set(validation.tolist()) & set(np.concatenate(subset.indices_by_class).tolist())


def test_validation_is_equal_for_equal_seeds_and_differs_for_different() -> None:
    chosen = [set(draw(validation_per_class=10, seed=seed).validation_indices.tolist()) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_validation_does_not_depend_on_c() -> None:
    chosen = [
        draw(validation_per_class=10, cut=cut(c)).validation_indices.tolist()
        for c in (Fraction(1, 2), Fraction(1, 3))
    ]
    assert chosen[0] == chosen[1]


def test_validation_absent_by_default() -> None:
    assert len(draw().validation_indices) == 0


def test_validation_of_500_leaves_5500_to_the_largest_class() -> None:
    subset = draw_subset(
        np.repeat(np.arange(10), 6000),
        10,
        cut=cut("1/2"),
        subset_draw="per_seed",
        class_order="label",
        validation_per_class=500,
        seed=0,
    )
    assert subset.counts_K == [5500, 2750, 1375, 688, 344, 172, 86, 43, 22, 11]


@pytest.mark.parametrize("validation_per_class", [-1, 40, 41])
def test_validation_share_that_leaves_nothing_is_refused(validation_per_class: int) -> None:
    with pytest.raises(ValueError, match=rf"smallest class \(40 images\), got {validation_per_class}"):
        draw(validation_per_class=validation_per_class)


# Groups


def test_rank_groups_of_ten_classes_are_three_four_three() -> None:
    assert rank_groups(COUNTS_1_2) == {"head": [0, 1, 2], "medium": [3, 4, 5, 6], "tail": [7, 8, 9]}


def test_rank_groups_follow_counts_and_not_labels() -> None:
    groups = rank_groups([12, 24, 47, 94, 188, 375, 750, 1500, 3000, 6000])
    assert groups == {"head": [9, 8, 7], "medium": [6, 5, 4, 3], "tail": [2, 1, 0]}


def test_rank_groups_with_ties_keep_the_order_of_labels() -> None:
    assert rank_groups([5, 9, 5, 5]) == {"head": [1], "medium": [0, 2], "tail": [3]}


def test_rank_groups_without_classes_are_absent() -> None:
    assert rank_groups([7]) == {"medium": [0]}
    assert rank_groups([1, 2]) == {"head": [1], "tail": [0]}


@pytest.mark.parametrize("num_classes", range(1, 101))
def test_rank_groups_hold_every_class_once(num_classes: int) -> None:
    groups = rank_groups(list(range(num_classes)))
    assert sorted(label for labels in groups.values() for label in labels) == list(range(num_classes))
    assert len(groups.get("head", [])) == len(groups.get("tail", []))


# Validation by group

GROUPS = np.empty(160, dtype=np.int64)
for _label in range(4):  # ten groups of 4 in each class, but of class 2 one of 3 and one of 5
    GROUPS[np.flatnonzero(_label == LABELS)] = np.repeat(np.arange(10), 4)
GROUPS[np.flatnonzero(LABELS == 2)[3]] = 1
WHOLE = {"cut": None, "subset_draw": None, "class_order": None}


def validation_of(**changes: Any) -> IndexArray:
    return draw(**WHOLE, **({"validation_per_class": 8, "groups_N": GROUPS} | changes)).validation_indices


def test_whole_groups_are_set_aside_as_many_images_of_each_class() -> None:
    subset = draw(**WHOLE, validation_per_class=8, groups_N=GROUPS)
    taken = subset.validation_indices
    assert np.bincount(LABELS[taken]).tolist() == [8] * 4
    for label in range(4):
        of_class = taken[LABELS[taken] == label]
        left = subset.indices_by_class[label]
        assert not set(GROUPS[of_class]) & set(GROUPS[left])
        assert sorted([*of_class, *left]) == np.flatnonzero(label == LABELS).tolist()


def test_groups_set_aside_are_drawn_anew_for_each_seed_and_are_a_function_of_it() -> None:
    assert np.array_equal(validation_of(seed=3), validation_of(seed=3))
    assert len({tuple(validation_of(seed=seed)) for seed in range(10)}) > 5


def test_groups_of_other_sizes_are_passed_over_where_they_do_not_add_up() -> None:
    """Of class 2, the groups of 3 and 5 are taken both, or neither."""
    for seed in range(40):
        taken = validation_of(seed=seed)
        assert len(set(GROUPS[taken[LABELS[taken] == 2]]) & {0, 1}) != 1


def test_number_that_no_groups_have_together_is_refused() -> None:
    with pytest.raises(ValueError, match="have 6 images together in a class with groups of 4 to 4"):
        validation_of(validation_per_class=6)


def test_tracks_of_a_set_of_the_catalogue_can_be_set_aside_by_thirty() -> None:
    natural: dict[str, Any] = {"c": None, "subset_draw": None, "class_order": None}
    assert DataConfig(dataset="gtsrb", validation_per_class=60, **natural).has_validation
    with pytest.raises(ValueError, match=r"whole groups aside, of 30 images in gtsrb.* multiple .*, got 20"):
        DataConfig(dataset="gtsrb", validation_per_class=20, **natural)
    names = ("gtsrb", "gtsrb_online", "fashion_mnist", "cifar100")
    assert [choose_validation(name) for name in names] == [30, 30, 500, 41]
