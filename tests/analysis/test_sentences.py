"""Every sentence about the design: written for a store that supports it, left out for one that denies it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import sentences
from analysis.collect import Results, read_results
from analysis.compare import EXPLORATORY, compare
from analysis.naming import describe_cells
from analysis.report import write_report
from analysis.tables import build_tables, compute_frames
from lt_rebalance.ground.paper import NO_ROW
from lt_rebalance.ground.statements import describe_diverged, describe_statistic
from lt_rebalance.store import Store
from lt_rebalance.studies.ablation import ablate
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Cell, Study
from tests.analysis.synthetic import make_store, plan_study


def cell(protocol: str = "sound", c: str | None = "1/2", method: str = "none", **classifier: Any) -> Cell:
    generator = "mlp_cgan_relu" if method == "cgan" else None
    made = make_cell(get_protocol(protocol), dataset="fashion_mnist", c=c, method=method, generator=generator)
    return dataclasses.replace(made, classifier=dataclasses.replace(made.classifier, **classifier))


def permuted(protocol: str = "sound") -> Cell:
    made = cell(protocol)
    data = dataclasses.replace(made.data, class_order="permuted")
    return dataclasses.replace(made, protocol=f"{protocol}+permuted", data=data)


def frame_of(*cells: Cell) -> pd.DataFrame:
    """Return the cells as `Results` has them."""
    plan = compile_study(Study(name="s", cells=cells, seeds=(0,)), plan_study(num_seeds=1).execution)
    described = describe_plan(plan).cells
    return describe_cells({str(index): each for index, each in enumerate(described)})


def runs_of(states: dict[str, str], departures: dict[str, str] | None = None) -> pd.DataFrame:
    """Return runs of cells by name, a letter a run: c(omplete), C(ollapsed), d(iverged), m(issing)."""
    words = {"c": "complete", "C": "complete", "d": "diverged", "m": "missing"}
    return pd.DataFrame(
        [
            {
                "cell": name,
                "state": words[letter],
                "is_collapsed": letter == "C",
                "paper_departure": (departures or {}).get(name, ""),
            }
            for name, letters in states.items()
            for letter in letters
        ]
    )


SOUND, PAPER = frame_of(cell()), frame_of(cell("paper"))
BOTH = frame_of(cell(), cell("paper"))
ORIGINAL = frame_of(cell(c=None))
ORACLE = frame_of(cell(selection="oracle_best_test"))
TWO_METHODS = frame_of(cell(), cell(method="oversample"))
Sentence = Callable[[Any], str]

# A name, the function of a sentence, text of the sentence, data that support it, and data that contradict it.
CASES: list[tuple[str, Sentence, str, Any, Any]] = [
    ("own subset", sentences.describe_seeds, "A seed changes the subset,", SOUND, PAPER),
    ("own subset of some", sentences.describe_seeds, "the subset where it is drawn per seed", BOTH, PAPER),
    ("fixed subset", sentences.describe_seeds, "The subset is one fixed draw", PAPER, SOUND),
    ("fixed subset of some", sentences.describe_seeds, "The subset where it is the paper's", BOTH, SOUND),
    ("no subset at all", sentences.describe_seeds, "subset", SOUND, ORIGINAL),
    ("order of classes", sentences.describe_seeds, "order of classes", frame_of(permuted()), SOUND),
    ("generator", sentences.describe_seeds, "generator", frame_of(cell(method="cgan")), SOUND),
    ("pairs", sentences.describe_pairs, "compared in pairs", TWO_METHODS, SOUND),
    ("pairs of one C each", sentences.describe_pairs, "pairs", TWO_METHODS, frame_of(cell(), cell(c="7/9"))),
    (
        "shared within a C of a setting",
        sentences.describe_pairs,
        "Within a setting and a C,",
        TWO_METHODS,
        SOUND,
    ),
    ("reported last", sentences.describe_reported_round, "after the last round", SOUND, ORACLE),
    ("reported by oracle", sentences.describe_reported_round, "on the test images", ORACLE, SOUND),
    ("test never chose", sentences.describe_choice, "to report, never to choose", SOUND, ORACLE),
    ("test chose", sentences.describe_choice, "chosen on the test images", ORACLE, SOUND),
    ("sample", sentences.describe_sample, "small sample", SOUND.assign(dataset="x_mini"), SOUND),
    (
        "diverged",
        sentences.describe_left_out,
        "1 diverged, left out of every mean: their absence depends on the outcome.",
        runs_of({"a": "ccd"}),
        runs_of({"a": "ccm"}),
    ),
    (
        "mixed outcomes",
        sentences.describe_assumptions,
        "In 1 configuration some runs collapse",
        runs_of({"a": "cC", "b": "CC"}),
        runs_of({"a": "cc", "b": "CC"}),
    ),
    (
        "paper's numbers absent",
        sentences.describe_papers_numbers,
        "none of these cells: its runs differ in loss",
        runs_of({"a": "c"}, {"a": "loss"}),
        runs_of({"a": "c"}),
    ),
    (
        "paper has no row",
        sentences.describe_papers_numbers,
        "Table 1 has no such row",
        runs_of({"a": "c", "b": "c"}, {"a": NO_ROW}),
        runs_of({"a": "c"}, {"a": "loss"}),
    ),
    (
        "single runs",
        sentences.describe_single_runs,
        "The paper reports one run per row",
        runs_of({"a": "c"}),
        runs_of({"a": "c"}, {"a": "loss"}),
    ),
    (
        "compared with the paper",
        sentences.describe_replication,
        "the paper's single run is compared with it",
        runs_of({"a": "c"}),
        runs_of({"a": "c"}, {"a": "loss"}),
    ),
    (
        "pairs left out",
        sentences.describe_pairs_left_out,
        "Of 10 planned pairs, 2 diverged, left out of the differences",
        pd.DataFrame({"n_expected": [5, 5], "n_diverged": [0, 2]}),
        pd.DataFrame({"n_expected": [5, 5], "n_diverged": [0, 0]}),
    ),
    (
        "declared contrasts",
        sentences.describe_families,
        "1 of 2 contrasts belongs to a family",
        pd.DataFrame({"family": ["claims", EXPLORATORY]}),
        pd.DataFrame({"family": [EXPLORATORY] * 2}),
    ),
    (
        "no declared contrast",
        sentences.describe_families,
        "all are exploratory",
        pd.DataFrame({"family": [EXPLORATORY] * 2}),
        pd.DataFrame({"family": ["claims"] * 2}),
    ),
    (
        "contrasts in another metric than the families",
        sentences.describe_families,
        "are in accuracy, these contrasts in macro F1; none belongs to one, so all are exploratory.",
        pd.DataFrame({"family": [EXPLORATORY], "metric": "macro_f1"}),
        pd.DataFrame({"family": [EXPLORATORY], "metric": "accuracy"}),
    ),
    (
        "exploratory others",
        sentences.describe_families,
        "the others are exploratory",
        pd.DataFrame({"family": ["claims", EXPLORATORY]}),
        pd.DataFrame({"family": ["claims"] * 2}),
    ),
    (
        "no contrast",
        sentences.describe_families,
        "of the same seed",
        pd.DataFrame({"family": ["x"]}),
        pd.DataFrame(),
    ),
    (
        "chosen on validation",
        sentences.describe_search_choice,
        "made on validation images",
        ["macro F1 on validation"],
        ["match of generated with real diversity"],
    ),
    (
        "registered",
        sentences.describe_registered,
        "Before the first run: the contrasts of “claims of the paper” and H1. Everything else is exploratory",
        {"one": ["H1", "claims of the paper"]},
        {"one": [], "two": []},
    ),
    (
        "interim",
        sentences.describe_interim,
        "1 of 10 seeds of its plan is complete, and the stopping rule asks for at least 3. No verdict",
        {"pilot": (1, 10, 3)},
        {"pilot": (4, 10, 3)},
    ),
    (
        "not all seeds",
        sentences.describe_seeds_registered,
        "4 of 10 seeds of its plan are complete.",
        {"pilot": (4, 10, 3)},
        {"pilot": (10, 10, 3)},
    ),
    (
        "registered differences",
        sentences.describe_registered,
        "Before the first run: the differences between methods in R2 and H1. Everything else",
        {"one": ["H1", "R2"]},
        {"one": ["H1"]},
    ),
    (
        "registered by one of two",
        sentences.describe_registered,
        "Before the first run of one: H1. Before the first run of two: H2 and H3. Everything else",
        {"one": ["H1"], "none": [], "two": ["H2", "H3"]},
        {"one": ["H1", "H2", "H3"]},
    ),
    ("sound", sentences.describe_protocols, "follows good practice", SOUND, PAPER),
    ("paper", sentences.describe_protocols, "what the paper's code did", BOTH, SOUND),
    ("bars", sentences.describe_trial_bars, "bars of one standard deviation", 2, 1),
    ("pruned", sentences.describe_trial_ends, "Pruned:", ["complete", "pruned"], ["complete"]),
    ("failed", sentences.describe_trial_ends, "Failed:", ["failed"], ["complete", "pruned"]),
]


@pytest.mark.parametrize(
    ("sentence", "said", "bears", "refutes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_sentence_is_said_only_where_the_cells_bear_it(
    sentence: Sentence, said: str, bears: Any, refutes: Any
) -> None:
    assert said in sentence(bears)
    assert said not in sentence(refutes)


def test_every_sentence_has_its_two_stores() -> None:
    """Each function that describes something occurs in a test of this file."""
    text = Path(__file__).read_text(encoding="utf-8")
    names = [name for name in vars(sentences) if name.startswith("describe_") and hasattr(sentences, name)]
    own = [name for name in names if getattr(sentences, name).__module__ == sentences.__name__]
    assert len(own) > 15 and not [name for name in own if f"sentences.{name}" not in text]


def test_runs_that_no_plan_has_are_counted_where_tables_count_them() -> None:
    runs = pd.DataFrame({"cell": ["a", "a", "b"], "key": ["1", "2", "3"]})
    planned: dict[str, dict[str, tuple[str, ...]]] = {"first": {"a": ("1",)}, "other": {"b": ()}}
    said = sentences.describe_unregistered(runs, {"first": ["H1"], "other": []}, planned, ())
    assert said.startswith("1 run of these configurations is in no registered plan.")
    assert sentences.describe_unregistered(runs[runs["key"] != "2"], {"first": ["H1"]}, planned, ()) == ""
    without_claims = planned | {"other": {"a": ("2",), "b": ()}}
    assert (
        sentences.describe_unregistered(runs, {"first": ["H1"], "other": []}, without_claims, ["other"]) == ""
    )


def test_tables_that_take_spread_apart_are_named_only_where_they_do() -> None:
    pairs, single = pd.DataFrame({"n_pairs": [0, 2]}), pd.DataFrame({"n_pairs": [0, 1]})
    said = sentences.describe_spread(TWO_METHODS, pairs, has_seeds_apart=True)
    assert "T4a separates" in said and "T4b separates" in said
    for cells, contrasts in ((SOUND, pd.DataFrame()), (TWO_METHODS, single)):
        said = sentences.describe_spread(cells, contrasts, has_seeds_apart=False)
        assert "T4a" not in said and "T4b" not in said
    assert "does not include it" in sentences.describe_spread(PAPER, pairs, has_seeds_apart=False)


def test_what_looks_across_settings_is_named_only_where_there_are_several() -> None:
    assert "All configurations belong to one setting" in sentences.describe_settings(
        SOUND, has_comparisons=False
    )
    said = sentences.describe_settings(BOTH, has_comparisons=False)
    assert "only hypotheses compare across" in said
    assert "comparisons with references" in sentences.describe_settings(BOTH, has_comparisons=True)


def test_seeds_apart_and_fresh_seeds_are_counted() -> None:
    assert sentences.describe_seeds_apart(0, 4) == ""
    assert "6 of these runs have separate seeds" in sentences.describe_seeds_apart(6, 2)
    assert "leave them out" not in sentences.describe_seeds_apart(6, 0)
    assert "seeds that the search did not use" in sentences.describe_fresh_seeds([1000, 1001], [0, 1])
    assert "also used 1 of these seeds" in sentences.describe_fresh_seeds([1000, 1001], [0, 1001])
    assert "single seed" in sentences.describe_trials(3, "3 complete", 1)
    assert "mean over 2 seeds with its standard deviation" in sentences.describe_trials(3, "3 complete", 2)


def test_what_the_terminal_and_the_report_share() -> None:
    assert describe_diverged(0) == "" and describe_diverged(2).startswith("2 diverged, left out of the mean")
    assert "over seeds" in describe_statistic(3, has_shared_subsets=False)
    assert "over seeds" not in describe_statistic(3, has_shared_subsets=True)
    assert "±" not in describe_statistic(1, has_shared_subsets=False)


# Whole reports

FALSE_OF_THE_PAPERS_DRAW = ("its own subset", "A seed changes the subset")
FALSE_OF_AN_ORACLE = ("never to choose", "after the last round")


def diverge(store: Store, key: str) -> None:
    """Make the record of a run one that diverged."""
    record = store.read_record(key)
    assert record is not None
    record = dataclasses.replace(record, state="diverged", metrics={}, confusion=(), quality_per_class={})
    (Path(store.location) / "stages" / key / "result.json").write_bytes(record.to_json())


@pytest.fixture(scope="module")
def refuting(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The paper's draw, an oracle's choice, one run diverged: what denies most sentences about a design."""
    cells = [cell("paper", method=method, selection="oracle_best_test") for method in ("none", "oversample")]
    plan = compile_study(
        Study(name="refuting", cells=tuple(cells), seeds=tuple(range(6))), plan_study(num_seeds=1).execution
    )
    store = make_store(tmp_path_factory.mktemp("refuting") / "store", plan)
    diverge(store, next(run.key for run in plan.runs if run.seed == 2))
    return read_results(store.location)


@pytest.fixture(scope="module")
def page(refuting: Results, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_report(refuting, tmp_path_factory.mktemp("refuting") / "report")
    return " ".join(path.read_text(encoding="utf-8").split())


def test_no_page_says_what_its_store_denies(page: str) -> None:
    for false in (*FALSE_OF_THE_PAPERS_DRAW, *FALSE_OF_AN_ORACLE):
        assert false not in page, false
    assert "the reported round was chosen on the test images" in page
    assert "of the round that was best on the test images themselves" in page
    assert "its runs differ in selection" in page


def test_diverged_runs_are_said_wherever_a_mean_or_a_difference_stands(refuting: Results, page: str) -> None:
    tables = build_tables(refuting, compute_frames(refuting))
    said = "their absence depends on the outcome"
    for name in ("t1-replication-all", "t1-replication-healthy", "t2-differences", "t3-collapse"):
        assert said in tables[name].meaning, name
        texts = [each.text for block in tables[name].blocks() for row in block.rows for each in row]
        assert "5 of 6 (1 diverged)" in texts, name
    assert said in tables["t6-completeness"].meaning
    for figure in ("f1-replicates-1", "f2-differences-1", "f3-wins-1", "f5-curves-1", "f6-recalls-1"):
        caption = page.partition(f'<figure id="{figure}"')[2].partition("</figure>")[0]
        assert said in caption, figure
    assert (
        said
        not in build_tables(refuting, compute_frames(without_diverged(refuting)))["t2-differences"].meaning
    )


def without_diverged(results: Results) -> Results:
    return dataclasses.replace(results, runs=results.runs[results.runs["state"] == "complete"])


# Names of studies never meet names of columns


@pytest.mark.slow
def test_studies_may_bear_the_names_of_columns(tmp_path: Path) -> None:
    """One store with a study for each name, each with seeds of its own."""
    names = ["exploratory", "n", "mean", "cell", "all", "study", "setting", "family"]
    names += ["verdict", "holm_p", "key"]
    for number, name in enumerate(names):
        study = ablate([cell()], [{"classifier.beta1": 0.99}]).study(name, range(6 * number, 6 * number + 6))
        store = make_store(tmp_path / "store", compile_study(study, plan_study(num_seeds=1).execution))
    results = read_results(store.location)
    tables = build_tables(results, compute_frames(results))
    blocks = list(tables["a1-ablations"].blocks())
    assert sorted(block.setting for block in blocks) == sorted(names)
    assert [len(block.rows) for block in blocks] == [1] * len(names)


def test_contrasts_of_a_family_named_as_the_mark_of_none_are_refused() -> None:
    from analysis.compare import load_families

    (family,) = load_families()
    for name in (EXPLORATORY, ""):
        with pytest.raises(ValueError, match=r"rename it in families\.toml"):
            dataclasses.replace(family, name=name)


def test_changes_of_two_settings_with_one_name_are_both_drawn(tmp_path: Path) -> None:
    from analysis.figures.ablations import draw_changes

    changes = [{"classifier.beta1": 0.99}]
    study = ablate([cell(), cell("paper")], changes).study("two", range(3))
    plan = compile_study(study, plan_study(num_seeds=1).execution)
    results = read_results(make_store(tmp_path / "store", plan).location)
    (drawn,) = draw_changes(results.runs, results.comparisons)
    labels = [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()]
    assert len(labels) == len(set(labels)) == 2
    contrasts = compare(results.runs)
    assert contrasts.empty or np.isfinite(contrasts["n_pairs"]).all()


def test_what_is_left_out_of_many_classes_is_said() -> None:
    assert sentences.describe_shown(20) == ""
    assert sentences.describe_shown(1000).startswith("Of 1,000 classes, the 5 with the lowest mean recall")
