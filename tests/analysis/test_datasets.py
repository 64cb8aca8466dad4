"""Ranks over data sets: a data set is a block, whatever it was run at."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.datasets import datasets_frame, friedman_p
from analysis.tables.datasets import datasets_table
from tests.analysis.simulation import is_share_at_most

MEANS = {"none": 0.6, "oversample": 0.7, "focal": 0.8}


def make_runs(num_datasets: int, cs: tuple[str, ...] = ("7/9", "1/2"), seeds: int = 3) -> pd.DataFrame:
    """Return runs in which data sets differ far more than methods do."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            **{"protocol": "sound", "loss_function": "cross_entropy", "budget": "100 steps"},
            **{"dataset": f"set{dataset}", "setting": f"set{dataset}, sound", "data": c, "method": method},
            **{"seed": seed, "state": "complete"},
            "macro_f1": mean - 0.05 * dataset - 0.1 * cs.index(c) + rng.normal(0, 0.005),
        }
        for dataset in range(num_datasets)
        for c in cs
        for method, mean in MEANS.items()
        for seed in range(seeds)
    )


def test_a_data_set_counts_once_however_many_cs_and_seeds_it_has() -> None:
    for runs in (make_runs(7), make_runs(7, cs=("1/2",), seeds=1)):
        frame = datasets_frame(runs).set_index("method")
        assert set(frame["num_datasets"]) == {7} and list(frame.index) == ["focal", "oversample", "none"]
        # With 7 blocks the smallest p is 2 / 2^7, so all three methods are distinguished.
        assert list(zip(frame["rank_low"], frame["rank_high"], strict=True)) == [(1, 1), (2, 2), (3, 3)]
        assert list(frame["mean_rank"]) == [1, 2, 3]
    frame = datasets_frame(make_runs(7)).set_index("method")
    assert frame.loc["none", "mean"] == pytest.approx(0.6 - 0.05 * 3 - 0.05, abs=0.003)


def test_few_data_sets_describe_and_test_nothing() -> None:
    frame = datasets_frame(make_runs(4))
    assert set(frame["rank_low"]) == {1} and set(frame["rank_high"]) == {3}
    assert frame["friedman_p"].isna().all()
    assert "Fewer than 5 data sets are described, not tested." in datasets_table(frame).meaning
    assert "takes 6 data sets" in datasets_table(datasets_frame(make_runs(5))).meaning
    assert datasets_frame(make_runs(1)).empty


def test_method_that_lacks_a_run_anywhere_is_left_out_and_counted() -> None:
    runs = make_runs(6)
    runs.loc[runs.index[-1], "state"] = "failed"
    frame = datasets_frame(runs)
    assert list(frame["method"]) == ["oversample", "none"] and set(frame["num_left_out"]) == {1}
    said = "Left out, because not complete on every data set: 1 method."
    assert said in datasets_table(frame).meaning
    some = datasets_frame(
        make_runs(6).query("not (method == 'none' and dataset == 'set0' and data == '1/2')")
    )
    assert list(some["method"]) == ["focal", "oversample"]
    planned = make_runs(6).query("not (method == 'none' and dataset == 'set0')")
    assert said in datasets_table(datasets_frame(planned)).meaning


def test_names_of_the_protocol_do_not_divide_data_sets() -> None:
    runs = make_runs(4)
    runs.loc[runs["dataset"] == "set1", "protocol"] = "sound+classifier.budget.steps=100"
    assert set(datasets_frame(runs)["num_datasets"]) == {4}
    runs.loc[runs["dataset"] == "set1", "protocol"] = "sound+classifier.beta1=0.99"
    assert set(datasets_frame(runs)["num_datasets"]) == {3}


def test_methods_with_one_mean_share_the_lead() -> None:
    runs = make_runs(4).assign(macro_f1=0.5)
    assert "none, oversample and focal share the best mean." in datasets_table(datasets_frame(runs)).meaning


def test_friedmans_p_is_near_the_chi_square_of_many_data_sets_and_rare_under_the_null() -> None:
    rng = np.random.default_rng(1)
    values_DM = rng.normal(size=(40, 4)) + np.array([0, 0, 0.1, 0.45])
    ranks_DM = stats.rankdata(values_DM, axis=1)
    expected = stats.friedmanchisquare(*values_DM.T).pvalue
    assert friedman_p(ranks_DM) == pytest.approx(expected, abs=0.02)
    found = [friedman_p(stats.rankdata(rng.normal(size=(6, 5)), axis=1)) <= 0.05 for _ in range(60)]
    assert is_share_at_most(found, 0.05)
