"""Checks of the analysis on profiles: names and order, groups by count, and which metric leads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.collect import Results, read_results
from analysis.compare import compare
from analysis.figures import draw_figures
from analysis.leading import leading_of
from analysis.naming import compared_data
from analysis.report import write_report
from analysis.tables import Frames, build_tables, compute_frames
from analysis.tables.replication import _describe_leading
from lt_rebalance.ground.confusion import Confusion
from tests.analysis.synthetic import Truth, confusion_of, make_store, plan_study

LEVELS = ("exp 100", "step 10", "natural", "1/2", "exp 10")
IN_ORDER = ["original", "1/2", "exp 10", "exp 100", "step 10"]
UNBALANCED = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
EQUAL = (1000,) * 10


def make_results(
    root: Path, test_counts_K: Sequence[int], dataset: str = "mnist", cs: Sequence[str | None] = LEVELS
) -> Results:
    plan = plan_study(
        cs=cs, methods=["none", "oversample"], generators=[], num_seeds=6, dataset=dataset, name=dataset
    )
    make_store(root, plan, Truth(test_counts_K=test_counts_K, seed_sd=0.01))
    return read_results(str(root))


@pytest.fixture(scope="module")
def unbalanced(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Return runs on a naturally unbalanced set, whose test set is unbalanced as well."""
    return make_results(tmp_path_factory.mktemp("unbalanced") / "store", UNBALANCED)


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Return runs of the same levels on a balanced set."""
    return make_results(tmp_path_factory.mktemp("balanced") / "store", EQUAL, "fashion_mnist")


@pytest.fixture(scope="module")
def frames(unbalanced: Results) -> Frames:
    return compute_frames(unbalanced)


# Names


def test_levels_of_all_profiles_are_one_setting_in_order(unbalanced: Results) -> None:
    assert unbalanced.cells["setting"].nunique() == 1
    assert list(dict.fromkeys(unbalanced.cells["data"])) == IN_ORDER
    assert set(unbalanced.runs["state"]) == {"complete"}


def test_original_set_is_compared_on_where_it_has_methods() -> None:
    cells = pd.DataFrame({"data": ["original", "exp 10", "exp 10"], "method": ["none", "none", "oversample"]})
    assert compared_data(cells) == ["exp 10"]
    more = pd.concat([cells, pd.DataFrame({"data": ["original"], "method": ["oversample"]})])
    assert compared_data(more) == ["original", "exp 10"]


def test_sets_of_one_table_are_not_all_called_unbalanced(unbalanced: Results, balanced: Results) -> None:
    both = pd.concat([unbalanced.runs, balanced.runs])
    (name,) = unbalanced.runs["dataset"].unique()
    assert _describe_leading(both).startswith(f"The test set of {name} is unbalanced,")
    assert _describe_leading(unbalanced.runs).startswith("The test set is unbalanced,")


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_page_names_profiles_and_no_c_that_is_none(unbalanced: Results, tmp_path: Path) -> None:
    page = write_report(unbalanced, tmp_path).read_text()
    assert "exp 100" in page and "C = 1/2" in page
    for name in ("exp", "step", "natural", "original"):
        assert f"C = {name}" not in page


# Groups


def test_groups_by_count_stand_beside_those_by_rank(balanced: Results) -> None:
    runs = balanced.runs[balanced.runs["data"] == "exp 100"]
    # 6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60: eight, two and none.
    recall_K = balanced.confusions[runs["key"].iloc[0]].recall_K
    first = runs.iloc[0]
    assert first["recall_many_shot"] == pytest.approx(recall_K[:8].mean())
    assert first["recall_medium_shot"] == pytest.approx(recall_K[8:].mean())
    assert np.isnan(first["recall_few_shot"]) if "recall_few_shot" in runs else True
    assert first["recall_tail"] == pytest.approx(recall_K[7:].mean())


def test_natural_set_has_head_and_tail_by_its_counts(unbalanced: Results, balanced: Results) -> None:
    classes = unbalanced.classes[unbalanced.classes["data"] == "original"]
    head = classes[classes["rank_group"] == "head"].drop_duplicates("class")
    # MNIST has most images of 1, 7 and 3.
    assert sorted(head["class"]) == [1, 3, 7]
    equal = balanced.classes[balanced.classes["data"] == "original"]
    assert equal["rank_group"].isna().all()
    assert set(equal["count_group"]) == {"many_shot"}


# Which metric leads


@pytest.mark.slow
def test_macro_f1_leads_on_an_unbalanced_test_set_everywhere(unbalanced: Results, frames: Frames) -> None:
    assert leading_of(unbalanced.runs) == "macro_f1"
    assert set(frames.contrasts["metric"]) == {"macro_f1"}
    tables = build_tables(unbalanced, frames)
    heads = tables["t1-replication-all"].heads
    means = [head.partition(":")[0] for head in heads if "mean" in head]
    assert means == ["macro F1", "balanced accuracy", "accuracy", "loss"]
    assert tables["t2-differences"].title == "T2. Paired differences of macro F1"
    assert "macro F1: median" in tables["t1-further"].heads
    drawn = list(draw_figures(unbalanced, frames.contrasts, frames.methods))
    labels = [
        text
        for each in drawn
        for axes in each.figure.axes
        for text in (axes.get_xlabel(), axes.get_ylabel())
        if "accuracy" in text
    ]
    assert labels == []
    assert any("macro F1" in axes.get_xlabel() for each in drawn for axes in each.figure.axes)


def test_contrast_is_of_the_macro_f1_of_the_runs(unbalanced: Results) -> None:
    row = compare(unbalanced.runs).iloc[0]
    runs = unbalanced.runs[unbalanced.runs["data"] == row["data"]]
    means = runs.groupby("method", observed=True)["macro_f1"].mean()
    expected = means[row["method"]] - means[row["comparator"]]
    assert row["mean_difference"] == pytest.approx(expected)


@pytest.mark.slow
def test_accuracy_leads_on_a_balanced_test_set(balanced: Results) -> None:
    assert leading_of(balanced.runs) == "accuracy"
    frames = compute_frames(balanced)
    assert set(frames.contrasts["metric"]) == {"accuracy"}
    heads = build_tables(balanced, frames)["t1-replication-all"].heads
    means = [head.partition(":")[0] for head in heads if "mean" in head]
    assert means == ["accuracy", "macro F1", "loss"]


def test_each_data_set_of_a_store_has_its_own_leading_metric(tmp_path: Path) -> None:
    for dataset, counts in (("mnist", UNBALANCED), ("fashion_mnist", EQUAL)):
        results = make_results(tmp_path / "store", counts, dataset, ["exp 10"])
    contrasts = compare(results.runs)
    assert dict(zip(contrasts["dataset"], contrasts["metric"], strict=True)) == {
        "mnist": "macro_f1",
        "fashion_mnist": "accuracy",
    }


def test_made_up_confusion_has_the_test_counts_asked_for() -> None:
    confusion = Confusion.of_matrix(confusion_of(np.full(10, 0.9), UNBALANCED))
    assert confusion.true_K.tolist() == list(UNBALANCED)
