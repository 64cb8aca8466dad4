"""Stores of invented records that several tests read."""

import pytest

from analysis.collect import Results, read_results
from tests.analysis.synthetic import Truth, make_store, plan_study

ACCURACY = {
    "none": 0.79,
    "undersample": 0.72,
    "oversample": 0.82,
    "mlp_cgan_relu": 0.80,
    "small_mlp_cgan_leaky": 0.80,
    "mlp_cgan_leaky": 0.76,
    "big_mlp_cgan_leaky": 0.74,
}
"""expected accuracy of each method at every C"""


@pytest.fixture(scope="session")
def grid_truth() -> Truth:
    """Known effects; method none collapses half of the time at C = 1/2."""
    return Truth(
        accuracy=lambda run: ACCURACY[run.cell.method_label],
        collapse_rate=lambda run: 0.5 * (run.cell.method_label == "none" and run.cell.data.label == "1/2"),
        num_rounds=12,
    )


@pytest.fixture(scope="session")
def grid_results(tmp_path_factory: pytest.TempPathFactory, grid_truth: Truth) -> Results:
    """The paper's 15 rows at 10 seeds, protocol sound."""
    store = make_store(tmp_path_factory.mktemp("grid") / "store", plan_study(), grid_truth)
    return read_results(store.location)
