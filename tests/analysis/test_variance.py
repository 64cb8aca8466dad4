"""Variance components: hand-computed tables, mixed models, planted truth, coverage, degenerate tables."""

import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from statsmodels.formula.api import mixedlm

from analysis import variance
from analysis.estimates import Interval
from analysis.variance import Component, nested_components, seed_components
from tests.analysis.simulation import is_share_of

SEED_SD, RESIDUAL_SD = 0.8, 0.5
SUBSET_SD, GENERATOR_SD, CLASSIFIER_SD = 0.8, 0.5, 0.3


def _seed_table(num_seeds: int, num_methods: int, rng: np.random.Generator) -> NDArray[np.float64]:
    shared = rng.normal(0, SEED_SD, size=(num_seeds, 1))
    return np.arange(num_methods) + shared + rng.normal(0, RESIDUAL_SD, size=(num_seeds, num_methods))


def _nested_table(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    subset = rng.normal(0, SUBSET_SD, size=(shape[0], 1, 1))
    generator = rng.normal(0, GENERATOR_SD, size=(*shape[:2], 1))
    return subset + generator + rng.normal(0, CLASSIFIER_SD, size=shape)


def _covers(component: Component, truth: float) -> bool:
    return component.interval.low <= truth <= component.interval.high


def test_seed_components_by_hand() -> None:
    # Seed means 1 and 5, method means 2 and 4, residuals all ±1: mean squares 16 and 4.
    found = seed_components(np.array([[1.0, 1.0], [3.0, 7.0]]))
    assert found.residual.sd == pytest.approx(2)
    assert found.seed.sd == pytest.approx(math.sqrt((16 - 4) / 2))


def test_nested_components_by_hand() -> None:
    # Classifiers ±1 about generators, whose means are 0, 4 and 10, 14: mean squares 2, 16 and 200.
    found = nested_components(np.array([[[-1.0, 1], [3, 5]], [[9, 11], [13, 15]]]))
    assert found.classifier.sd == pytest.approx(math.sqrt(2))
    assert found.generator.sd == pytest.approx(math.sqrt((16 - 2) / 2))
    assert found.subset.sd == pytest.approx(math.sqrt((200 - 16) / 4))


def test_negative_estimates_are_zero() -> None:
    found = seed_components(np.array([[0.0, 1], [1, 0]]))
    assert found.seed.sd == 0 and found.residual.sd == pytest.approx(1)
    nested = nested_components(np.array([[[0.0, 2], [2, 0]], [[0, 2], [2, 0]]]))
    assert nested.subset.sd == nested.generator.sd == 0 and nested.classifier.sd == pytest.approx(
        math.sqrt(2)
    )


@pytest.mark.filterwarnings("ignore")
def test_seed_components_agree_with_a_mixed_model() -> None:
    values_SM = _seed_table(12, 4, np.random.default_rng(0))
    seeds, methods = np.indices(values_SM.shape)
    frame = pd.DataFrame({"y": values_SM.ravel(), "seed": seeds.ravel(), "method": methods.ravel()})
    model = mixedlm("y ~ C(method)", frame, groups="seed").fit(reml=True)
    found = seed_components(values_SM)
    assert found.seed.sd == pytest.approx(math.sqrt(model.cov_re.iloc[0, 0]), rel=1e-3)
    assert found.residual.sd == pytest.approx(math.sqrt(model.scale), rel=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_nested_components_agree_with_a_mixed_model() -> None:
    values_SGC = _nested_table((10, 3, 2), np.random.default_rng(1))
    subsets, generators, _ = np.indices(values_SGC.shape)
    frame = pd.DataFrame(
        {"y": values_SGC.ravel(), "subset": subsets.ravel(), "generator": generators.ravel()}
    )
    parts = {"generator": "0 + C(generator)"}
    model = mixedlm("y ~ 1", frame, groups="subset", re_formula="1", vc_formula=parts).fit(reml=True)
    found = nested_components(values_SGC)
    assert found.subset.sd == pytest.approx(math.sqrt(model.cov_re.iloc[0, 0]), rel=1e-2)
    assert found.generator.sd == pytest.approx(math.sqrt(model.vcomp[0]), rel=1e-2)
    assert found.classifier.sd == pytest.approx(math.sqrt(model.scale), rel=1e-2)


def test_seed_components_recover_planted_variances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variance, "NUM_RESAMPLES", 1)
    rng = np.random.default_rng(2)
    found = [seed_components(_seed_table(10, 6, rng)) for _ in range(2000)]
    assert np.mean([each.seed.sd**2 for each in found]) == pytest.approx(SEED_SD**2, rel=0.04)
    assert np.mean([each.residual.sd**2 for each in found]) == pytest.approx(RESIDUAL_SD**2, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [((5, 3, 2), 0.19, 1.28), ((10, 3, 2), 0.41, 1.14), ((8, 4, 2), 0.40, 1.18)],
)
def test_subset_component_spreads_as_the_design_table_says(
    shape: tuple[int, int, int], low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variance, "NUM_RESAMPLES", 1)
    rng = np.random.default_rng(3)
    found = [nested_components(_nested_table(shape, rng)).subset.sd for _ in range(4000)]
    assert np.quantile(found, [0.05, 0.95]) == pytest.approx([low, high], abs=0.06)


@pytest.mark.parametrize(
    ("num_seeds", "seed_coverage", "residual_coverage"),
    [(10, 0.76, 0.87), (20, 0.85, 0.875), (40, 0.875, 0.89)],
)
def test_intervals_of_seeds_cover_as_documented(
    num_seeds: int, seed_coverage: float, residual_coverage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variance, "NUM_RESAMPLES", 500)
    rng = np.random.default_rng(num_seeds)
    found = [seed_components(_seed_table(num_seeds, 6, rng), rng_seed=index) for index in range(500)]
    assert is_share_of([_covers(each.seed, SEED_SD) for each in found], seed_coverage)
    assert is_share_of([_covers(each.residual, RESIDUAL_SD) for each in found], residual_coverage)


def test_intervals_of_a_nested_design_cover_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variance, "NUM_RESAMPLES", 500)
    rng = np.random.default_rng(4)
    found = [nested_components(_nested_table((10, 3, 2), rng), rng_seed=index) for index in range(500)]
    assert is_share_of([_covers(each.subset, SUBSET_SD) for each in found], 0.73)
    assert is_share_of([_covers(each.generator, GENERATOR_SD) for each in found], 0.83)
    assert is_share_of([_covers(each.classifier, CLASSIFIER_SD) for each in found], 0.85)


def test_components_know_neither_order_nor_constants() -> None:
    values_SM = _seed_table(9, 4, np.random.default_rng(5))
    found = seed_components(values_SM)
    for changed in (values_SM[::-1], values_SM[:, ::-1], values_SM + 3, values_SM + np.arange(4)):
        other = seed_components(changed)
        assert other.seed.sd == pytest.approx(found.seed.sd)
        assert other.seed.interval == pytest.approx(found.seed.interval)
        assert other.residual.interval == pytest.approx(found.residual.interval)
    assert seed_components(10 * values_SM).seed.interval == pytest.approx(10 * np.array(found.seed.interval))


def test_intervals_depend_on_their_seed_alone() -> None:
    values_SGC = _nested_table((8, 3, 2), np.random.default_rng(6))
    assert nested_components(values_SGC, rng_seed=1) == nested_components(values_SGC[::-1], rng_seed=1)
    assert nested_components(values_SGC, rng_seed=1) != nested_components(values_SGC, rng_seed=2)


def test_few_seeds_give_an_estimate_without_interval() -> None:
    values_SM = _seed_table(variance.MIN_RESAMPLED, 3, np.random.default_rng(7))
    few, enough = seed_components(values_SM[:-1]), seed_components(values_SM)
    assert few.residual.sd > 0 and all(map(math.isnan, few.residual.interval))
    assert enough.residual.interval.low <= enough.residual.sd


def test_equal_values_have_components_of_zero() -> None:
    found = seed_components(np.full((6, 3), 0.5))
    assert found.seed == found.residual == Component(sd=0, interval=Interval(0, 0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "shape", [(0, 3), (1, 3), (6, 1), (6, 0), (0, 3, 2), (1, 3, 2), (6, 1, 2), (6, 3, 1)]
)
def test_components_of_too_small_a_table_are_nan(shape: tuple[int, ...]) -> None:
    values = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    found = seed_components(values) if len(shape) == 2 else nested_components(values)
    for component in vars(found).values():
        assert math.isnan(component.sd) and all(map(math.isnan, component.interval))


@pytest.mark.filterwarnings("error")
def test_components_of_an_incomplete_table_are_nan() -> None:
    values_SM = _seed_table(8, 3, np.random.default_rng(8))
    values_SM[2, 1] = math.nan
    assert math.isnan(seed_components(values_SM).seed.sd)
