"""Checks of generators as samplers of imbalanced-learn: its own contract, pixels, features, and pipelines."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from imblearn.utils.estimator_checks import parametrize_with_checks
from scipy.sparse import csc_array, csc_matrix, csr_array, csr_matrix
from sklearn.utils._param_validation import InvalidParameterError

import lt_rebalance
from lt_rebalance.generation.samplers.cgan import CGANSampler
from lt_rebalance.generation.samplers.cvae import CVAESampler
from lt_rebalance.generation.samplers.generator import GeneratorSampler
from lt_rebalance.networks.generators.registry import GENERATORS

ROOT = Path(__file__).parents[2]
LABELS = np.repeat(["a", "b", "c"], [20, 9, 3])


SAMPLERS = [CGANSampler, CVAESampler]


def make_rows(features: int = 16) -> np.ndarray:
    """Return rows whose mean tells their class."""
    rng = np.random.default_rng(0)
    return rng.normal(np.repeat([0.0, 4.0, 8.0], [20, 9, 3])[:, None], 0.5, (32, features))


@pytest.mark.filterwarnings("ignore:Passing a non-Collection")
@parametrize_with_checks([CGANSampler(steps=2, random_state=0), CVAESampler(steps=2, random_state=0)])
def test_contract_of_imbalanced_learn(estimator: GeneratorSampler, check: Any) -> None:
    check(estimator)


def test_package_offers_them_from_its_root() -> None:
    assert lt_rebalance.CGANSampler is CGANSampler and lt_rebalance.CVAESampler is CVAESampler


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_classes_are_filled_behind_the_rows_that_are_given(sampler: type[GeneratorSampler]) -> None:
    rows = make_rows()
    found, labels = sampler(steps=2, random_state=0).fit_resample(rows, LABELS)
    assert np.array_equal(found[:32], rows) and labels[:32].tolist() == LABELS.tolist()
    assert labels[32:].tolist() == ["b"] * 11 + ["c"] * 17


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", [csr_matrix, csc_matrix, csr_array, csc_array])
def test_sparse_rows_come_back_as_their_class(sampler: type[GeneratorSampler], kind: type) -> None:
    """A matrix multiplies as matrices do, an array element by element."""
    found, _ = sampler(steps=2, random_state=0).fit_resample(kind(make_rows()), LABELS)
    assert type(found) is kind and found.shape == (60, 16)


@pytest.mark.parametrize("shape", [(1.0, 4.0, 4.0), ("1", "4", "4"), (-1, -4, 4), (4, 4), (1, 4, 5)])
def test_shape_that_is_none_of_images_is_refused(shape: tuple[Any, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"image_shape must be whole numbers \(C, H, W\) with a product of 16"
    ):
        CGANSampler(steps=2, image_shape=shape).fit_resample(make_rows(), LABELS)


def test_docstring_says_which_generators_need_images() -> None:
    text = (CGANSampler.__doc__ or "").partition("architecture: ")[2].partition("steps: ")[0]
    without_discriminator, needs_images = (re.findall(r'"(\w+)"', part) for part in text.split(";"))
    refused = {}
    for name in GENERATORS:
        try:
            CGANSampler(architecture=name, steps=1, random_state=0).fit_resample(make_rows(), LABELS)
        except ValueError as error:
            refused[name] = str(error)
    assert sorted(refused) == sorted([*without_discriminator, *needs_images])
    assert all("at least 2 x 2" in refused[name] for name in needs_images)


def test_asked_for_counts_are_met() -> None:
    sampler = CGANSampler(sampling_strategy={"c": 5}, steps=2, random_state=0)
    _, labels = sampler.fit_resample(make_rows(), LABELS)
    assert labels[32:].tolist() == ["c", "c"]


def test_balanced_rows_come_back_as_they_are() -> None:
    rows = make_rows()[:4]
    found, labels = CGANSampler(steps=2).fit_resample(rows, ["a", "a", "b", "b"])
    assert np.array_equal(found, rows) and list(labels) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_equal_states_agree_and_others_differ(sampler: type[GeneratorSampler]) -> None:
    rows = make_rows()
    first, same, other = (
        sampler(steps=3, random_state=state).fit_resample(rows, LABELS)[0] for state in (1, 1, 2)
    )
    assert np.array_equal(first, same) and not np.array_equal(first, other)


@pytest.mark.slow
def test_what_is_made_follows_its_class() -> None:
    """Classes are 8 standard deviations apart; half of that distance tells a row from the next class."""
    rows = make_rows()
    found, labels = CGANSampler(steps=600, random_state=0, learning_rate=1e-3).fit_resample(rows, LABELS)
    made = pd.Series(found[32:].mean(axis=1)).groupby(labels[32:]).mean()
    assert made["b"] == pytest.approx(4.0, abs=1.5) and made["c"] > made["b"] + 1


@pytest.mark.slow
def test_what_an_autoencoder_makes_follows_its_class() -> None:
    rows = make_rows()
    found, labels = CVAESampler(steps=300, random_state=0).fit_resample(rows, LABELS)
    made = pd.Series(found[32:].mean(axis=1)).groupby(labels[32:]).mean()
    assert made["b"] == pytest.approx(4.0, abs=1) and made["c"] == pytest.approx(8.0, abs=1)


@pytest.mark.slow
def test_codes_of_less_weight_make_rows_of_a_class_differ_more() -> None:
    rows = make_rows(4)
    spreads = []
    for kl_weight in (1.0, 0.001):
        sampler = CVAESampler(steps=300, random_state=0, kl_weight=kl_weight)
        found, labels = sampler.fit_resample(rows, LABELS)
        spreads.append(found[32:][labels[32:] == "b"].std(axis=0).mean())
    assert spreads[1] > 1.3 * spreads[0]


def test_pixels_stay_bytes_within_their_range_and_features_within_their_own() -> None:
    pixels = np.random.default_rng(0).integers(10, 201, (32, 16), dtype=np.uint8)
    for sampler in SAMPLERS:
        found, _ = sampler(steps=2, random_state=0, image_shape=(1, 4, 4)).fit_resample(pixels, LABELS)
    assert found.dtype == np.uint8 and found.min() >= pixels.min() and found.max() <= pixels.max()
    rows = make_rows(3) * [1, 100, 0]
    found, _ = CGANSampler(steps=2, random_state=0).fit_resample(rows, LABELS)
    assert (found.min(axis=0) >= rows.min(axis=0)).all() and (found.max(axis=0) <= rows.max(axis=0)).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_frames_stay_frames(sampler: type[GeneratorSampler]) -> None:
    frame = pd.DataFrame(make_rows(2), columns=["length", "width"])
    found, labels = sampler(steps=2, random_state=0).fit_resample(frame, pd.Series(LABELS, name="kind"))
    assert list(found.columns) == ["length", "width"] and len(found) == 60 and labels.name == "kind"


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_columns_of_whole_numbers_and_truth_values_stay_so(sampler: type[GeneratorSampler]) -> None:
    """Values are rounded before they lose their digits: a value below a half is not true."""
    rng = np.random.default_rng(0)
    rare = rng.random(32) < 0.2
    frame = pd.DataFrame({"length": rng.random(32), "is_rare": rare, "legs": rng.integers(2, 9, 32)})
    made = sampler(steps=20, random_state=0).fit_resample(frame, LABELS)[0][32:]
    assert made.dtypes.tolist() == frame.dtypes.tolist()
    alone, _ = sampler(steps=20, random_state=0).fit_resample(frame.astype(float), LABELS)
    assert (made["is_rare"] == (alone["is_rare"][32:] > 0.5)).all()
    assert (made["legs"] == alone["legs"][32:].round()).all()
    bits = frame[["is_rare"]].to_numpy()
    found, _ = sampler(steps=20, random_state=0).fit_resample(bits, LABELS)
    assert found.dtype == bool and not found[32:].all()


def test_beta1_may_be_a_whole_number() -> None:
    made, _ = CGANSampler(steps=2, beta1=0, random_state=0).fit_resample(make_rows(), LABELS)
    assert len(made) == 60


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"image_shape": (1, 4, 5)}, ValueError, r"product of 16, the features of a row, got \(1, 4, 5\)"),
        ({"image_shape": (16,)}, ValueError, r"image_shape must be whole numbers \(C, H, W\)"),
        ({"steps": 0}, InvalidParameterError, "'steps' parameter"),
        ({"learning_rate": 0.0}, InvalidParameterError, "'learning_rate' parameter"),
        ({"architecture": "vae"}, InvalidParameterError, "'architecture' parameter"),
        ({"architecture": "cvae"}, InvalidParameterError, "'architecture' parameter"),
    ],
)
def test_wrong_setting_is_refused(changes: dict[str, Any], error: type[Exception], said: str) -> None:
    sampler = CGANSampler(**{"steps": 2, "random_state": 0, **changes})
    with pytest.raises(error, match=said):
        sampler.fit_resample(make_rows(), LABELS)


def test_autoencoder_takes_no_weight_below_0() -> None:
    with pytest.raises(InvalidParameterError, match="'kl_weight' parameter"):
        CVAESampler(steps=2, kl_weight=-1.0).fit_resample(make_rows(), LABELS)


@pytest.mark.parametrize("made_by", SAMPLERS)
def test_divergence_is_told(made_by: type[GeneratorSampler]) -> None:
    sampler = made_by(steps=30, random_state=0, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"diverged at a learning rate of 1e\+30; give it a smaller one"):
        sampler.fit_resample(make_rows(), LABELS)


@pytest.mark.slow
def test_example_runs_in_a_pipeline_under_cross_validation() -> None:
    done = subprocess.run(
        [sys.executable, "examples/oversample_digits.py", "20"],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = [line.partition(":")[0] for line in lines]
    assert names == ["as it is", "filled by a CGAN", "filled by a CVAE"]
    assert all(0 < float(line.split()[-6]) <= 1 for line in lines), lines
