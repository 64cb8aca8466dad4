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
NESTED_SDS = {"subset": 0.8, "generator": 0.5, "classifier": 0.3, "residual": 0.2}


def _seed_table(num_seeds: int, num_methods: int, rng: np.random.Generator) -> NDArray[np.float64]:
    shared = rng.normal(0, SEED_SD, size=(num_seeds, 1))
    return np.arange(num_methods) + shared + rng.normal(0, RESIDUAL_SD, size=(num_seeds, num_methods))


def _nested_table(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    num_subsets, num_generators, num_classifiers = shape
    sizes = {
        "subset": (num_subsets, 1, 1),
        "generator": (num_subsets, num_generators, 1),
        "classifier": (num_subsets, 1, num_classifiers),
        "residual": shape,
    }
    return np.zeros(shape) + sum(rng.normal(0, NESTED_SDS[name], size=size) for name, size in sizes.items())


def _covers(component: Component, truth: float) -> bool:
    return component.interval.low <= truth <= component.interval.high


def test_seed_components_by_hand() -> None:
    # Seed means 1 and 5, method means 2 and 4, residuals all ±1: mean squares 16 and 4.
    found = seed_components(np.array([[1.0, 1.0], [3.0, 7.0]]))
    assert found.residual.sd == pytest.approx(2)
    assert found.seed.sd == pytest.approx(math.sqrt((16 - 4) / 2))


def test_nested_components_by_hand() -> None:
    # Both subsets: generators ±6, classifiers ±2, residuals ±1 about their means, 0 and 20. The variances of
    # means are 72 of generators, 8 of classifiers, 200 of subsets; residuals have a mean square of 4.
    effects_GC = np.array([[-6 - 2 + 1.0, -6 + 2 - 1], [6 - 2 - 1, 6 + 2 + 1]])
    found = nested_components(np.stack([effects_GC, 20 + effects_GC]))
    assert found.residual.sd == pytest.approx(2)
    assert found.generator.sd == pytest.approx(math.sqrt(72 - 4 / 2))
    assert found.classifier.sd == pytest.approx(math.sqrt(8 - 4 / 2))
    assert found.subset.sd == pytest.approx(math.sqrt(200 - 72 / 2 - 8 / 2 + 4 / 4))


def test_negative_estimates_are_zero() -> None:
    found = seed_components(np.array([[0.0, 1], [1, 0]]))
    assert found.seed.sd == 0 and found.residual.sd == pytest.approx(1)
    nested = nested_components(np.array([[[0.0, 2], [2, 0]], [[0, 2], [2, 0]]]))
    assert nested.subset.sd == nested.generator.sd == nested.classifier.sd == 0
    assert nested.residual.sd == pytest.approx(2)


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
    names = ("subset", "generator", "classifier")
    indices = dict(zip(names, (index.ravel() for index in np.indices(values_SGC.shape)), strict=True))
    frame = pd.DataFrame({"y": values_SGC.ravel()} | indices)
    parts = {"generator": "0 + C(generator)", "classifier": "0 + C(classifier)"}
    model = mixedlm("y ~ 1", frame, groups="subset", re_formula="1", vc_formula=parts).fit(reml=True)
    found = nested_components(values_SGC)
    assert found.subset.sd == pytest.approx(math.sqrt(model.cov_re.iloc[0, 0]), rel=1e-2)
    by_name = dict(zip(sorted(parts), model.vcomp, strict=True))
    assert found.generator.sd == pytest.approx(math.sqrt(by_name["generator"]), rel=1e-2)
    assert found.classifier.sd == pytest.approx(math.sqrt(by_name["classifier"]), rel=1e-2)
    assert found.residual.sd == pytest.approx(math.sqrt(model.scale), rel=1e-2)


def test_seed_components_recover_planted_variances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variance, "NUM_RESAMPLES", 1)
    rng = np.random.default_rng(2)
    found = [seed_components(_seed_table(10, 6, rng)) for _ in range(2000)]
    assert np.mean([each.seed.sd**2 for each in found]) == pytest.approx(SEED_SD**2, rel=0.04)
    assert np.mean([each.residual.sd**2 for each in found]) == pytest.approx(RESIDUAL_SD**2, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [((5, 3, 2), 0.0, 1.30), ((10, 3, 2), 0.38, 1.16), ((8, 4, 2), 0.34, 1.18)],
)
def test_subset_component_of_few_subsets_spreads_widely(
    shape: tuple[int, int, int], low: float, high: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variance, "NUM_RESAMPLES", 1)
    rng = np.random.default_rng(3)
    found = [nested_components(_nested_table(shape, rng)) for _ in range(2000)]
    subset_sds = [each.subset.sd for each in found]
    assert np.quantile(subset_sds, [0.05, 0.95]) == pytest.approx([low, high], abs=0.06)
    # Truncation at 0 lifts the mean of the subset's variance where subsets are few.
    for name in ("generator", "classifier", "residual"):
        mean = np.mean([getattr(each, name).sd ** 2 for each in found])
        assert mean == pytest.approx(NESTED_SDS[name] ** 2, rel=0.08)


@pytest.mark.slow
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


@pytest.mark.slow
def test_intervals_of_a_nested_design_cover_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variance, "NUM_RESAMPLES", 500)
    rng = np.random.default_rng(4)
    found = [nested_components(_nested_table((10, 3, 2), rng), rng_seed=index) for index in range(500)]
    coverage = {"subset": 0.79, "generator": 0.83, "classifier": 0.77, "residual": 0.8}
    for name, share in coverage.items():
        assert is_share_of([_covers(getattr(each, name), NESTED_SDS[name]) for each in found], share)


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
