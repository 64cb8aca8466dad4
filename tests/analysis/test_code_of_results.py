"""Checks that the report says which code made results, and when code does not distinguish the runs."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from analysis.collect import Results, read_results
from analysis.tables.completeness import provenance_table
from lt_rebalance.store import open_store
from lt_rebalance.studies.plan import describe_plan
from lt_rebalance.studies.stage import RESULTS_VERSION
from tests.analysis.synthetic import (
    PROVENANCE,
    Truth,
    invent_records,
    make_store,
    plan_study,
)

FIRST, SECOND = "a" * 40, "b" * 40
OLD_UNKNOWN = {"commit": "", "is_dirty": False}
"""as records have it from before files were hashed"""
NEW_UNKNOWN = {"commit": None, "is_dirty": None, "source_sha256": None}


def results_made_by(root: Path, *codes: dict[str, Any]) -> Results:
    """Return four runs, made by these kinds of code in turn."""
    plan = plan_study(cs=("1/2",), methods=("none",), num_seeds=4)
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    store.write_study(describe_plan(plan))
    for index, record in enumerate(invent_records(store, plan, Truth(), 0)):
        code = {name: value for name, value in PROVENANCE.items() if name not in ("commit", "is_dirty")}
        store.commit(dataclasses.replace(record, provenance=code | codes[index % len(codes)]))
    return read_results(store.location)


def rows_of(results: Results, name: str) -> dict[str, int]:
    frame = provenance_table(results.planned).frame
    rows = frame[frame["name"] == name]
    return dict(zip(rows["value"], rows["num_runs"], strict=True))


def code(commit: str | None, is_dirty: bool | None, source: str) -> dict[str, Any]:
    return {"commit": commit, "is_dirty": is_dirty, "source_sha256": source * 64}


@pytest.mark.parametrize("unknown", [OLD_UNKNOWN, NEW_UNKNOWN, {}])
def test_unknown_code_is_unknown_and_runs_that_it_made_cannot_be_told_apart(
    unknown: dict[str, Any], tmp_path: Path
) -> None:
    results = results_made_by(tmp_path, unknown)
    assert rows_of(results, "commit") == {"unknown": 4}
    assert rows_of(results, "with uncommitted changes") == {"unknown": 4}
    meaning = provenance_table(results.planned).meaning
    assert "4 results came from code whose commit and file hash are both unknown" in meaning
    assert "cannot be distinguished" in meaning and "the same code" not in meaning
    assert any("4 results record neither a commit nor a hash of their code" in note for note in results.notes)


def test_files_tell_code_apart_where_no_commit_is_known(tmp_path: Path) -> None:
    same = results_made_by(tmp_path / "same", code(None, None, "1"))
    assert rows_of(same, "commit") == {"unknown, source 111111111111": 4}
    assert "the same code" in provenance_table(same.planned).meaning
    assert not any("distinguished" in note or "states of the code" in note for note in same.notes)
    mixed = results_made_by(tmp_path / "mixed", code(None, None, "1"), code(None, None, "2"))
    assert rows_of(mixed, "commit") == {
        "unknown, source 111111111111": 2,
        "unknown, source 222222222222": 2,
    }
    assert "results differ in: commit" in provenance_table(mixed.planned).meaning
    assert "results come from 2 states of the code" in mixed.notes


def test_files_tell_changes_of_one_commit_apart(tmp_path: Path) -> None:
    changes = {"1": False, "2": True, "3": True, "4": None}
    codes = [code(FIRST, is_dirty, source) for source, is_dirty in changes.items()]
    results = results_made_by(tmp_path, *codes)
    told = {f"{FIRST}, source {source * 12}": 1 for source in "234"}
    assert rows_of(results, "commit") == {FIRST: 1} | told
    assert rows_of(results, "with uncommitted changes") == {"no": 1, "yes": 2, "unknown": 1}
    assert "results come from 4 states of the code" in results.notes
    assert any(note.startswith("2 results were made with uncommitted changes") for note in results.notes)


def test_commits_alone_tell_clean_code_apart(tmp_path: Path) -> None:
    results = results_made_by(tmp_path, code(FIRST, False, "1"), {"commit": SECOND, "is_dirty": False})
    assert rows_of(results, "commit") == {FIRST: 2, SECOND: 2}
    assert rows_of(results, "with uncommitted changes") == {"no": 4}
    assert "results come from 2 commits of the code" in results.notes


def test_one_unknown_result_among_known_ones_is_counted(tmp_path: Path) -> None:
    results = results_made_by(tmp_path, *[code(FIRST, False, "1")] * 3, OLD_UNKNOWN)
    assert rows_of(results, "commit") == {FIRST: 3, "unknown": 1}
    assert rows_of(results, "with uncommitted changes") == {"no": 3, "unknown": 1}
    assert "1 result came from code whose commit and file hash" in provenance_table(results.planned).meaning


def test_result_without_versions_is_counted_with_unknown_ones(tmp_path: Path) -> None:
    versions = {"lt_rebalance": None, "python": None, "numpy": None, "ray": None}
    results = results_made_by(tmp_path, code(FIRST, False, "1") | {"versions": versions})
    for name in ("lt_rebalance", "Python", "numpy", "Ray"):
        assert rows_of(results, name) == {"unknown": 4}
    assert rows_of(results, "commit") == {FIRST: 4}


def meaning_of(results: Results, **changed: Any) -> str:
    """Return what T6b says where columns of the runs, by name, are these functions of a row."""
    runs = results.planned.copy()
    for name, value in changed.items():
        runs[name] = [value(run) for run in runs.to_dict("records")]
    return provenance_table(runs).meaning


def test_what_differs_is_mixed_into_a_spread_only_within_a_cell(tmp_path: Path) -> None:
    plan = plan_study(cs=("1/2",), methods=("none", "oversample"), num_seeds=2)
    results = read_results(make_store(tmp_path, plan).location)
    of_method = meaning_of(results, device=lambda run: run["method"])
    assert "Between configurations, results differ in: device." in of_method and "spread" not in of_method
    of_seed = meaning_of(results, device=lambda run: f"processor {run['seed']}")
    assert (
        "Within a configuration, results differ in: device." in of_seed
        and "Between configurations" not in of_seed
    )
    partly_known = meaning_of(results, is_dirty=lambda run: False if run["seed"] else None)
    assert "Within a configuration, results differ in: with uncommitted changes" in partly_known
    data_sets = {name: lambda run: run["method"] for name in ("dataset", "dataset_identity")}
    two_sets = meaning_of(results, **data_sets)
    assert "libraries and device, and those of one data set the same data." in two_sets
    assert "spread" not in two_sets and "differ" not in two_sets
    of_one_name = meaning_of(results, dataset_identity=lambda run: run["method"])
    assert of_one_name.startswith("Between configurations, results differ in: hash of the data.")


def test_what_results_do_not_name_is_not_said_to_be_the_same_without_a_word(tmp_path: Path) -> None:
    results = results_made_by(tmp_path, code(FIRST, False, "1"))
    assert "Some results do not record their numpy and Ray." in meaning_of(results)
    named = meaning_of(results, numpy_version=lambda run: "2", ray_version=lambda run: "2")
    assert named == "All finished runs have the same code, libraries, device and data."
