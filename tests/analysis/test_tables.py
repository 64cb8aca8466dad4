"""Tables: numbers by hand, words for what cannot be estimated, and writers that escape what they write."""

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.collect import Results, read_results
from analysis.compare import load_families
from analysis.significance import say_p
from analysis.sources import SOURCES
from analysis.summary import describe_limits
from analysis.tables import Cell, Table, build_tables, compute_frames, to_csv, to_latex, to_markdown
from analysis.tables.claims import hypothesis_table
from analysis.tables.cost import cost_tables, describe_cost
from analysis.tables.differences import describe_sources, sources
from analysis.tables.formats import (
    DATA_COLUMN,
    estimate,
    number_column,
    p_value,
    percent,
    points,
    rate,
    share,
    text_column,
)
from lt_rebalance.ground.imbalance import ORIGINAL
from lt_rebalance.store import Store
from lt_rebalance.studies.plan import Plan, compile_study
from tests.analysis.synthetic import Truth, collapse, confusion_of, make_record, make_store, plan_study

NAN = float("nan")
ACCURACIES = {"none": (0.70, 0.74, 0.78), "oversample": (0.75, 0.80, 0.82)}


@pytest.fixture(scope="module")
def grid_tables(grid_results: Results) -> dict[str, Table]:
    """The tables of the paper's grid."""
    return tables_of(grid_results)


def make_results(
    tmp_path: Path, accuracies: Mapping[str, tuple[float, ...]] = ACCURACIES, protocol: str = "sound"
) -> Results:
    """Return results at C = 1/2 whose runs have these accuracies by seed; None is a missing run."""
    num_seeds = len(next(iter(accuracies.values())))
    axes = {"methods": tuple(accuracies), "generators": (), "cs": ("1/2",), "protocols": (protocol,)}
    plan = plan_study(num_seeds=num_seeds, **axes)
    store = make_store(tmp_path / "store", plan)
    for run in plan.runs:
        accuracy = accuracies[run.cell.method_label][run.seed]
        path = Path(store.location) / "stages" / run.key / "result.json"
        if np.isnan(accuracy):
            path.unlink()
        else:
            path.write_bytes(make_record(run.stage, confusion_of(np.full(10, accuracy))).to_json())
    return read_results(store.location, allow=["gaps"])


def tables_of(results: Results) -> dict[str, Table]:
    return build_tables(results, compute_frames(results))


def cells_of(table: Table, **row_heads: str) -> dict[str, Cell]:
    """Return the cells, by head, of the only row whose cells read as given."""
    rows = [dict(zip(table.heads, row, strict=True)) for block in table.blocks() for row in block.rows]
    found = [row for row in rows if all(row[head].text == text for head, text in row_heads.items())]
    assert len(found) == 1
    return found[0]


# Numbers


_CORRECTED = "Holm p (declared family) or BH q (exploratory)"


def test_replication_states_mean_t_interval_and_sd(tmp_path: Path) -> None:
    cells = cells_of(tables_of(make_results(tmp_path))["t1-replication-all"], method="none")
    # mean 0.74, sd 0.04, t(.975, 2) = 4.3027: half width 4.3027 * 0.04 / sqrt(3) = 0.0994
    assert cells["accuracy: mean (95% t interval)"].text == "0.740 (0.641 to 0.839)"
    assert cells["accuracy: sd"].text == "0.040"
    assert cells["n of planned"].text == "3 of 3"
    # prediction: 4.3027 * 0.04 * sqrt(4 / 3) = 0.1987
    assert cells["95% prediction interval of accuracy"].text == "0.541 to 0.939"
    assert not [head for head in cells if "paper" in head or head == "z"]
    assert cells["runs with a dead class (95% Clopper-Pearson interval)"].text == "0/3 = 0% (0% to 71%)"


def test_replication_counts_rows_outside_beside_what_chance_gives(tmp_path: Path) -> None:
    # The paper's 0.476 is outside the interval of the first method; its 0.812 is inside that of the second.
    accuracies = {"none": (0.70, 0.74, 0.78, 0.72, 0.76), "oversample": (0.75, 0.80, 0.82, 0.79, 0.81)}
    tables = tables_of(make_results(tmp_path, accuracies, protocol="paper"))
    table = tables["t1-replication-all"]
    assert "in 1 of 2 rows; about 0.1 would be expected by chance" in table.meaning
    cells = cells_of(table, method="none")
    assert cells["paper's accuracy"].text == "0.476" and cells["paper inside"].text == "outside"
    # mean 0.74, sd sqrt(0.004 / 4)
    assert cells["z"].text == "−8.3" and cells["our runs ≤ the paper's"].text == "0 of 5"
    assert cells_of(table, method="oversample")["our runs ≤ the paper's"].text == "4 of 5"


def test_replication_says_why_the_papers_numbers_do_not_stand_there(tmp_path: Path) -> None:
    meaning = tables_of(make_results(tmp_path))["t1-replication-all"].meaning
    assert "are shown for none of these cells: its runs differ in loss, budget" in meaning


def test_below_five_runs_nothing_is_said_of_where_the_papers_number_lies(tmp_path: Path) -> None:
    table = tables_of(make_results(tmp_path, protocol="paper"))["t1-replication-all"]
    cells = cells_of(table, method="none")
    assert cells["paper's accuracy"].text == "0.476"
    assert cells["z"].text == cells["paper inside"].text == "–"
    assert "outside" not in table.meaning and "from 5 differing runs on" in table.meaning


def test_difference_is_in_points_and_paired_by_seed(tmp_path: Path) -> None:
    table = tables_of(make_results(tmp_path))["t2-differences"]
    cells = cells_of(table, difference="oversample − none")
    # differences .05, .06, .04: mean 5 points, sd 1, half width 4.3027 / sqrt(3) = 2.484
    assert cells["mean difference in points (95% t interval)"].text == "+5.00 (+2.52 to +7.48)"
    assert cells["sign-flip p, uncorrected"].text == "0.250" and cells[_CORRECTED].text == "0.250"
    assert cells["verdict (by)"].text == "undecided"
    assert "With at most 3 pairs the exact sign-flip test cannot give p below 0.25" in table.meaning


def test_a_verdict_names_its_correction(grid_tables: dict[str, Table]) -> None:
    table = grid_tables["t2-differences"]
    cells = cells_of(table, data="7/9", difference="big_mlp_cgan_leaky − none")
    frame = table.frame.set_index(["data", "method", "comparator"])
    declared, exploratory = (
        frame.loc[("7/9", name, "none")] for name in ("big_mlp_cgan_leaky", "oversample")
    )
    assert cells["verdict (by)"].text == "worse (Holm)"
    assert float(cells[_CORRECTED].value) == declared["holm_p"] and np.isnan(declared["bh_q"])
    cells = cells_of(table, data="7/9", difference="oversample − none")
    assert cells["verdict (by)"].text == "better (Benjamini-Hochberg)"
    assert float(cells[_CORRECTED].value) == exploratory["bh_q"] and np.isnan(exploratory["holm_p"])


def test_csv_holds_every_contrast_and_people_see_those_against_references(
    grid_tables: dict[str, Table],
) -> None:
    tables = grid_tables
    shown = [len(next(iter(tables[name].blocks())).rows) for name in ("t2-differences", "x1-other-pairs")]
    assert shown == [2 * 15, 2 * 6] and len(tables["t2-differences"].frame) == 2 * 21


def test_healthy_table_leaves_out_collapsed_runs(tmp_path: Path) -> None:
    plan = plan_study(methods=("none",), generators=(), cs=("1/2",), num_seeds=3)
    store = make_store(tmp_path / "store", plan)
    dead = collapse(confusion_of(np.full(10, 0.8)), [9])
    replace(store, plan, 0, lambda stage: make_record(stage, dead))
    tables = tables_of(read_results(store.location))
    assert cells_of(tables["t1-replication-healthy"], method="none")["n of planned"].text == "2 of 3"
    assert "without the 1 run with a dead class" in tables["t1-replication-healthy"].meaning
    assert "described, not tested" in tables["t1-replication-healthy"].title
    cells = cells_of(tables["t3-collapse"], method="none")
    assert cells["dead classes, with counts"].text == "Ankle boot 1"
    assert cells["runs with a dead class (95% Clopper-Pearson interval)"].text == "1/3 = 33% (< 1% to 91%)"


def replace(store: Store, plan: Plan, index: int, make: Callable) -> None:  # type: ignore[type-arg]
    """Write another record over that of a run."""
    stage = plan.runs[index].stage
    path = Path(store.location) / "stages" / stage.key / "result.json"
    path.write_bytes(make(stage).to_json())


def test_completeness_adds_up_where_runs_are_missing(tmp_path: Path) -> None:
    table = tables_of(make_results(tmp_path, {"none": (0.7, NAN, 0.8), "oversample": (0.8, 0.8, 0.8)}))
    cells = cells_of(table["t6-completeness"], method="none")
    states = {name: cells[name].text for name in ("planned", "complete", "failed", "diverged", "missing")}
    assert states == {"planned": "3", "complete": "2", "failed": "0", "diverged": "0", "missing": "1"}
    assert table["t6-completeness"].meaning.startswith("Of 6 planned runs: 5 complete")
    assert any("1 of 6 planned runs is missing" in note for note in table["t6-completeness"].notes)
    assert cells_of(table["t1-replication-all"], method="none")["n of planned"].text == "2 of 3"
    assert cells_of(table["t2-differences"])["pairs of planned"].text == "2 of 3"


def test_provenance_says_what_is_mixed(grid_tables: dict[str, Table]) -> None:
    table = grid_tables["t6-provenance"]
    assert cells_of(table, what="commit")["value"].text == "0123456789abcdef"
    assert table.meaning == (
        "All finished runs have the same code, libraries, device and data. Some results do not record their "
        "numpy and Ray."
    )


def test_cost_adds_up_by_cell_method_and_stage(grid_tables: dict[str, Table], grid_results: Results) -> None:
    # 150 classifiers and 80 generators of 12 s each, 10 of either kind in a cell of a CGAN.
    by_cell, by_method = grid_tables["t6-cost"], grid_tables["t6-cost-methods"]
    cells = cells_of(by_cell, data="1/2", method="mlp_cgan_relu")
    assert [cells[head].text for head in by_cell.heads[2:]] == ["2.00", "2.00", "4.00"]
    total = cells_of(by_method, method="all together")
    assert [total[head].text for head in by_method.heads[1:]] == ["30.00", "16.00", "46.00"]
    assert by_cell.frame["total_min"].sum() == pytest.approx(46)
    assert by_cell.meaning == (
        "All finished stages together took 46 min of device time: classifiers 30 min, generators 16 min. "
        "All runs took 46 min of device time, on a GPU or else a CPU core. 10 more seeds of each "
        "configuration would take about 46 min, at its median run."
    )
    runs = grid_results.planned.copy()
    runs.loc[runs["seed"] >= 2, "state"] = "missing"  # 2 of 10 seeds: 3 min of classifiers each
    runs.loc[runs["seed"] >= 2, "device_s"] = np.nan
    runs.loc[runs["data"] == ORIGINAL, "state"] = "missing"  # 1 of 15 cells
    # A generator's 12 s belong to the runs that use it: 2 seeds of 8 cells.
    assert describe_cost(runs, grid_results.generator_costs) == (
        "All runs took 9 min of device time, on a GPU or else a CPU core. 10 more seeds of the 14 "
        "configurations with a finished run would take about 44 min, at its median run."
    )
    assert describe_cost(runs.assign(state="missing"), grid_results.generator_costs) == ""


def test_cost_of_a_generator_is_shared_by_its_finished_runs_or_else_by_all(tmp_path: Path) -> None:
    """Two classifiers use a generator of 12 s; with one of them missing, sharing has saved nothing."""
    plan = plan_study(cs=["1/2"], methods=["cgan"], generators=["mlp_cgan_relu"], num_seeds=1)
    (cell,) = plan.study.cells
    other = dataclasses.replace(cell.classifier, loss="double_softmax")
    cells = cell, dataclasses.replace(cell, protocol="double", classifier=other)
    plan = compile_study(dataclasses.replace(plan.study, cells=cells), plan.execution)
    store = make_store(tmp_path, plan)
    shares = []
    for each in (*plan.runs, None):
        results = read_results(store.location, allow=["gaps"])
        shares.append([results.generator_costs.get(run.key) for run in plan.runs])
        meaning = cost_tables(results.planned, results.generator_costs)[0].meaning
        num_classifiers = len(plan.runs) + 1 - len(shares)
        assert meaning.startswith(
            f"All finished stages together took {12 * (num_classifiers + 1)} s of device time: classifiers "
            f"{12 * num_classifiers} s, generators 12 s."
        )
        assert ("sharing saved 12 s" in meaning) == (num_classifiers == 2)
        if each is not None:
            (Path(store.location) / "stages" / each.key / "result.json").unlink()
    first, second, third = shares
    assert first == third == [6, 6] and second == [None, 12]


def test_power_says_where_differences_do_not_vary(tmp_path: Path) -> None:
    values = (0.70, 0.74, 0.78, 0.72, 0.71, 0.75)
    other = tuple(round(value + 0.01 * (-1) ** index, 2) for index, value in enumerate(values))
    table = tables_of(make_results(tmp_path, {"none": other, "undersample": values, "oversample": values}))[
        "t5-power"
    ]
    assert (
        "For 2 of 3 contrasts the number of seeds is unknown: n = 6 pairs are too few to estimate the "
        "standard deviation. For 1 of 3 contrasts the number of seeds is unknown: the differences do not "
        "vary." in table.meaning
    )
    cells = cells_of(table, difference="oversample − undersample")
    assert cells["detectable difference in points"].text == "unknown: no variation"


_ENDS = ("low", "high")


def row_of_sources(sds: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Return a row of T4b with these standard deviations and intervals; others are 0, and 0 to 0.001."""
    row = {"dataset": "mnist", "data": "1/2", "method": "none", "setting": "s", "metric": "accuracy"}
    sizes = {"n_subsets": 7, "n_expected": 7, "num_generators": 2, "num_classifiers": 2}
    ends = {each: intervals.get(each, (0.0, 0.001)) for each in SOURCES}
    estimates = {f"{each}_sd": sds.get(each, 0.0) for each in SOURCES}
    lows, highs = (
        {f"{each}_{end}": ends[each][i] for each in SOURCES} for i, end in enumerate(("low", "high"))
    )
    return row | sizes | estimates | lows | highs


@pytest.mark.parametrize(
    ("sds", "intervals", "said"),
    [
        (
            {"generator": 0.01, "classifier": 0.01},
            {},
            "the generator and the classifier have the largest estimate (1.00 points of accuracy, 7 subsets)",
        ),
        ({}, {}, "no source varies, over 7 subsets"),
        (
            {"subset": 0.07},
            {"subset": (0.05, 0.1), "residual": (0.04, 0.049)},
            "the subset has the largest estimate (7.00 points of accuracy, 7 subsets); its 90% interval "
            "overlaps no other",
        ),
        (
            {"subset": 0.07},
            {"subset": (0.05, 0.1), "residual": (0.01, 0.05)},
            "the subset has the largest estimate (7.00 points of accuracy, 7 subsets); its 90% interval "
            "overlaps that of the pair of generator and classifier, so their order is open",
        ),
        (
            {"subset": 0.07},
            {"subset": (0.02, 0.1), "generator": (0.01, 0.03), "classifier": (0.0, 0.02)},
            "the subset has the largest estimate (7.00 points of accuracy, 7 subsets); its 90% interval "
            "overlaps those of the generator and the classifier, so their order is open",
        ),
        *(
            (
                {"subset": 0.07},
                {"subset": (0.02, 0.1), without: (NAN, NAN)},
                "the subset has the largest estimate (7.00 points of accuracy, 7 subsets); too few subsets "
                "to rank the sources",
            )
            for without in ("subset", "generator")
        ),
    ],
)
def test_largest_source_is_said_with_the_intervals_that_overlap_its_own(
    sds: dict[str, float], intervals: dict[str, tuple[float, float]], said: str
) -> None:
    row = row_of_sources(sds, intervals)
    assert sources(pd.DataFrame([row])).meaning == f"C = 1/2, none: {said}."


def test_sources_of_several_sets_and_settings_are_told_apart_and_no_more_than_asked() -> None:
    rows = [
        row_of_sources({}, {}) | {"setting": setting, "dataset": dataset, "n_subsets": 2}
        for setting in ("s", "t")
        for dataset in ("mnist", "kmnist")
    ]
    varies = "C = 1/2, none: no source varies, over 2 subsets."
    assert describe_sources(pd.DataFrame(rows), most=3) == (
        f"s: mnist, {varies} kmnist, {varies} t: mnist, {varies} 1 more in T4b."
    )
    assert describe_sources(pd.DataFrame(rows[:1]), most=1) == varies


def test_every_table_has_a_title_a_meaning_and_rows_as_long_as_its_head(
    grid_tables: dict[str, Table],
) -> None:
    for name, table in grid_tables.items():
        assert table.title and table.meaning.endswith("."), name
        assert next(csv.reader(io.StringIO(to_csv(table)))), f"{name} has no head"
        rows = [row for block in table.blocks() for row in block.rows]
        # The grid compares no cell with a reference, and takes no seeds apart.
        assert bool(rows) == (name not in ("a1-ablations", "t4-sources")), name
        assert all(len(row) == len(table.heads) for row in rows), name
        assert len(set(table.heads)) == len(table.heads), name


# What cannot be estimated


@pytest.mark.parametrize("accuracies", [(0.8,), (NAN,)], ids=["one run", "no run"])
def test_nothing_is_ever_shown_as_nan(tmp_path: Path, accuracies: tuple[float, ...]) -> None:
    tables = tables_of(make_results(tmp_path, {"none": accuracies, "oversample": (0.9,)}))
    for table in tables.values():
        texts = [cell.text for block in table.blocks() for row in block.rows for cell in row]
        shown = " ".join([*texts, table.meaning, *table.notes]).lower().split()
        assert not {"nan", "inf", "nan%", "(nan", "nan)"} & set(shown), table.name
    cells = cells_of(tables["t1-replication-all"], method="none")
    expected = "0.800 (interval not estimable)" if accuracies == (0.8,) else "not estimable"
    assert cells["accuracy: mean (95% t interval)"].text == expected
    assert cells["accuracy: sd"].text == "not estimable" and cells["accuracy: sd"].value == ""


def test_a_study_of_one_method_has_no_contrasts_and_says_so(tmp_path: Path) -> None:
    tables = tables_of(make_results(tmp_path, {"none": (0.7, 0.8)}))
    assert tables["t2-differences"].is_empty
    assert tables["t2-differences"].meaning == (
        "No setting has none or oversample and another method at the same C."
    )
    assert tables["t5-power"].is_empty and tables["t4-components"].is_empty
    assert to_latex(tables["t2-differences"]).startswith("%")
    assert "No setting has none or oversample" in to_markdown(tables["t2-differences"])


def test_sources_are_separated_over_the_methods_that_share_two_seeds(tmp_path: Path) -> None:
    """Seeds 0 to 2 of two methods: .70, .74, .78 and .75, .80, .82; the third has seed 0 alone."""
    accuracies = ACCURACIES | {"undersample": (0.6, NAN, NAN)}
    results = make_results(tmp_path / "three", accuracies)
    tables = tables_of(results)
    (row,) = tables["t4-components"].frame.to_dict("records")
    assert (row["n_seeds"], row["num_methods"], row["left_out"]) == (3, 2, "undersample")
    assert tables["t4-components"].meaning.endswith(
        " Left out, with other seeds than the rest: undersample of C = 1/2."
    )
    alone = tables_of(make_results(tmp_path / "two"))["t4-components"]
    assert alone.frame.loc[0, "seed_sd"] == row["seed_sd"] and "left_out" not in alone.frame
    assert "T4a separates" in " ".join(describe_limits(results, compute_frames(results)))
    few = make_results(tmp_path / "few", ACCURACIES | {"none": (0.7, NAN, NAN)})
    assert tables_of(few)["t4-components"].is_empty
    assert "T4a separates" not in " ".join(describe_limits(few, compute_frames(few)))


def test_noise_of_test_images_is_told_for_each_data_set(tmp_path: Path) -> None:
    """sqrt(.8 * .2 / 10,000) = .0040, and sqrt(.5 * .5 / 1,000) = .0158."""
    small = Truth(accuracy=lambda run: 0.5, seed_sd=0, residual_sd=0, test_counts_K=(100,) * 10)
    large = Truth(accuracy=lambda run: 0.8, seed_sd=0, residual_sd=0)
    for dataset, truth in (("mnist", small), ("fashion_mnist", large)):
        plan = plan_study(
            name=dataset, dataset=dataset, methods=("none",), generators=(), cs=("1/2",), num_seeds=1
        )
        store = make_store(tmp_path, plan, truth)
    results = read_results(store.location)
    said = describe_limits(results, compute_frames(results))[0]
    assert (
        "10,000 test images of fashion_mnist alone would change an accuracy of 0.800 by 0.40 points" in said
    )
    assert "1,000 test images of mnist alone would change an accuracy of 0.500 by 1.58 points" in said
    one = read_results(store.location, studies=["mnist"])
    assert describe_limits(one, compute_frames(one))[0] == (
        "Intervals cover the choice of seed on one test set, not the choice of test images or data set. A "
        "new draw of 1,000 test images alone would change an accuracy of 0.500 by 1.58 points (binomial "
        "standard deviation). A difference between methods on the same images changes less, the fewer images "
        "they disagree on."
    )


def judged_of(*undecided: str) -> pd.DataFrame:
    """Return hypotheses with these evidences of undecided verdicts, and one that is supported."""
    verdicts = ["undecided"] * len(undecided) + ["supported"]
    frame = pd.DataFrame({"verdict": verdicts, "evidence": [*undecided, "C = 7/9, a minus b: not run"]})
    return frame.assign(hypothesis="H1")


def test_undecided_is_explained_by_the_reasons_that_the_evidence_gives() -> None:
    few = "a minus b: +1.00 points, p = 0.2, n = 6"
    usual = "n is too small for the effect, or that there is no effect; the data do not show which."
    said = hypothesis_table(judged_of(few)).meaning
    assert f"1 undecided. Undecided means that {usual} Supported applies" in said
    said = hypothesis_table(
        judged_of(
            few,
            "a minus b: not run",
            "a minus b: not run; where some seeds diverged, the remaining seeds decide nothing",
            f"{few}; no verdict, because the configurations differ in more than the claim",
            f"{few}; the test can refute the claim and cannot support it",
        )
    ).meaning
    assert (
        "In 4 of 5 undecided verdicts the evidence names another reason: parts of the claim that were not "
        "run (2), seeds that were lost (1), configurations that differ in more than the claim (1) and a test "
        f"that can only refute (1). Otherwise undecided means that {usual}"
    ) in said
    said = hypothesis_table(judged_of("a minus b: not run")).meaning
    assert said.endswith(
        "1 supported and 1 undecided. The evidence names the reason of each undecided verdict: parts of the "
        "claim that were not run (1). Supported applies to this data set and setting only."
    )


def test_hypotheses_name_comparison_metric_and_limits(grid_tables: dict[str, Table]) -> None:
    table = grid_tables["hypotheses"]
    assert sum(not column.is_more for column in table.columns) == 6
    row = cells_of(table, hypothesis="H2")
    assert row["comparison"].text == "each CGAN minus undersample, at each C"
    assert row["limits"].text.startswith("in a budget of epochs")
    assert row["test and correction"].text.startswith("sign-flip test in accuracy, paired by seed; Holm")
    assert "They are in accuracy unless the comparison names another measure" in table.notes[0]
    assert "exact up to 20 pairs, random signs above" in table.notes[0]
    (family,) = load_families()
    notes = grid_tables["t2-differences"].notes[1]
    assert f"“{family.name}” (24 contrasts of accuracy in each setting, run or not)" in notes


# Formats


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (share(0.8125), "0.812"),
        (points(-0.00524), "−0.52"),
        (points(0.0), "+0.00"),
        (percent(0.5), "50%"),
        (percent(0.0), "0%"),
        (percent(0.004), "< 1%"),
        (percent(0.9999), "> 99%"),
        (percent(1.0), "100%"),
        (p_value(0.0019531), "0.002"),
        (p_value(0.0002), "< 0.001"),
        (p_value(NAN), "not estimable"),
        # Three digits never put a number on the level of 0.05, or on its other side.
        (p_value(0.0498), "0.0498"),
        (p_value(0.05029), "0.0503"),
        (p_value(0.04949), "0.049"),
        (p_value(0.0506), "0.051"),
        (p_value(0.049996), "0.049996"),
        (p_value(0.05), "0.050"),
        (p_value(0.0125 * 4), "0.050"),
        (say_p(0.04996, "g"), "0.04996"),
        (say_p(0.000244140625, "g"), "0.000244"),
        (estimate(0.8, 0.7, 0.9, share), "0.800 (0.700 to 0.900)"),
        (estimate(0.8, NAN, NAN, share), "0.800 (interval not estimable)"),
        (estimate(NAN, NAN, NAN, share), "not estimable"),
        (rate(0, 10, 0.0, 0.3085), "0/10 = 0% (0% to 31%)"),
        (rate(0, 0, NAN, NAN), "not estimable"),
    ],
)
def test_numbers_read_as(text: str, expected: str) -> None:
    assert text == expected


# Writers


def hostile_table(method: str) -> Table:
    frame = pd.DataFrame({"data": ["1/2"], "method": [method], "accuracy": [1 / 3]})
    columns = (DATA_COLUMN, text_column("method", "method"), number_column("a_c & 5%", "accuracy", share))
    return Table(name="hostile", title="T & 100%", frame=frame, columns=columns, meaning="A_b.", notes=("~",))


def test_csv_keeps_every_digit_and_any_name_in_a_line() -> None:
    name = 'a,"b"\n<script>'
    rows = list(csv.DictReader(io.StringIO(to_csv(hostile_table(name)))))
    assert rows == [{"data": "1/2", "method": r'a,"b"\n<script>', "accuracy": repr(1 / 3)}]


def test_markdown_escapes_pipes_and_markup() -> None:
    line = to_markdown(hostile_table("a|b*<i>")).splitlines()[4]
    assert line == r"| 1/2 | a\|b\*\<i\> | 0.333 |"


def test_cells_carry_raw_numbers_to_sort_by() -> None:
    (block,) = hostile_table("x").blocks()
    data, method, accuracy = block.rows[0]
    assert data == Cell("1/2", "-0.5", True)
    assert (method.value, method.is_number) == ("x", False)
    assert accuracy.value == repr(1 / 3)


@pytest.mark.slow
def test_tables_are_the_same_at_every_run(tmp_path: Path) -> None:
    plan = plan_study(protocols=("paper", "sound"), num_seeds=3)
    store = make_store(tmp_path / "store", plan, Truth(collapse_rate=lambda run: 0.3))
    first, second = (tables_of(read_results(store.location)) for _ in range(2))
    for name in first:
        for write in (to_csv, to_markdown, to_latex):
            assert write(first[name]) == write(second[name])
    settings = [block.setting for block in first["t2-differences"].blocks()]
    assert settings == ["paper, double softmax, 30 epochs", "sound, cross entropy, 18,000 steps"]
