"""Verdicts of registered studies: what a plan has registered, and what is exploratory or interim."""

import dataclasses
from pathlib import Path

import pytest

from analysis.answers import answer_methods
from analysis.collect import read_results
from analysis.hypotheses import judge_hypotheses
from analysis.report import write_report
from analysis.sentences import describe_registered, describe_unregistered
from analysis.tables.claims import hypothesis_table
from analysis.tables.writers import to_markdown
from lt_rebalance.studies.plan import describe_plan
from tests.analysis.synthetic import make_store, plan_study


def test_a_hypothesis_is_registered_where_the_study_that_registers_it_has_cells(tmp_path: Path) -> None:
    """H7 by `second` alone; H10, which compares cells of both, too; H4 by `first`."""
    for name, protocol, confirmatory in (("first", "sound", ("H4",)), ("second", "paper", ("H7", "H10"))):
        plan = plan_study(
            name=name,
            protocols=(protocol,),
            cs=("7/9", "1/2"),
            methods=("none", "undersample"),
            generators=(),
            num_seeds=1,
        )
        document = dataclasses.replace(
            describe_plan(plan), confirmatory=confirmatory, changes=("2026-11-30: x.",)
        )
        store = make_store(tmp_path, plan)
        store.write_study(document)
    results = read_results(store.location)
    judged = judge_hypotheses(results)
    is_first = judged["where"].str.startswith("sound")
    found = {
        name: list(of_one["registration"])
        for name, of_one in judged[judged["where"] != ""].groupby("hypothesis")
    }
    assert list(judged.loc[is_first & (judged["hypothesis"] == "H7"), "registration"]) == ["exploratory"]
    assert sorted(found["H7"]) == sorted(found["H4"]) == ["exploratory", "registered"]
    assert list(judged.loc[is_first & (judged["hypothesis"] == "H4"), "registration"]) == ["registered"]
    assert found["H10"] == ["registered"] and set(judged.query("hypothesis == 'H5'")["registration"]) == {
        "exploratory"
    }
    assert describe_registered(results.confirmatory) == (
        "Before the first run of first: H4. Before the first run of second: H7 and H10. Everything else is "
        "exploratory, and so is every test with a q."
    )
    assert results.changes == ("first: 2026-11-30: x.", "second: 2026-11-30: x.")
    alone = read_results(store.location, studies=["second"])
    assert set(judge_hypotheses(alone).query("hypothesis == 'H7'")["registration"]) == {"registered"}
    assert describe_registered(alone.confirmatory).startswith("Before the first run: H7 and H10. Everything")
    assert alone.changes == ("2026-11-30: x.",)


@pytest.mark.parametrize("fewest", [4, 5])
def test_verdict_of_a_study_below_the_fewest_seeds_of_its_stopping_rule_is_interim(
    tmp_path: Path, fewest: int
) -> None:
    plan = plan_study(
        name="planned", cs=("1/2",), methods=("none", "undersample"), generators=(), num_seeds=4
    )
    registered = {"seeds": 6, "least_seeds": fewest, "changes": []}
    document = dataclasses.replace(describe_plan(plan), confirmatory=("H4",), registered=registered)
    store = make_store(tmp_path, plan)
    store.write_study(document)
    results = read_results(store.location)
    is_interim = fewest > 4
    assert results.interim == ({"planned"} if is_interim else set())
    judged = judge_hypotheses(results)
    said = "interim" if is_interim else "registered"
    assert list(judged.query("hypothesis == 'H4'")["registration"]) == [said]
    table = to_markdown(hypothesis_table(judged))
    assert (f"({said})" in table) and ("Nothing can rest on such a verdict" in table) == is_interim
    page = write_report(results, tmp_path / "report").read_text()
    assert ("INTERIM:</strong> 4 of 6 seeds" in page) == is_interim
    printed, _ = answer_methods(store.location, "planned", 100)
    assert printed.startswith("INTERIM: 4 of 6 seeds") == is_interim


def test_verdict_with_seeds_that_nobody_registered_is_exploratory(tmp_path: Path) -> None:
    """The registered study has four seeds of its plan's six, and another study adds two."""
    for name, num_seeds in (("planned", 4), ("more", 6)):
        plan = plan_study(
            name=name, cs=("1/2",), methods=("none", "undersample"), generators=(), num_seeds=num_seeds
        )
        store = make_store(tmp_path, plan)
        document = describe_plan(plan)
        if name == "planned":
            changes = [{"seeds": 6, "least_seeds": 4}, {"what": "nothing"}]
            registered = {"seeds": 8, "changes": changes}
            document = dataclasses.replace(document, confirmatory=("H4",), registered=registered)
        store.write_study(document)
    for studies, said in ((["planned"], "registered"), (["planned", "more"], "exploratory")):
        results = read_results(store.location, studies=studies)
        judged = judge_hypotheses(results)
        assert list(judged.query("hypothesis == 'H4'")["registration"]) == [said]
        assert results.registered_seeds == {"planned": (4, 6, 4)}
        said = describe_unregistered(
            results.runs, results.confirmatory, results.study_keys, results.registered_seeds
        )
        assert said.partition(" of these")[0] == ("" if len(studies) == 1 else "4 runs")
