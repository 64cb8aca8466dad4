"""Contrasts: pairing, families, corrections, verdicts; recovered truth and metamorphic checks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.ablations import compare_with_references
from analysis.aggregate import aggregate
from analysis.collect import Results, read_results
from analysis.compare import (
    EXPLORATORY,
    MARGIN,
    MIN_PAIRS,
    compare,
    compare_collapse,
    components_table,
    decide,
    describe_difference,
    load_families,
    margin_of,
    pair,
    power_table,
    read_families,
)
from analysis.leading import name_metrics
from analysis.significance import sign_flip_p, tost_p
from analysis.sources import sources_table
from analysis.tables.differences import power
from tests.analysis.conftest import ACCURACY
from tests.analysis.simulation import is_share_at_most
from tests.analysis.synthetic import Truth, make_store, plan_study


@pytest.fixture(scope="module")
def contrasts(grid_results: Results) -> pd.DataFrame:
    return compare(grid_results.runs)


def cell_of(results: Results, data: str, method: str) -> str:
    cells = results.cells
    return str(cells[(cells["data"] == data) & (cells["method"] == method)]["cell"].iloc[0])


def test_pair_joins_by_seed_and_keeps_only_seeds_complete_in_both(grid_results: Results) -> None:
    runs = grid_results.runs.copy()
    first, second = (cell_of(grid_results, "7/9", method) for method in ("oversample", "none"))
    runs.loc[(runs["cell"] == first) & (runs["seed"] == 3), "state"] = "missing"
    paired = pair(runs.sample(frac=1, random_state=1), first, second, "accuracy")
    assert list(paired.index) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    by_seed = runs.set_index(["cell", "seed"])["accuracy"]
    for seed in paired.index:
        assert paired.loc[seed, "difference"] == by_seed[first, seed] - by_seed[second, seed]


def test_every_pair_of_methods_of_a_block_is_one_contrast(contrasts: pd.DataFrame) -> None:
    assert len(contrasts) == 2 * 7 * 6 // 2
    assert (contrasts["n_pairs"] == 10).all() and (contrasts["n_expected"] == 10).all()
    row = contrasts.query("data == '1/2' and comparator == 'oversample'").iloc[0]
    assert row["method"] == "mlp_cgan_relu"


def test_the_declared_family_is_the_24_contrasts_of_h1_to_h3(contrasts: pd.DataFrame) -> None:
    (family,) = load_families()
    assert family.size == 24 and family.hypotheses == ("H1", "H2", "H3")
    declared = contrasts[contrasts["family"] == family.name]
    assert len(declared) == 24
    assert declared["holm_p"].notna().all() and declared["bh_q"].isna().all()
    explored = contrasts[contrasts["family"] == EXPLORATORY]
    assert explored["holm_p"].isna().all() and explored["bh_q"].notna().all()


DECLARED = """
[[family]]
name = "mine"
hypotheses = ["H1"]
metric = "accuracy"
data = ["1/2"]
methods = ["oversample"]
comparators = ["none"]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"accuracy"', '"nll"', r"must be one that leads a report \(accuracy or macro_f1\).*got 'nll'"),
        ('"accuracy"', '"acuracy"', "unknown metric 'acuracy'; known: accuracy"),
        ('["none"]', '"none"', "comparators of a family in families.toml is a list of texts, got 'none'"),
        ('["none"]', '["mlp_cgan_relu"]', "'oversample' minus 'mlp_cgan_relu' in family 'mine'.*; exchange"),
        ('["none"]', '["oversample"]', "'oversample' minus 'oversample'"),
        ("data =", "datas =", "a family in families.toml has the fields name, metric.*datas"),
    ],
)
def test_family_that_no_report_would_test_is_refused(old: str, new: str, said: str) -> None:
    assert read_families(DECLARED)[0].comparators == ("none",)
    with pytest.raises(ValueError, match=said):
        read_families(DECLARED.replace(old, new))


def test_unknown_metric_and_cell_are_refused_with_the_known_ones(grid_results: Results) -> None:
    runs, said = grid_results.runs, "unknown metric 'nope'; known: .*accuracy, .*recall_tail"
    first = str(runs["cell"].iloc[0])
    calls: list[Callable[[], object]] = [
        lambda: compare(runs, "nope"),
        lambda: pair(runs, first, first, "nope"),
        lambda: components_table(runs, "nope"),
        lambda: compare_with_references(runs, grid_results.comparisons, "nope"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=said):
            call()
    for call in (
        lambda: margin_of("nope"),
        lambda: aggregate(runs, ["nope"]),
        lambda: name_metrics(["nope"]),
    ):
        with pytest.raises(ValueError, match="unknown metric 'nope'; known: accuracy, "):
            call()
    with pytest.raises(ValueError, match="unknown metric 'nope'"):
        sources_table(runs.assign(subset_seed=0), "nope")
    with pytest.raises(ValueError, match="unknown cell 'nope'"):
        pair(runs, first, "nope", "accuracy")


def test_corrections_equal_statsmodels(contrasts: pd.DataFrame) -> None:
    declared = contrasts[contrasts["family"] != EXPLORATORY]
    expected = multipletests(declared["sign_flip_p"], method="holm")[1]
    assert declared["holm_p"].to_numpy() == pytest.approx(expected)
    explored = contrasts[contrasts["family"] == EXPLORATORY]
    expected = multipletests(explored["sign_flip_p"], method="fdr_bh")[1]
    assert explored["bh_q"].to_numpy() == pytest.approx(expected)


def test_holm_counts_declared_contrasts_that_were_not_run(grid_results: Results) -> None:
    runs = grid_results.runs
    few = compare(runs[runs["method"].isin(["none", "mlp_cgan_relu"]) & (runs["data"] == "7/9")])
    assert len(few) == 1
    assert few["holm_p"].iloc[0] == pytest.approx(min(1.0, 24 * few["sign_flip_p"].iloc[0]))


def test_planted_differences_are_recovered(contrasts: pd.DataFrame) -> None:
    mild = contrasts[contrasts["data"] == "7/9"]
    for row in mild.to_dict("records"):
        truth = ACCURACY[row["method"]] - ACCURACY[row["comparator"]]
        assert row["mean_difference"] == pytest.approx(truth, abs=0.006)
        if abs(truth) >= 0.02:
            assert row["verdict"] == ("better" if truth > 0 else "worse")
    same = mild.query("method == 'small_mlp_cgan_leaky' and comparator == 'mlp_cgan_relu'").iloc[0]
    assert same["verdict"] in ("equivalent", "undecided")


def test_equal_numbers_are_equivalent_from_six_pairs_on(grid_results: Results) -> None:
    runs = grid_results.runs.assign(accuracy=0.8 + grid_results.runs["seed"] / 100)
    for num_seeds, verdict in ((10, "equivalent"), (5, "undecided"), (1, "undecided")):
        found = compare(runs[runs["seed"] < num_seeds])
        assert set(found["verdict"]) == {verdict}
    apart = runs.assign(accuracy=runs["accuracy"] + MARGIN * (runs["method"] == "oversample"))
    found = compare(apart).query("method == 'oversample' and comparator == 'none'")
    assert set(found["verdict"]) <= {"better", "undecided"}  # by the margin, and so not within it


def test_describe_difference_equals_scipy_by_hand() -> None:
    first = np.array([0.9, 0.8, 0.85, 0.7, 0.95, 0.75, 0.8])
    second = np.array([0.85, 0.7, 0.86, 0.6, 0.9, 0.7, 0.72])
    d = first - second
    row = describe_difference(pd.DataFrame({"first": first, "second": second, "difference": d}), margin=0.01)
    assert row["t_p"] == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert row["r"] == pytest.approx(np.corrcoef(first, second)[0, 1])
    exact = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert row["sign_flip_p"] == pytest.approx(exact.pvalue)
    assert row["better_share"] == pytest.approx(6 / 7)
    assert row["p_below"] + row["p_inside"] + row["p_above"] == pytest.approx(1)
    g_av = d.mean() / ((first.std(ddof=1) + second.std(ddof=1)) / 2) * (1 - 3 / (8 * 7 - 9))
    assert row["g_av"] == pytest.approx(g_av)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pairs_give_no_verdict(n: int) -> None:
    values = np.array([0.5, 0.7])[:n]
    frame = pd.DataFrame({"first": values, "second": values - 0.1, "difference": np.full(n, 0.1)})
    row = describe_difference(frame)
    assert row["n_pairs"] == n and not row["sign_flip_p"] < 0.05


def test_below_six_seeds_nothing_is_called_better(tmp_path: Path) -> None:
    plan = plan_study(methods=("none", "oversample"), generators=(), num_seeds=5)
    truth = Truth(accuracy=lambda run: 0.5 if run.cell.method_label == "none" else 0.9)
    runs = read_results(make_store(tmp_path, plan, truth).location).runs
    assert set(compare(runs)["verdict"]) == {"undecided"}


@pytest.mark.slow
def test_negating_mirrors_and_shifting_and_order_change_nothing(grid_results: Results) -> None:
    runs = grid_results.runs
    base = compare(runs)
    negated = compare(runs.assign(accuracy=-runs["accuracy"]))
    shifted = compare(runs.assign(accuracy=runs["accuracy"] + 5).sample(frac=1, random_state=2))
    assert negated["mean_difference"].to_numpy() == pytest.approx(-base["mean_difference"].to_numpy())
    assert negated["sign_flip_p"].to_numpy() == pytest.approx(base["sign_flip_p"].to_numpy())
    mirror = {"better": "worse", "worse": "better"}
    assert [mirror.get(verdict, verdict) for verdict in negated["verdict"]] == list(base["verdict"])
    keys = ["data", "method", "comparator"]
    merged = base.merge(shifted, on=keys, suffixes=("", "_shifted"))
    assert len(merged) == len(base)
    for column in ("mean_difference", "sign_flip_p", "tost_p", "p_inside"):
        assert merged[f"{column}_shifted"].to_numpy() == pytest.approx(merged[column].to_numpy(), abs=1e-9)


def test_for_a_loss_lower_is_better(grid_results: Results) -> None:
    by_accuracy = compare(grid_results.runs).query("data == '7/9'").set_index(["method", "comparator"])
    by_loss = compare(grid_results.runs, "loss").query("data == '7/9'").set_index(["method", "comparator"])
    pair_of = ("mlp_cgan_leaky", "undersample")
    assert by_accuracy.loc[pair_of, "verdict"] == "better" == by_loss.loc[pair_of, "verdict"]
    assert set(by_loss["family"]) == {EXPLORATORY}


@pytest.mark.slow
def test_method_labels_permuted_within_blocks_give_uniform_p(tmp_path: Path) -> None:
    """Without an effect, the p values from runs to table are uniform, except for their discreteness."""
    plan = plan_study(methods=("none", "oversample"), generators=(), cs=("1/2",), num_seeds=12)
    runs = read_results(make_store(tmp_path, plan).location).runs
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(300):
        noise = runs.assign(accuracy=rng.normal(0.8, 0.01, len(runs)))
        p_values.append(compare(noise)["sign_flip_p"].iloc[0])
    assert stats.kstest(p_values, "uniform").pvalue > 0.001
    assert np.mean(np.array(p_values) < 0.05) <= stats.binom.ppf(0.999, 300, 0.05) / 300


def test_compare_collapse_is_fisher_against_none(grid_results: Results) -> None:
    table = compare_collapse(grid_results.runs)
    row = table.query("data == '1/2' and method == 'oversample'").iloc[0]
    k = row["collapsed_none"]
    assert row["collapsed"] == 0 and row["fisher_p"] == pytest.approx(
        stats.fisher_exact([[0, 10], [k, 10 - k]]).pvalue
    )
    assert (table["bh_q"] >= table["fisher_p"] - 1e-12).all()


def test_power_table_asks_more_of_a_family(contrasts: pd.DataFrame) -> None:
    table = power_table(contrasts)
    assert len(table) == len(contrasts)
    is_declared = contrasts["family"] != EXPLORATORY
    declared, explored = table[is_declared], table[~is_declared]
    assert (declared["detectable_in_family"] > declared["detectable"]).all()
    assert (declared["seeds_in_family"] >= declared["seeds"]).all()
    assert explored[["detectable_in_family", "seeds_in_family"]].isna().all(axis=None)
    row = declared.iloc[0]
    assert row["detectable"] == pytest.approx(0.995 * row["difference_sd"], rel=0.01)  # n = 10, alone
    assert row["detectable_in_family"] == pytest.approx(2.01 * row["difference_sd"], rel=0.01)


def test_power_is_stated_within_what_the_standard_deviation_leaves_open(contrasts: pd.DataFrame) -> None:
    """At n = 10 the interval of a sd runs from 0.69 to 1.83 of it."""
    row = power_table(contrasts).iloc[0]
    for name in ("difference_sd", "detectable"):
        low = row["sd_low"] if name == "difference_sd" else row["detectable_low"]
        high = row["sd_high"] if name == "difference_sd" else row["detectable_high"]
        assert (low / row[name], high / row[name]) == pytest.approx((0.688, 1.826), abs=0.001)
    assert row["seeds_low"] <= row["seeds"] <= row["seeds_high"] and row["is_sd_known"]


@pytest.mark.parametrize(("num_seeds", "is_known"), [(2, False), (3, False), (5, False), (10, True)])
def test_seeds_are_told_only_where_the_standard_deviation_is_known(
    grid_results: Results, num_seeds: int, is_known: bool
) -> None:
    runs = grid_results.runs
    contrasts = compare(runs[(runs["seed"] < num_seeds) & (runs["data"] == "7/9")])
    assert set(power_table(contrasts)["is_sd_known"]) == {is_known}
    table = power(contrasts)
    texts = {row[-1].text for block in table.blocks() for row in block.rows}
    unknown = f"unknown from n = {num_seeds}"
    assert (unknown in texts) != is_known and ("seeds is unknown" in table.meaning) != is_known
    assert ("takes" in table.meaning) == is_known


@pytest.mark.slow
def test_what_the_sign_flip_test_cannot_reach_is_not_detectable(grid_results: Results) -> None:
    """2 / 2^n: 5 pairs cannot reach .05, 9 cannot reach .05 / 24, 10 can."""
    runs = grid_results.runs
    for num_seeds, (alone, in_family) in {5: (False, False), 9: (True, False), 10: (True, True)}.items():
        contrasts = compare(runs[runs["seed"] < num_seeds])
        declared = power_table(contrasts)[contrasts["family"] != EXPLORATORY]
        assert (declared["detectable"] < np.inf).all() == alone
        assert (declared["detectable_in_family"] < np.inf).all() == in_family
        assert (declared["seeds"] >= 6).all() and (declared["seeds_in_family"] >= 10).all()


def test_differences_that_do_not_vary_tell_nothing_of_power(grid_results: Results) -> None:
    runs = grid_results.runs.assign(accuracy=0.8)
    table = power_table(compare(runs[runs["data"] == "7/9"]))
    assert not table["is_sd_known"].any() and table[["detectable", "seeds"]].isna().all(axis=None)
    values = np.array([0.1, 0.2, 0.3, 0.7, 0.9, 0.6])
    shifted = pd.DataFrame({"first": values + 0.1, "second": values, "difference": values + 0.1 - values})
    assert describe_difference(shifted)["difference_sd"] == 0  # rounding errors are not a spread


# The null, through all that is shipped


def null_runs(runs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return runs of methods that do not differ: what a seed shares at a C, and each run's own."""
    shared = rng.normal(0, 0.01, size=(3, 10))
    codes = runs["data"].astype("category").cat.codes.to_numpy()
    own = rng.normal(0, 0.01, len(runs))
    return runs.assign(accuracy=0.8 + shared[codes, runs["seed"].to_numpy()] + own)


@pytest.mark.slow
def test_no_method_wins_where_none_differs(grid_results: Results) -> None:
    """Family-wise: any declared verdict, and any exploratory one, in one study of twenty at most."""
    rng = np.random.default_rng(8)
    declared, explored = [], []
    for _ in range(60):
        found = compare(null_runs(grid_results.runs, rng))
        is_called = found["verdict"].isin(["better", "worse"])
        is_declared = found["family"] != EXPLORATORY
        declared.append(bool((is_called & is_declared).any()))
        explored.append(bool((is_called & ~is_declared).any()))
    assert is_share_at_most(declared, 0.05) and is_share_at_most(explored, 0.05)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 8, 10])
def test_any_verdict_on_a_difference_at_the_edge_is_rare(n: int) -> None:
    """One rule: "better" or "worse" at no difference, "equivalent" at the margin, .05 each at most."""
    rng = np.random.default_rng(n)
    called, equal = [], []
    for differences in rng.normal(0, 0.005, size=(1000, n)):
        called.append(decide_alone(differences) in ("better", "worse"))
        equal.append(decide_alone(differences + MARGIN) == "equivalent")
    assert is_share_at_most(called, 0.05) and is_share_at_most(equal, 0.05)
    assert any(called) == any(equal) == (n >= MIN_PAIRS)


def decide_alone(differences: np.ndarray) -> str:
    row = {
        "n_pairs": len(differences),
        "mean_difference": differences.mean(),
        "tost_p": tost_p(differences, MARGIN),
    }
    return decide(row, sign_flip_p(differences), "accuracy")


def test_the_share_of_pairs_won_lies_in_its_interval_also_where_half_of_them_tie() -> None:
    # 20 of 20 untied pairs: 0.83 to 1 of these; with as many ties, which count half, 0.67 to 0.75.
    differences = np.repeat([0.01, 0.0], 20)
    row = describe_difference(pd.DataFrame({"first": differences, "second": 0.0, "difference": differences}))
    assert row["better_share"] == 0.75
    assert (row["better_share_low"], row["better_share_high"]) == pytest.approx((0.666, 0.75), abs=0.001)


@pytest.mark.slow
def test_the_share_of_pairs_won_lies_in_its_interval_and_is_covered_by_it_with_ties() -> None:
    rng = np.random.default_rng(3)
    outcomes = rng.choice([1.0, 0.0, -1.0], p=[0.5, 0.3, 0.2], size=(1000, 12))
    rows = [
        describe_difference(
            pd.DataFrame({"first": 0.01 * each, "second": 0 * each, "difference": 0.01 * each})
        )
        for each in outcomes
    ]
    table = pd.DataFrame(rows)
    assert (table["better_share"] >= table["better_share_low"] - 1e-12).all()
    assert (table["better_share"] <= table["better_share_high"] + 1e-12).all()
    covered = table["better_share_low"].le(0.65) & table["better_share_high"].ge(0.65)
    assert covered.mean() > 0.93


@pytest.mark.slow
def test_components_recover_planted_spreads(tmp_path: Path) -> None:
    plan = plan_study(cs=("7/9",), num_seeds=60)
    truth = Truth(seed_sd=0.010, residual_sd=0.004)
    runs = read_results(make_store(tmp_path, plan, truth).location).runs
    (row,) = components_table(runs).to_dict("records")
    assert (row["n_seeds"], row["num_methods"]) == (60, 7)
    assert row["seed_sd"] == pytest.approx(0.010, rel=0.35)
    assert row["residual_sd"] == pytest.approx(0.004, rel=0.15)
    assert row["seed_low"] < row["seed_sd"] < row["seed_high"]
