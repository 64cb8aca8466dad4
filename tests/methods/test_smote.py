"""Checks of SMOTE, its variants, and any sampler of imbalanced-learn: what they make, and when they fail."""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lt_rebalance.ground.errors import NotApplicableError
from lt_rebalance.ground.own_file import WrongReturnError
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.methods.checking import synthesize_checked
from lt_rebalance.methods.interpolation import _pick, resample
from lt_rebalance.methods.registry import MethodConfig, fill_in_options, get_method, plan_rebalancing

BY_PATH = "imblearn.over_sampling."


def make_images(counts_K: Sequence[int], spread: float = 0.3) -> list[NDArray[np.float32]]:
    """Return images of 2 x 2 around a level of each class; with this spread, classes overlap."""
    rng = np.random.default_rng(0)
    levels = np.linspace(-0.5, 0.5, len(counts_K))
    return [
        np.clip(rng.normal(level, spread, (count, 1, 2, 2)), -1, 1).astype(np.float32)
        for level, count in zip(levels, counts_K, strict=True)
    ]


def make(name: str, counts_K: Sequence[int], seed: int = 0, **options: Any) -> NDArray[np.float32]:
    """Return the images that a method makes to fill classes with these numbers of images."""
    method = get_method(name)
    plan = plan_rebalancing(name, None, counts_K, np.random.default_rng(0), options=options or None)
    filled = fill_in_options(name, options or None)
    rng = np.random.default_rng(seed)
    return synthesize_checked(method.synthesize, make_images(counts_K), plan.num_synthetic_K, rng, filled)


def test_points_lie_between_neighbours_of_their_class() -> None:
    """Each made image is a + w (b - a) of two of its class: on a side of the triangle of three."""
    images = make_images([8, 3])
    made = resample(BY_PATH + "SMOTE", {"k_neighbors": 2}, images, [0, 5], np.random.default_rng(0)).reshape(
        5, -1
    )
    points = images[1].reshape(3, -1).astype(np.float64)
    for each in made:
        distances = []
        for first, second in ((0, 1), (1, 2), (0, 2)):
            side = points[second] - points[first]
            weight = float((each - points[first]) @ side / (side @ side))
            distances.append(
                np.abs(each - points[first] - weight * side).max() if 0 <= weight <= 1 else np.inf
            )
        assert min(distances) < 1e-6


@pytest.mark.parametrize(
    "name", ["smote", "borderline_smote", "adasyn", BY_PATH + "SVMSMOTE", BY_PATH + "RandomOverSampler"]
)
def test_classes_are_filled_to_the_largest_and_by_their_seed(name: str) -> None:
    counts_K = [40, 25, 12]
    made = make(name, counts_K)
    assert len(made) == 15 + 28
    # Class by class: the levels of the classes rise.
    assert made[:15].mean() < made[15:].mean()
    assert np.array_equal(made, make(name, counts_K))
    assert not np.array_equal(made, make(name, counts_K, seed=1))


@pytest.mark.parametrize("wanted", [20, 60, 150])
def test_adasyn_which_rounds_for_each_image_fills_classes_of_nearly_the_same_size(wanted: int) -> None:
    """From each of 40 images it makes a share of the number, rounded: 20 images too few or too many."""
    images, rng = make_images([40 + wanted, 40], spread=1), np.random.default_rng(0)
    made = resample(BY_PATH + "ADASYN", {"n_neighbors": 5}, images, [0, wanted], rng)
    assert len(made) == wanted


@pytest.mark.parametrize(
    ("num_made", "is_taken"), [(9, False), (10, True), (20, True), (40, True), (41, False)]
)
def test_number_that_is_missed_by_more_than_rounding_is_refused(num_made: int, is_taken: bool) -> None:
    """Asked for 20 of a class of 200: at least half of them, and at most twice as many."""
    with contextlib.nullcontext() if is_taken else pytest.raises(NotApplicableError, match="asked for 20"):
        assert len(_pick("Any", 1, np.arange(num_made), 200, 20, np.random.default_rng(0))) == 20


def test_smote_agrees_with_the_library_called_by_hand() -> None:
    from imblearn.over_sampling import SMOTE

    images = make_images([20, 9])
    pixels = np.concatenate([each.reshape(len(each), -1) for each in images])
    seed = int(np.random.default_rng(3).integers(2**31))
    sampler = SMOTE(sampling_strategy={1: 20}, k_neighbors=5, random_state=seed)
    after, _ = sampler.fit_resample(pixels, np.repeat([0, 1], [20, 9]))
    made = resample(BY_PATH + "SMOTE", {"k_neighbors": 5}, images, [0, 11], np.random.default_rng(3))
    assert sorted(made.reshape(11, -1).tolist()) == sorted(after[29:].tolist())


def test_nothing_to_fill_calls_no_sampler() -> None:
    made = resample("no.such.Sampler", {}, make_images([3, 3]), [0, 0], np.random.default_rng(0))
    assert made.shape == (0, 1, 2, 2)


def test_class_with_too_few_images_is_told_and_fewer_neighbours_serve_it() -> None:
    with pytest.raises(
        ValueError,
        match=r"SMOTE is not applicable to classes of 4 to 20 images: .*n_neighbors.*; the smallest class to "
        r"fill has 4 images, so set k_neighbors to at most 3$",
    ):
        make("smote", [20, 4])
    assert len(make("smote", [20, 4], k_neighbors=3)) == 16


@pytest.mark.parametrize("name", ["smote", "deep_smote"])
def test_class_of_one_image_is_told_that_nothing_lies_between(name: str) -> None:
    with pytest.raises(ValueError, match=r"a single image, and interpolation needs two: take oversample"):
        make(name, [20, 1], k_neighbors=1)


def test_class_that_has_no_others_near_is_told() -> None:
    """ADASYN makes images where other classes are near; Borderline-SMOTE returns the class as it was."""
    images = make_images([30, 10], spread=0.01)
    for sampler, parameters in (("ADASYN", {"n_neighbors": 5}), ("BorderlineSMOTE", {"m_neighbors": 5})):
        with pytest.raises(ValueError, match=f"{sampler} is not applicable"):
            resample(BY_PATH + sampler, parameters, images, [0, 20], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (BY_PATH + "NoSuch", "; it has ADASYN, "),
        ("imblearn.no_such.SMOTE", "; it has ADASYN, "),
        ("imblearn.under_sampling.RandomUnderSampler", "; it has ADASYN, "),
        ("imblearn.combine.SMOTEENN", "; it has ADASYN, "),
        (BY_PATH + "base.BaseOverSampler", "; it has ADASYN, "),
        (BY_PATH + "_smote.base.SMOTE", "; it has ADASYN, "),
        (BY_PATH + "SMOTENC", "SMOTENC': .*categorical_features"),
    ],
)
def test_import_path_of_something_else_is_refused(name: str, rule: str) -> None:
    with pytest.raises(ValueError, match=f"named as imblearn.over_sampling.KMeansSMOTE.*{rule}"):
        get_method(name)


def test_options_of_a_sampler_by_import_path_are_its_own() -> None:
    name = BY_PATH + "SVMSMOTE"
    config = MethodConfig(name=name, draw=None, options={"m_neighbors": 7})
    assert config.label == f"{name}:m_neighbors=7" and config.options.out_step == 0.5
    with pytest.raises(ValueError, match=r"has no option 'random_state'; known: k_neighbors, "):
        MethodConfig(name=name, draw=None, options={"random_state": 1})


def test_parameter_that_is_a_word_or_a_number_takes_both() -> None:
    """No cluster has twice as many of a class as of the others; every one has 0 times as many."""
    name = BY_PATH + "KMeansSMOTE"
    for given, kept in (("auto", "auto"), (1, "1.0"), (0.05, "0.05"), ("0.050", "0.05")):
        config = MethodConfig(name=name, draw=None, options={"cluster_balance_threshold": given})
        assert config.options.cluster_balance_threshold == kept
        assert MethodConfig(name=name, draw=None, options=to_plain(config.options)) == config
    with pytest.raises(NotApplicableError, match="No clusters found with sufficient samples of class 1"):
        make(name, [60, 12], cluster_balance_threshold=2)
    assert len(make(name, [60, 12], cluster_balance_threshold=0.0)) == 48
    with pytest.raises(ValueError, match="cluster_balance_threshold"):
        MethodConfig(name=name, draw=None, options={"cluster_balance_threshold": "much"})
    for senseless in (float("nan"), float("inf"), 10**400, "nan"):
        with pytest.raises(ValueError, match="cluster_balance_threshold must be"):
            MethodConfig(name=name, draw=None, options={"cluster_balance_threshold": senseless})


def test_options_out_of_range_are_refused() -> None:
    for name, options in (
        ("smote", {"k_neighbors": 0}),
        ("borderline_smote", {"m_neighbors": 0}),
        ("borderline_smote", {"kind": "borderline-3"}),
        ("adasyn", {"n_neighbors": -1}),
        (BY_PATH + "SMOTE", {"k_neighbors": 0}),
        (BY_PATH + "KMeansSMOTE", {"cluster_balance_threshold": "high"}),
    ):
        with pytest.raises(
            ValueError, match=r"must be above 0|unknown kind of Borderline-SMOTE|parameter of \w+ must be"
        ):
            MethodConfig(name=name, draw=None, options=options)


@pytest.mark.parametrize(
    "made",
    [
        np.zeros((1, 1, 2, 2), np.float64),
        np.zeros((2, 1, 2, 2), np.float32),
        np.full((1, 1, 2, 2), 1.1, np.float32),
        np.full((1, 1, 2, 2), np.nan, np.float32),
        None,
    ],
)
def test_images_that_are_none_are_refused(made: object) -> None:
    with pytest.raises(WrongReturnError, match="synthesize must return synthetic_SCHW"):
        synthesize_checked(lambda *_: made, make_images([2, 1]), [0, 1], np.random.default_rng(0), None)
