"""Comparisons with reference cells, sources taken apart, and the answers that sweeps end with."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.ablations import compare_with_references
from analysis.answers import answer_differences, answer_sources
from analysis.collect import Results, read_results
from analysis.completeness import IncompleteError
from analysis.figures.ablations import draw_changes
from analysis.report import write_report
from analysis.sources import SOURCES, sources_table
from analysis.tables import account, build_tables, compute_frames
from lt_rebalance.store import Store
from lt_rebalance.studies.ablation import ablate, nested_seeds
from lt_rebalance.studies.plan import Plan, PlannedRun, compile_study
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Study
from tests.analysis.synthetic import Truth, confusion_of, make_record, make_store, plan_study

CHANGES = [{"classifier.loss": "double_softmax"}, {"classifier.beta1": 0.99}]
# By change and seed; None: there is no result.
ACCURACIES = {
    "reference": (0.70, 0.74, 0.78),
    "classifier.loss=double_softmax": (0.75, 0.80, 0.82),
    "classifier.beta1=0.99": (0.72, 0.70, None),
}


def plan_of(study: Study) -> Plan:
    return compile_study(study, plan_study(num_seeds=1).execution)


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One reference at C = 1/2 with two changes, at three seeds; one run of the reference has collapsed."""
    none = make_cell(get_protocol("sound"), dataset="fashion_mnist", c="1/2", method="none", generator=None)
    plan = plan_of(ablate([none], CHANGES).study("asked", range(3)))
    store = make_store(tmp_path_factory.mktemp("ablated") / "store", plan)
    for run in plan.runs:
        change = run.cell.protocol.removeprefix("sound").removeprefix("+") or "reference"
        accuracy = ACCURACIES[change][run.seed]
        path = Path(store.location) / "stages" / run.key / "result.json"
        if accuracy is None:
            path.unlink()
            continue
        record = make_record(run.stage, confusion_of(np.full(10, accuracy)))
        if change == "reference" and run.seed == 0:
            # Class 9 dies, and the others make up for it: 9 x 778 of 10,000 images, an accuracy of 0.7002.
            record = make_record(run.stage, confusion_of(np.array([0.778] * 9 + [0.0])))
        path.write_bytes(record.to_json())
    return read_results(store.location, allow=["gaps"])


# Comparisons


def test_differences_from_the_reference_are_paired_by_seed(ablated: Results) -> None:
    loss, beta = compare_with_references(ablated.runs, ablated.comparisons).to_dict("records")
    assert loss["mean_difference"] == pytest.approx(0.05, abs=1e-4)
    # differences .05, .06, .04: half width 4.3027 * .01 / sqrt(3) = .0248
    assert (loss["difference_low"], loss["difference_high"]) == pytest.approx((0.0252, 0.0748), abs=2e-4)
    assert (loss["n_pairs"], loss["n_expected"]) == (3, 3)
    assert (loss["reference_mean"], loss["cell_mean"]) == pytest.approx((0.74, 0.79), abs=1e-4)
    assert (beta["n_pairs"], beta["n_expected"]) == (2, 3)
    assert beta["mean_difference"] == pytest.approx(-0.01, abs=2e-4)
    assert loss["study"] == "asked" and loss["data"] == "1/2" and loss["method"] == "none"


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Study `few` has three seeds and one comparison; `many` has twelve, and this and another comparison."""
    none = make_cell(get_protocol("sound"), dataset="fashion_mnist", c="1/2", method="none", generator=None)
    root = tmp_path_factory.mktemp("joint") / "store"
    truth = Truth(accuracy=lambda run: 0.8 - 0.1 * (run.cell.classifier.beta1 == 0.99))
    make_store(root, plan_of(ablate([none], CHANGES).study("many", range(12))), truth)
    return read_results(
        make_store(root, plan_of(ablate([none], CHANGES[1:]).study("few", range(3))), truth).location
    )


def test_a_study_is_compared_by_its_own_runs_also_where_others_have_more(joint: Results) -> None:
    frame = compare_with_references(joint.runs, joint.comparisons)
    few = frame[frame["study"] == "few"].to_dict("records")
    assert [(row["n_pairs"], row["n_expected"], row["cell_n"], row["verdict"]) for row in few] == [
        (3, 3, 3, "undecided")
    ]
    assert few[0]["holm_p"] == 0.25
    many = frame[frame["study"] == "many"]
    assert list(many["n_pairs"]) == [12, 12] and list(many["verdict"])[1] == "worse"
    for drawn in draw_changes(joint.runs, joint.comparisons):
        num_pairs = 3 if drawn.title.endswith(": few") else 12
        assert f"(n = {num_pairs} pairs per row)" in drawn.caption


def test_dead_classes_are_counted_on_either_side(ablated: Results) -> None:
    loss, _ = compare_with_references(ablated.runs, ablated.comparisons).to_dict("records")
    assert (loss["reference_collapsed"], loss["reference_n"]) == (1, 3)
    assert (loss["cell_collapsed"], loss["cell_n"]) == (0, 3)
    assert loss["reference_dead_classes"] == pytest.approx(1 / 3) and loss["cell_dead_classes"] == 0
    assert loss["fisher_p"] == pytest.approx(stats.fisher_exact([[0, 3], [1, 2]]).pvalue)


def test_p_values_are_corrected_over_the_comparisons_of_the_study(ablated: Results) -> None:
    frame = compare_with_references(ablated.runs, ablated.comparisons)
    assert list(frame["sign_flip_p"]) == [0.25, 1.0]
    assert list(frame["holm_p"]) == [0.5, 1.0]
    assert set(frame["verdict"]) == {"undecided"}


@pytest.mark.slow
def test_large_differences_at_ten_seeds_are_told(tmp_path: Path) -> None:
    none = make_cell(get_protocol("sound"), dataset="fashion_mnist", c="1/2", method="none", generator=None)
    plan = plan_of(ablate([none], CHANGES).study("asked", range(10)))
    truth = Truth(accuracy=lambda run: 0.8 - 0.2 * (run.cell.classifier.loss == "double_softmax"))
    results = read_results(make_store(tmp_path / "store", plan, truth).location)
    frame = compare_with_references(results.runs, results.comparisons)
    assert frame["verdict"].iloc[0] == "worse"
    meaning = build_tables(results, compute_frames(results))["a1-ablations"].meaning
    assert meaning.startswith("Of 2 changes: 1 worse") and "cannot give p below" not in meaning


@pytest.mark.slow
def test_store_without_comparisons_says_so(grid_results: Results) -> None:
    frame = compare_with_references(grid_results.runs, grid_results.comparisons)
    assert frame.empty
    table = build_tables(grid_results, compute_frames(grid_results))["a1-ablations"]
    assert table.is_empty and table.meaning == "No study compares configurations with a reference."


def test_answer_names_change_pairs_interval_and_method(ablated: Results) -> None:
    text, table = answer_differences(ablated.location, "asked", 200)
    assert "paired differences of accuracy (asked)" in text
    words = " ".join(text.replace("│", " ").split())
    assert "3 of 3" in words and "2 of 3" in words
    assert "1/3 (0.3)," in words and "0/3 (0.0)" in words
    for said in ("Student's t interval", "two-sided sign-flip test", "Holm", "Fisher's exact test"):
        assert said in words
    assert max(map(len, text.splitlines())) <= 200
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["change"] for row in rows] == list(ACCURACIES)[1:]


def test_figure_shows_the_differences_of_the_table(ablated: Results) -> None:
    frame = compare_with_references(ablated.runs, ablated.comparisons)
    (drawn,) = draw_changes(ablated.runs, ablated.comparisons)
    assert drawn.name == "f9-changes-1" and "n = 2 to 3 pairs" in drawn.caption
    (axes,) = drawn.figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"C = 1/2, none\n{change}" for change in frame["change"]]
    for bar, row in zip(axes.containers, frame.to_dict("records"), strict=True):
        assert bar[0].get_xdata()[0] == pytest.approx(100 * row["mean_difference"])
        ends = [cap.get_xdata()[0] / 100 for cap in bar[1]]
        assert ends == pytest.approx([row["difference_low"], row["difference_high"]])
    marks = {
        gid: [each for each in axes.collections if each.get_gid() == gid] for gid in ("pairs", "collapsed")
    }
    # The reference of seed 0 has a dead class, and so both changes have such a pair.
    assert [len(each.get_offsets()) for each in marks["collapsed"]] == [1, 1]
    assert [len(each.get_offsets()) for each in marks["pairs"]] == [2, 1]


# Seeds taken apart


def effect(run: PlannedRun) -> float:
    """Subsets 0.5 and 0.7; generators ±.06, classifiers ±.02, and ±.01 for the pair."""
    subset = run.stage.data_seed
    generator = 1 if run.generator_seed != subset else -1
    classifier = 1 if run.seed != subset else -1
    return 0.5 + 0.2 * subset + 0.06 * generator + 0.02 * classifier + 0.01 * generator * classifier


@pytest.fixture
def nested(tmp_path: Path) -> tuple[Store, Plan]:
    cgan = make_cell(
        get_protocol("sound"), dataset="fashion_mnist", c="1/2", method="cgan", generator="mlp_cgan_relu"
    )
    plan = plan_of(Study(name="nested", cells=(cgan,), seeds=nested_seeds(2, 2, 2)))
    truth = Truth(accuracy=effect, seed_sd=0, residual_sd=0)
    return make_store(tmp_path / "store", plan, truth), plan


def test_sources_are_taken_apart_as_by_hand(nested: tuple[Store, Plan]) -> None:
    results = read_results(nested[0].location)
    (row,) = sources_table(results.nested_runs).to_dict("records")
    shape = (row["n_subsets"], row["n_expected"], row["num_generators"], row["num_classifiers"])
    assert shape == (2, 2, 2, 2) and row["study"] == "nested"
    # As in test_variance, a hundredth of it: variances of means 72, 8 and 200, residual 4.
    expected = {
        "residual": 2,
        "generator": np.sqrt(72 - 2),
        "classifier": np.sqrt(8 - 2),
        "subset": np.sqrt(200 - 72 / 2 - 8 / 2 + 4 / 4),
    }
    for source in SOURCES:
        assert row[f"{source}_sd"] == pytest.approx(expected[source] / 100, rel=1e-6)
        assert np.isnan(row[f"{source}_low"])  # two subsets are too few


def test_only_runs_of_one_seed_stand_beside_other_runs(nested: tuple[Store, Plan]) -> None:
    results = read_results(nested[0].location)
    assert list(results.runs["seed"]) == [0, 1] and len(results.generators) == 2
    assert len(results.nested_runs) == len(results.planned) == 8
    assert account(results.planned)["complete"] == 8
    tables = build_tables(results, compute_frames(results))
    (row,) = next(iter(tables["t6-completeness"].blocks())).rows
    assert row[tables["t6-completeness"].heads.index("planned")].text == "8"
    (row,) = next(iter(tables["t1-replication-all"].blocks())).rows
    assert row[tables["t1-replication-all"].heads.index("n of planned")].text == "2 of 2"
    assert "the subset has the largest estimate" in tables["t4-sources"].meaning
    num_stages = len(nested[1].stages)  # 8 classifiers and 4 generators, of 12 s each
    for name in ("t6-cost", "t6-cost-methods"):
        assert tables[name].frame["total_min"].iloc[-1] == pytest.approx(num_stages * 12 / 60)
        assert "took 2 min of device time: classifiers 2 min, generators 48 s." in tables[name].meaning
        assert "sharing saved 48 s" in tables[name].meaning


def test_page_says_which_tables_have_the_runs_with_separate_seeds(
    nested: tuple[Store, Plan], tmp_path: Path, unprinted_figures: None
) -> None:
    page = write_report(read_results(nested[0].location), tmp_path / "report").read_text(encoding="utf-8")
    assert "6 of these runs have separate seeds for subset, generator and classifier" in page
    assert "T4b analyses these runs and T6 counts them; all other tables and figures leave them out." in page
    spread = "C = 1/2, mlp_cgan_relu: the subset has the largest estimate"
    assert f"<p>The spread between runs (T4b): {spread}" in page


def test_subset_with_a_gap_is_left_out_and_counted(nested: tuple[Store, Plan]) -> None:
    store, plan = nested
    apart = next(run for run in plan.runs if run.seed == 1001)
    (Path(store.location) / "stages" / apart.key / "result.json").unlink()
    with pytest.raises(IncompleteError, match="seed 1001 of subset 1 with generator 1"):
        read_results(store.location)
    text, table = answer_sources(store.location, "nested", 140)
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["n_subsets"], row["n_expected"], row["subset_sd"]) == ("1", "2", "")
    assert "1 of 2" in text and "not estimable" in text


def test_grid_has_no_sources_apart(grid_results: Results) -> None:
    assert sources_table(grid_results.nested_runs).empty
    assert len(grid_results.planned) == len(grid_results.runs)
