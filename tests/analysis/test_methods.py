"""Methods of a study: ranked by family, beside their references, and by what they cost."""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.ablations import compare_with_references
from analysis.answers import answer_methods
from analysis.collect import Results, read_results
from analysis.compare import MARGIN
from analysis.figures.ranking import draw_ranking
from analysis.methods import TESTED, methods_frame, name_difference
from analysis.naming import compared_data, in_order
from analysis.report import write_report
from analysis.significance import holm, sign_flip_p
from analysis.tables import build_tables, compute_frames
from analysis.tables.cost import cost_tables
from analysis.tables.methods import methods_tables
from lt_rebalance.ground.imbalance import ORIGINAL
from lt_rebalance.store.records import Artifact, Failure, Record, Timing
from lt_rebalance.studies.plan import Plan, compile_study
from lt_rebalance.studies.stage import ClassifierStage, RepresentationStage
from lt_rebalance.studies.study import Study
from sweeps import compare_methods
from tests.analysis.synthetic import Truth, make_store, plan_study

ACCURACY = {
    "none": 0.79,
    "oversample": 0.80,
    "undersample": 0.75,
    "balanced_softmax": 0.85,
    "logit_adjustment": 0.8025,
    "focal": 0.80,
    "mlp_cgan_relu": 0.80,
}
"""expected accuracy of each method, and so its macro F1: all classes are recognised alike"""
OTHERS = ["undersample", "balanced_softmax", "logit_adjustment", "focal", "cgan"]
DEVICE_S = {
    "none": 10.0,
    "oversample": 40.0,
    "balanced_softmax": 11.0,
    "focal": 10.0,
    "logit_adjustment": 0.5,
    "generator": 100.0,
}


def plan_methods(*methods: str, seeds: int = 12) -> Plan:
    asked = ["--methods", *methods, "--seeds", str(seeds), "--dataset", "fashion_mnist", "--c", "1/2"]
    parser = compare_methods.make_methods_parser()
    study = compare_methods.build_study(parser.parse_args(asked))
    return compile_study(study, plan_study(num_seeds=1).execution)


def tune(plan: Plan, name: str, protocol: str, rate: float) -> Plan:
    """Return the plan of a study whose cells have a learning rate from a search."""
    cells = [
        dataclasses.replace(
            cell, protocol=protocol, classifier=dataclasses.replace(cell.classifier, learning_rate=rate)
        )
        for cell in plan.study.cells
    ]
    tunings = [
        {
            "cell": index,
            "search": f"{name}-{cell.method_label}",
            "method": cell.method_label,
            "num_trials": 2,
            "num_seeds": 1,
            "values": {"classifier.learning_rate": rate},
            "untuned": {"classifier.learning_rate": cell.classifier.learning_rate},
        }
        for index, cell in enumerate(plan.study.cells)
    ]
    study = dataclasses.replace(plan.study, name=name, cells=tuple(cells), tunings=tuple(tunings))
    return compile_study(study, plan.execution)


def put_times(location: str, plan: Plan) -> None:
    """Give every record the device time of its method, or 20 s if `DEVICE_S` has none."""
    for number, (key, stage) in enumerate(plan.stages.items()):
        path = Path(location) / "stages" / key / "result.json"
        if isinstance(stage, RepresentationStage):
            continue
        record = Record.from_json(path.read_bytes())
        name = stage.method.name if isinstance(stage, ClassifierStage) else "generator"
        timing = Timing(wall_s=500.0 + number, train_s=1.0, num_errors=0, device_s=DEVICE_S.get(name, 20.0))
        path.write_bytes(dataclasses.replace(record, timing=timing).to_json())
        twin = stage.as_representation() if isinstance(stage, ClassifierStage) else None
        if twin is not None and twin.key in plan.stages:  # it came along, charged to this one
            timing = dataclasses.replace(timing, device_s=0.0)
            put_representation(location, twin, record, timing)


def put_representation(location: str, stage: RepresentationStage, like: Record, timing: Timing) -> None:
    """Write the record of a first training that is that of another record."""
    record = dataclasses.replace(
        like,
        key=stage.key,
        kind=stage.kind,
        stage=stage.to_dict(),
        metrics={"train_loss": 1.0},
        confusion=(),
        curves=tuple({"step": row["step"], "train_loss": 1.0} for row in like.curves),
        artifacts={"weights": Artifact(file="weights-0.safetensors", sha256="0" * 64, num_bytes=8)},
        timing=timing,
    )
    path = Path(location) / "stages" / stage.key / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record.to_json())


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_methods(*OTHERS)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Results:
    """Results of twelve seeds of known truth; no run uses smote."""
    truth = Truth(accuracy=lambda run: ACCURACY[run.cell.method_label], residual_sd=0.001)
    store = make_store(tmp_path_factory.mktemp("methods") / "store", plan, truth)
    put_times(store.location, plan)
    return read_results(store.location)


@pytest.fixture(scope="module")
def frame(results: Results) -> pd.DataFrame:
    return methods_frame(results.runs, results.cells, results.comparisons, results.tunings).set_index(
        "method"
    )


def test_each_study_is_ranked_and_compared_by_its_own_runs(tmp_path: Path) -> None:
    few, many = plan_methods("focal", seeds=3), plan_methods("focal", "mixup", seeds=6)
    truth = Truth(accuracy=lambda run: 0.8 + 0.1 * (run.cell.method_label == "focal"))
    for name, plan in (("few", few), ("many", many)):
        named = compile_study(dataclasses.replace(plan.study, name=name), plan.execution)
        store = make_store(tmp_path, named, truth)
    results = read_results(store.location)
    frame = methods_frame(results.runs, results.cells, results.comparisons, results.tunings)
    by_study = {name: of_study.set_index("method") for name, of_study in frame.groupby("study")}
    assert set(by_study["few"]["n"]) == {3} and set(by_study["many"]["n"]) == {6}
    assert set(by_study["few"]["family_size"]) == {3} and set(by_study["many"]["family_size"]) == {5}
    pairs = name_difference("accuracy", "none", "n_pairs")
    assert by_study["few"].loc["focal", pairs] == 3 and by_study["many"].loc["focal", pairs] == 6
    assert by_study["few"].loc["focal", "standing"] == "undecided"
    alone = read_results(store.location, studies=["few"])
    expected = methods_frame(alone.runs, alone.cells, alone.comparisons, alone.tunings).set_index("method")
    pd.testing.assert_frame_equal(by_study["few"], expected, check_dtype=False)


def test_another_study_takes_no_reference_from_a_study_by_its_name(tmp_path: Path) -> None:
    """With another oversample beside it, the one of a study is called "oversample, method.draw random"."""
    first, other = plan_methods("focal", seeds=6), plan_methods("oversample", seeds=6)
    store = make_store(tmp_path, first)
    alone = read_results(store.location)
    cells = tuple(
        dataclasses.replace(cell, method=dataclasses.replace(cell.method, draw="cyclic"))
        for cell in other.study.cells
        if cell.method.name == "oversample"
    )
    study = Study(name="other", cells=cells, seeds=other.study.seeds)
    make_store(tmp_path, compile_study(study, other.execution))
    both = read_results(store.location)
    assert "oversample, method.draw random" in set(both.cells["method"])
    (note,) = (note for note in both.notes if "several configurations" in note)
    assert note.startswith("oversample has")
    frames = [methods_frame(each.runs, each.cells, each.comparisons, each.tunings) for each in (alone, both)]
    pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize("protocol", ["sound", "sound+classifier.budget.steps=18000"])
def test_tuned_methods_stand_beside_untuned_ones(protocol: str, tmp_path: Path) -> None:
    """Studies of the same seeds, two of them with learning rates of searches."""
    untuned = plan_methods("focal", "cgan", seeds=6)
    plans = [untuned, tune(untuned, "tuned", protocol, 1e-3), tune(untuned, "again", protocol, 2e-3)]
    for plan in plans:
        store = make_store(tmp_path, plan)
    plain = ["none", "oversample", "mlp_cgan_relu", "focal"]
    for plan in plans:
        alone = read_results(store.location, studies=[plan.study.name])
        assert in_order(alone.cells["method"]) == in_order(plain)
    both = read_results(store.location, studies=[untuned.study.name, "tuned"])
    assert both.cells["setting"].nunique() == 1
    assert set(both.cells["method"]) == {*plain, *(f"{name}, tuned" for name in plain)}
    frames = compute_frames(both)
    tables = build_tables(both, frames)
    for name in ("t0-leaders", "t1-replication-all"):
        assert set(tables[name].frame["method"]) == set(both.cells["method"])
    pairs = {frozenset(pair) for pair in frames.contrasts[["method", "comparator"]].to_numpy().tolist()}
    assert len(pairs) == 28 and {"focal", "focal, tuned"} in pairs
    assert "none, tuned" in set(tables["t2-differences"].frame["method"])
    assert set(frames.methods["setting"]) == {untuned.study.name, "tuned"}
    for _, of_study in frames.methods.groupby("study"):
        assert sorted(of_study["method"]) == sorted(plain)
        assert of_study[name_difference("accuracy", "none", "n_pairs")].sum() == 3 * 6
    every = read_results(store.location).cells["method"]
    rates = {f"focal, tuned, classifier.learning_rate {rate}" for rate in (0.001, 0.002)}
    assert every.is_unique and rates < set(every)


def test_original_set_is_no_place_of_comparison_where_none_is_tuned() -> None:
    of_none = pd.DataFrame({"data": ORIGINAL, "method": ["none", "none, tuned"]})
    assert compared_data(of_none) == []
    assert compared_data(of_none.replace("none, tuned", "focal, tuned")) == [ORIGINAL]


# Ranks


def test_methods_stand_by_family_and_rank_and_families_by_their_best(frame: pd.DataFrame) -> None:
    assert set(frame["family"]) == {"loss", "after training", "resampling", "made images", "none"}
    ranks = frame["rank"].astype(int)
    assert ranks["balanced_softmax"] == 1 and ranks["undersample"] == 7 and sorted(ranks) == list(range(1, 8))
    best = frame.groupby("family", sort=False)["rank"].min()
    assert list(best) == sorted(best)
    for _, family in frame.groupby("family", sort=False):
        assert list(family["rank"]) == sorted(family["rank"])
    assert frame["family"].ne(frame["family"].shift()).sum() == frame["family"].nunique()


def test_ranks_are_open_among_methods_of_one_accuracy_alone(frame: pd.DataFrame) -> None:
    told = {name: (int(row["rank_low"]), int(row["rank_high"])) for name, row in frame.iterrows()}
    assert told["balanced_softmax"] == (1, 1) and told["undersample"] == (7, 7) and told["none"] == (6, 6)
    assert told["oversample"][0] >= 2 and told["oversample"][1] == 5
    assert (frame["rank_low"] <= frame["rank"]).all() and (frame["rank"] <= frame["rank_high"]).all()


def test_mean_has_students_interval_with_a_seventh_of_the_error(
    frame: pd.DataFrame, results: Results
) -> None:
    runs = results.runs
    values = runs.loc[runs["method"] == "focal", "macro_f1"].to_numpy()
    half = stats.t.ppf(1 - 0.05 / 14, 11) * values.std(ddof=1) / np.sqrt(12)
    row = frame.loc["focal"]
    assert row["mean"] == pytest.approx(values.mean())
    assert (row["mean_low"], row["mean_high"]) == pytest.approx((values.mean() - half, values.mean() + half))


# Differences


def test_differences_of_a_metric_are_one_family_from_both_references(
    frame: pd.DataFrame, results: Results
) -> None:
    wide = results.runs.pivot(index="seed", columns="method", values="recall_tail")
    pairs = [(name, "none") for name in frame.index if name != "none"]
    pairs += [(name, "oversample") for name in frame.index if name not in ("none", "oversample")]
    expected = holm([sign_flip_p((wide[first] - wide[second]).to_numpy()) for first, second in pairs])
    found = [frame.loc[first, name_difference("recall_tail", second, "holm_p")] for first, second in pairs]
    assert found == pytest.approx(expected) and set(frame["family_size"]) == {len(pairs)} == {11}
    assert pd.isna(frame.loc["none", name_difference("accuracy", "oversample", "mean_difference")])


def test_leading_metric_has_the_differences_of_a1(frame: pd.DataFrame, results: Results) -> None:
    for row in compare_with_references(results.runs, results.comparisons).to_dict("records"):
        reference = row["change"].rpartition(", not ")[2]
        of_pair = {
            column: frame.loc[row["method"], name_difference("accuracy", reference, column)]
            for column in ("n_pairs", "mean_difference", "difference_low", "holm_p", "verdict")
        }
        assert of_pair == {
            column: pytest.approx(row[column]) for column in of_pair if column != "verdict"
        } | {"verdict": row["verdict"]}


def test_every_tested_metric_has_its_verdicts(frame: pd.DataFrame) -> None:
    for metric in TESTED:
        verdicts = frame[name_difference(metric, "none", "verdict")]
        assert verdicts["balanced_softmax"] == "better" and verdicts["undersample"] == "worse"


# Costs, and matching


def test_device_time_of_a_run_holds_all_of_its_generator(frame: pd.DataFrame) -> None:
    assert dict(frame["device_s"]) == {
        "none": 10,
        "oversample": 40,
        "undersample": 20,
        "balanced_softmax": 11,
        "logit_adjustment": 10.5,  # with the training of none, which is charged to none
        "focal": 10,
        "mlp_cgan_relu": 120,
    }
    assert frame.loc["mlp_cgan_relu", "device_ratio"] == 12


def test_a_first_training_is_charged_to_its_finished_runs(tmp_path: Path) -> None:
    """crt and lws start from one training of 20 s, and have 20 s each; a missing run has none of it.

    Until one is finished, the planned runs share what it took.
    """
    plan = plan_methods("crt", "lws", seeds=1)
    store = make_store(tmp_path / "store", plan)
    put_times(store.location, plan)
    (first,) = (stage for stage in plan.stages.values() if isinstance(stage, RepresentationStage))
    runs = {run.cell.method_label: run for run in plan.runs}
    record = store.read_record(runs["crt"].key)
    assert record is not None
    put_representation(
        store.location, first, record, Timing(wall_s=700.0, train_s=1.0, num_errors=0, device_s=20.0)
    )
    shared = read_results(store.location).runs.set_index("method")["device_s"]
    assert (shared["crt"], shared["lws"]) == (30, 30)
    all_s = {run.key: record.timing.charged_s for run in plan.runs if (record := store.read_record(run.key))}
    for name, expected in (("lws", (40, None)), ("crt", (10, 10))):
        (Path(store.location) / "stages" / runs[name].key / "result.json").unlink()
        found = read_results(store.location, allow=["gaps"])
        shared = found.runs.set_index("method")["device_s"]
        assert tuple(shared[["crt", "lws"]].replace(np.nan, None)) == expected
        del all_s[runs[name].key]
        total = cost_tables(found.planned, found.generator_costs)[1].frame["total_min"].iloc[-1]
        assert total == pytest.approx((20 + sum(all_s.values())) / 60)


def test_front_is_what_nothing_betters_in_score_and_time(frame: pd.DataFrame) -> None:
    # focal is better than none in the same time, and balanced softmax better than all in hardly more.
    assert set(frame.index[frame["is_on_front"]]) - {"logit_adjustment"} == {"focal", "balanced_softmax"}


def test_methods_beat_match_or_fall_short(frame: pd.DataFrame) -> None:
    standing = dict(frame["standing"])
    assert standing.pop("oversample") == "" and standing.pop("logit_adjustment") in ("beats", "matches")
    assert standing == {
        "balanced_softmax": "beats",
        "focal": "matches",
        "mlp_cgan_relu": "matches",
        "none": "falls short",
        "undersample": "falls short",
    }
    assert "match and 2 fall short." in methods_tables(frame.reset_index())[-2].meaning
    few = frame.reset_index()[lambda rows: rows["method"].isin(["oversample", "none", "balanced_softmax"])]
    assert "of 2 methods: 1 beats and 1 falls short." in methods_tables(few)[-2].meaning
    note = methods_tables(frame.reset_index())[-2].notes[1]
    assert note.startswith("As H14, in macro F1 and for every method: “matches” is non-inferiority")
    assert "Sign-flip tests (exact up to 20 pairs, random signs above)" in note
    assert (
        "any false “matches” or “beats” on a training set is at most 5 %, 2.5 % for the upper side of each "
        "test; “falls short” is not counted in it." in note
    )


def test_methods_with_one_mean_share_the_lead_of_r1(frame: pd.DataFrame) -> None:
    tied = frame.reset_index()
    tied.loc[tied["rank"] == 2, ["rank", "mean", "rank_low"]] = 1, tied["mean"].max(), 1
    names = list(tied.loc[tied["rank"] == 1, "method"])
    assert f"{names[0]} and {names[1]} share the highest mean" in methods_tables(tied)[0].meaning


def test_a_lead_is_held_against_minus_the_margin_and_against_nothing(
    frame: pd.DataFrame, results: Results
) -> None:
    wide = results.runs.pivot(index="seed", columns="method", values="macro_f1")
    others = [name for name in frame.index if name != "oversample"]
    leads = [(wide[name] - wide["oversample"]).to_numpy() for name in others]
    for column, margin in (("superiority_p", 0.0), ("non_inferiority_p", MARGIN)):
        expected = holm([sign_flip_p(lead + margin) for lead in leads])
        assert list(frame.loc[others, column]) == pytest.approx(list(expected))


# What readers see


@pytest.mark.slow
def test_answer_is_ranking_differences_and_costs_and_one_row_a_method(results: Results) -> None:
    text, table = answer_methods(results.location, results.studies[0], 180)
    for name in (
        "R1. Methods by macro F1",
        "R2. Methods minus none",
        "R2. Methods minus oversample",
        "R3. Macro",
    ):
        assert name in text
    words = " ".join(text.replace("│", " ").split())
    assert (
        "balanced_softmax has the highest mean" in words
        and "the tests rule out all others as the best" in words
    )
    assert "plus the full cost of the generator" in words and "is one family" in words
    assert max(map(len, text.splitlines())) <= 180
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 7 and {"rank_low", "device_s", "macro_f1_minus_none_holm_p"} <= set(rows[0])


def test_three_seeds_rank_and_decide_nothing_and_say_what_it_takes(tmp_path: Path) -> None:
    plan = plan_methods("balanced_softmax", seeds=3)
    found = read_results(make_store(tmp_path / "store", plan).location)
    frame = methods_frame(found.runs, found.cells, found.comparisons, found.tunings)
    assert (frame["rank_high"] - frame["rank_low"] == 2).all()
    assert set(frame["standing"]) == {"", "undecided"}
    ranking, none, *_ = methods_tables(frame)
    assert "(exact up to 14 seeds, random signs above;" in ranking.notes[0]
    assert "among the pairs of a training set is at most 5 %." in ranking.notes[0]
    assert "With 3 seeds no two methods can be distinguished; that takes 6." in ranking.meaning
    assert "can be significant after Holm's correction over 3 differences; that takes 7 pairs" in none.meaning


def test_only_method_with_a_run_is_not_called_the_best(tmp_path: Path) -> None:
    plan = plan_methods("balanced_softmax", seeds=6)
    store = make_store(tmp_path / "store", plan, Truth(accuracy=lambda run: 0.8, seed_sd=0, residual_sd=0))
    for run in (run for run in plan.runs if run.cell.method_label != "none"):
        (Path(store.location) / "stages" / run.key / "result.json").unlink()
    found = read_results(store.location, allow=["gaps"])
    ranking, *_ = methods_tables(methods_frame(found.runs, found.cells, found.comparisons, found.tunings))
    assert ranking.meaning == "Only none has a complete run (mean 0.800)."


@pytest.mark.slow
def test_method_that_is_not_applicable_stands_in_the_table_with_its_reason(tmp_path: Path) -> None:
    plan = plan_methods("smote", "focal", seeds=6)
    store = make_store(tmp_path / "store", plan)
    for run in (run for run in plan.runs if run.cell.method_label == "smote"):
        (Path(store.location) / "stages" / run.key / "result.json").unlink()
        store.mark_failed(
            Failure(
                key=run.key,
                kind="classifier",
                stage=run.stage.to_dict(),
                error="NotApplicableError: SMOTE is not applicable to classes of 4 to 32 images",
                traceback="",
                provenance={},
                cause="not applicable",
            )
        )
    results = read_results(store.location)
    tables = build_tables(results, compute_frames(results))
    said = "smote is not applicable in 6 of 6 runs: SMOTE is not applicable to classes of 4 to 32 images."
    assert said in tables["r1-ranking"].meaning
    (row,) = tables["r1-ranking"].frame.query("method == 'smote'").to_dict("records")
    assert (row["n"], row["num_not_applicable"]) == (0, 6) and np.isnan(row["rank"])
    ranking, pareto = draw_ranking(tables["r1-ranking"].frame)
    assert "Without a complete run: smote." in ranking.caption
    assert "smote" not in [text.get_text() for text in pareto.figure.axes[0].texts]


def test_figures_show_the_numbers_of_the_tables(frame: pd.DataFrame) -> None:
    ranking, pareto = draw_ranking(frame.reset_index())
    assert (ranking.name, pareto.name) == ("f10-ranking-1", "f11-pareto-1")
    (axes,) = ranking.figure.axes
    assert [bar[0].get_xdata()[0] for bar in axes.containers] == pytest.approx(list(frame["mean"]))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert [label.rpartition("  ")[2] for label in labels] == list(frame.index)
    assert labels[0].startswith("loss:  balanced_softmax")
    assert axes.texts[0].get_text() == "1 (1 to 1)"
    (axes,) = pareto.figure.axes
    assert [text.get_text() for text in axes.texts] == list(frame.sort_values("rank").index)
    (front,) = [line for line in axes.lines if line.get_gid() == "front"]
    assert set(front.get_xdata()) >= {10, 11}
    assert "in full even where other runs use it too" in pareto.caption


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_report_has_a_chapter_of_methods_where_a_study_compares_them(
    results: Results, tmp_path: Path
) -> None:
    page = write_report(results, tmp_path / "methods").read_text(encoding="utf-8")
    assert 'id="methods"' in page and 'id="r3-cost"' in page and 'id="f11-pareto-1"' in page
    assert (tmp_path / "methods" / "tables" / "r2-oversample.md").exists()
