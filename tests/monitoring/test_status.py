"""The status of a study, computed by hand from a few stages."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lt_rebalance.cli.main import main
from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.monitoring.estimates import (
    LATEST,
    Estimator,
    Spending,
    add_up,
    estimate_left,
    saved_by_sharing,
    typical_by_cell,
)
from lt_rebalance.monitoring.facts import StageFacts, read_facts
from lt_rebalance.monitoring.status import (
    STRAGGLER_LEAST_S,
    StageReason,
    Status,
    describe_status,
    read_status,
)
from lt_rebalance.store import Store
from lt_rebalance.store.presence import BEAT_S, STALE_S, DriverBeat, Note, read_notes, write_note
from lt_rebalance.store.records import Timing
from lt_rebalance.store.study_document import StudyDocument
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from tests.analysis.synthetic import make_store, plan_nested, plan_study
from tests.store.test_store import make_failure

NOW_S = 1_000_000.0
PLAN = plan_study(cs=["1/2"], methods=["none", "cgan"], generators=["mlp_cgan_relu"], num_seeds=2)
GENERATORS = [run.stage.generator_stage.key for run in PLAN.runs if run.stage.generator_stage is not None]
NONE, CGAN = (
    [run.key for run in PLAN.runs if run.cell.method_label == name] for name in ("none", "mlp_cgan_relu")
)


def make_study() -> StudyDocument:
    """Two seeds of two cells: a classifier is 100 units of work, a generator 50; two slots of half a GPU."""
    flop = {key: 50.0 if stage.kind == "generator" else 100.0 for key, stage in PLAN.stages.items()}
    described = describe_plan(PLAN, "Which?", flop)
    return dataclasses.replace(described, num_slots=2, devices_per_slot=0.5)


def make_facts(**states: str) -> dict[str, StageFacts]:
    """Return facts: classifiers took 10 s of wall time and 5 s of a device, generators 8 s and 4 s."""
    facts = {}
    for key, fact in read_facts(None, make_study()).items():
        name = next(name for name, keys in NAMED.items() if key in keys) + str(PLAN.stages[key].seed)
        took = (
            {"wall_s": 10.0, "device_s": 5.0}
            if fact.kind == "classifier"
            else {"wall_s": 8.0, "device_s": 4.0}
        )
        state = states.get(name, "missing")
        metrics = {"accuracy": 0.5 + 0.1 * PLAN.stages[key].seed, "num_dead_classes": 0.0}
        changes: dict[str, Any] = {"state": state}
        if state == "complete":
            changes |= took | {"metrics": metrics}
        if state == "failed":
            changes["reason"] = "RuntimeError: no"
        facts[key] = dataclasses.replace(fact, **changes)
    return facts


NAMED = {"none": NONE, "cgan": CGAN, "generator": GENERATORS}


def make_note(keys: list[str], **changes: Any) -> Note:
    values: dict[str, Any] = {"name": f"trial-{keys[0]}.json", "title": "a trial", "keys": tuple(keys)}
    return Note(**values | {"started_s": NOW_S - 30, "round": 1, "num_rounds": 4} | changes)


def status_of(notes: list[Note], **states: str) -> Status:
    return describe_status(make_study(), make_facts(**states), notes, NOW_S)


def test_collapsed_generators_are_named_with_their_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path, PLAN)
    for key, collapsed in zip(GENERATORS, ((5, 8), ()), strict=True):
        record = store.read_record(key)
        assert record is not None
        quality = record.quality_per_class | {
            "diversity": [0.0 if label in collapsed else 1.0 for label in range(10)]
        }
        metrics = record.metrics | {"num_collapsed_classes": float(len(collapsed))}
        shutil.rmtree(tmp_path / "stages" / key)
        store.commit(dataclasses.replace(record, quality_per_class=quality, metrics=metrics, artifacts={}))
    title = "generator 1/2 mlp_cgan_relu seed 0"
    reason = "collapsed: it draws almost the same image for Sandal, Bag"
    assert read_status(store, "synthetic", NOW_S).collapsed_generators == (
        StageReason(key=GENERATORS[0], title=title, reason=reason),
    )
    assert main(["show", str(tmp_path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert f"  {GENERATORS[0][:8]}  complete  {title}: {reason}" in listed
    assert f"  {GENERATORS[1][:8]}  complete  generator 1/2 mlp_cgan_relu seed 1" in listed


def test_every_run_is_counted_in_one_state() -> None:
    status = status_of([], none0="complete", none1="diverged", generator0="failed", generator1="complete")
    assert status.runs == {"planned": 4, "complete": 1, "failed": 1, "diverged": 1, "missing": 1}
    assert status.stages["generator"] == {"planned": 2, "done": 1, "to_run": 0}
    assert status.stages["classifier"] == {"planned": 4, "done": 2, "to_run": 1}
    title = "generator 1/2 mlp_cgan_relu seed 0"
    assert status.failed == (StageReason(key=GENERATORS[0], title=title, reason="RuntimeError: no"),)


def test_time_left_is_the_work_left_over_the_devices_at_work() -> None:
    # 5 s a classifier and 4 s a generator; left: two classifiers on CGANs and both generators.
    status = status_of([], none0="complete", none1="complete")
    # Only classifiers are known, 0.05 device seconds a unit: 2 x 5 and 2 x 2.5 on 2 x 0.5 devices. The chain
    # of a generator and its classifier, by wall time, takes 5 + 10 seconds as well.
    assert status.eta_s == pytest.approx(15.0)
    assert status_of([], none0="complete", generator0="complete").eta_s == pytest.approx((3 * 5 + 4) / 1)
    assert status_of([]).eta_s is None


def test_time_left_counts_what_running_trials_have_done() -> None:
    note = make_note([NONE[1]], round=3)
    status = status_of(
        [note], none0="complete", generator0="complete", generator1="complete", cgan0="complete"
    )
    # Left: a quarter of one classifier, and another that has not begun and takes 10 s from its start.
    assert status.eta_s == pytest.approx(max((1.25 + 5) / 1, 10))


def test_time_left_is_never_less_than_the_longest_chain() -> None:
    facts = make_facts(none0="complete", generator0="complete")
    pending = [facts[GENERATORS[1]], facts[CGAN[1]]]
    assert estimate_left(pending, Estimator(facts.values()), 1000.0, {}) == pytest.approx(8 + 10)


def test_stages_of_unknown_arithmetic_count_as_equal_and_say_nothing_of_the_other_kind() -> None:
    facts = {key: dataclasses.replace(fact, flop=None) for key, fact in make_facts(none0="complete").items()}
    estimator = Estimator(facts.values())
    assert estimator.wall_s(facts[NONE[1]]) == 10 and estimator.wall_s(facts[GENERATORS[0]]) is None


# Cost


def test_cost_of_cells_adds_up_to_that_of_stages_with_generators_shared() -> None:
    status = status_of([], none0="complete", generator0="complete", cgan0="complete")
    assert status.spending == Spending(spent_s=5 + 4 + 5, left_s=5 + 4 + 5)
    assert status.spending_by_kind["generator"] == Spending(spent_s=4, left_s=4)
    assert status.spending_by_method["none"] == Spending(spent_s=5, left_s=5)
    assert status.spending_by_method["mlp_cgan_relu"] == Spending(spent_s=9, left_s=9)
    assert [cell.spending.spent_s for cell in status.cells] == [5, 9]


def test_price_is_the_rate_by_the_hour() -> None:
    assert Spending(spent_s=7200, left_s=None).to_dict(1.5) == {
        "device_hours_spent": 2.0,
        "device_hours_left": None,
        "price_spent": 3.0,
        "price_left": None,
    }
    assert (
        Spending(spent_s=3600, left_s=1800).describe(2.0)
        == "60 min spent, 30 min left; price 2.00 spent, 1.00 left"
    )
    over = Spending(spent_s=3600, left_s=0.0)
    assert (over.describe(), over.describe(2.0)) == ("60 min spent", "60 min spent; price 2.00 spent")


def test_sum_of_spendings_is_unknown_where_one_is() -> None:
    known, unknown = Spending(spent_s=1, left_s=2), Spending(spent_s=4, left_s=None)
    assert add_up([known, unknown, known], ["a", "b", "a"]) == {
        "a": Spending(spent_s=2, left_s=4),
        "b": unknown,
    }
    assert add_up([unknown, known], ["a", "a"])["a"] == Spending(spent_s=5, left_s=None)


def test_cost_of_ten_more_seeds_is_that_of_all_planned_ones_in_proportion() -> None:
    # 2 seeds of a classifier of 5 s on the real images, and of one of 5 s on a generator of 4 s.
    status = status_of([], none0="complete", generator0="complete", cgan0="complete")
    assert status.more_s == 10 * (5 + 9)
    assert status.to_dict()["device_hours_of_10_more_seeds"] == 140 / 3600
    assert list(status.describe_spending()) == [
        "device time: 14 s spent, 14 s left",
        "  classifier stages: 10 s spent, 10 s left",
        "  generator stages: 4 s spent, 4 s left",
        "  10 more seeds: about 2 min of device time, 2 min with 2 at a time",
    ]
    assert status_of([]).more_s is None
    # Medians: one run of three that took long, on a busy machine, is not taken for typical.
    runs = [(0, ("a",)), (0, ("b",)), (0, ("c",)), (1, ("g", "d")), (1, ("g", "e"))]
    spent_s = {"a": 5.0, "b": 7.0, "c": 100.0, "g": 4.0}
    assert typical_by_cell(2, runs, spent_s, {"d": 3.0, "e": 5.0}) == [7.0, 6.0]
    assert typical_by_cell(2, runs, spent_s, {"d": None, "e": None}) == [7.0, None]


# Who is at work


def test_note_of_a_live_process_is_running_and_one_of_a_dead_process_is_lost() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    notes = [make_note([NONE[0]]), make_note([NONE[1]], pid=dead.pid)]
    status = status_of(notes)
    assert [trial.keys for trial in status.running] == [(NONE[0],)]
    assert [trial.keys for trial in status.lost] == [(NONE[1],)]
    (trial,) = status.running
    assert (trial.host, trial.pid, trial.for_s, trial.round) == (socket.gethostname(), os.getpid(), 30, 1)


def test_trial_elsewhere_lives_as_long_as_its_driver_gives_signs_of_life() -> None:
    driver = Note(name="driver-x.json", title="synthetic", host="head", beat_s=NOW_S - BEAT_S)
    trial = make_note([NONE[0]], host="worker", driver="driver-x.json")
    status = status_of([driver, trial])
    assert (len(status.drivers), len(status.running), len(status.lost)) == (1, 1, 0)
    silent = dataclasses.replace(driver, beat_s=NOW_S - STALE_S - 1)
    status = status_of([silent, trial])
    assert (len(status.drivers), len(status.running), len(status.lost)) == (0, 0, 1)


def test_note_of_a_stage_that_is_done_says_nothing() -> None:
    status = status_of([make_note([NONE[0]])], none0="complete")
    assert status.running == () and status.lost == ()


def test_trial_that_takes_far_longer_than_its_like_is_a_straggler() -> None:
    ages = {10: False, STRAGGLER_LEAST_S: False, STRAGGLER_LEAST_S + 1: True}
    for age_s, expected in ages.items():
        status = status_of([make_note([NONE[1]], started_s=NOW_S - age_s)], none0="complete")
        assert [trial.is_straggler for trial in status.running] == [expected]
    status = status_of([make_note([NONE[1]], started_s=NOW_S - 1000)])
    assert [trial.is_straggler for trial in status.running] == [False]  # nothing to compare it with


def test_driver_leaves_a_note_while_it_works(tmp_path: Path) -> None:
    files = LocalFilesystem(tmp_path)
    with DriverBeat(files, "study"):
        (note,) = read_notes(files)
        assert (note.title, note.pid, note.keys) == ("study", os.getpid(), ())
    assert read_notes(files) == []


def test_file_that_is_no_note_is_passed_over(tmp_path: Path) -> None:
    files = LocalFilesystem(tmp_path)
    write_note(files, make_note([NONE[0]]))
    for index, content in enumerate([b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": ["a"], "surplus": 1}']):
        files.replace(f"running/{index}.json", content)
    assert [note.keys for note in read_notes(files)] == [(NONE[0],)]


# Reading a store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store", PLAN)


def test_facts_are_those_of_the_records(store: Store) -> None:
    facts = read_facts(store, store.load_study("synthetic"))
    assert list(facts) == list(PLAN.stages)
    for key, fact in facts.items():
        record = store.read_record(key)
        assert record is not None
        assert (fact.state, fact.metrics, fact.kind) == (record.state, record.metrics, record.kind)
        # Device time was not kept, so the wall time stands for it.
        assert record.timing == Timing(wall_s=12.0, train_s=10.0, num_errors=0)
        assert (fact.wall_s, fact.device_s, fact.flop) == (12.0, 12.0, None)


def test_facts_of_failed_missing_and_unreadable_stages(store: Store) -> None:
    root = Path(store.location) / "stages"
    (root / NONE[0] / "result.json").write_bytes(b"{")
    (root / NONE[1] / "result.json").unlink()
    (root / CGAN[0] / "result.json").unlink()
    store.mark_failed(make_failure(CGAN[0]))
    facts = read_facts(store, store.load_study("synthetic"))
    assert [facts[key].state for key in (*NONE, CGAN[0])] == ["missing", "missing", "failed"]
    assert "cannot be used" in facts[NONE[0]].reason and facts[NONE[1]].reason == ""
    assert facts[CGAN[0]].reason == "RuntimeError: no"
    status = describe_status(store.load_study("synthetic"), facts, [], NOW_S)
    assert [(each.key, each.title) for each in status.unreadable] == [(NONE[0], "sound 1/2 none seed 0")]
    assert (root / NONE[0] / "result.json").read_bytes() == b"{"


def test_every_failure_is_told_and_its_title_names_one_stage() -> None:
    grid = plan_study(
        protocols=("paper", "sound"), cs=["1/2"], methods=["cgan"], generators=["mlp_cgan_relu"], num_seeds=1
    )
    for plan in (grid, plan_nested()):
        facts = {
            key: dataclasses.replace(fact, state="failed", reason=key)
            for key, fact in read_facts(None, describe_plan(plan)).items()
        }
        failed = describe_status(describe_plan(plan), facts, [], NOW_S).to_dict()["failed"]
        assert [(each["key"], each["reason"]) for each in failed] == [(key, key) for key in plan.stages]
        assert len({each["title"] for each in failed}) == len(plan.stages)


def test_title_names_what_varies_in_the_study() -> None:
    def list_titles(plan: Plan) -> list[str]:
        return [fact.title for fact in read_facts(None, describe_plan(plan)).values()]

    axes: dict[str, Any] = {"cs": ["1/2"], "methods": ["cgan"], "generators": ["mlp_cgan_relu"]}
    assert list_titles(plan_study(protocols=("paper", "sound"), num_seeds=1, **axes)) == [
        "generator paper 1/2 mlp_cgan_relu seed 0",
        "paper 1/2 mlp_cgan_relu seed 0",
        "generator sound 1/2 mlp_cgan_relu seed 0",
        "sound 1/2 mlp_cgan_relu seed 0",
    ]
    assert list_titles(plan_nested())[2:5] == [
        "sound 1/2 mlp_cgan_relu seed 1000 of subset 0 with generator 0",
        "generator 1/2 mlp_cgan_relu seed 1000 of subset 0",
        "sound 1/2 mlp_cgan_relu seed 0 with generator 1000",
    ]
    fashion, digits = (plan_study(dataset=name, num_seeds=1, **axes) for name in ("fashion_mnist", "mnist"))
    both = dataclasses.replace(fashion.study, cells=(*fashion.study.cells, *digits.study.cells))
    assert list_titles(compile_study(both, fashion.execution)) == [
        "generator fashion_mnist 1/2 mlp_cgan_relu seed 0",
        "fashion_mnist sound 1/2 mlp_cgan_relu seed 0",
        "generator mnist 1/2 mlp_cgan_relu seed 0",
        "mnist sound 1/2 mlp_cgan_relu seed 0",
    ]


def test_kind_without_a_finished_stage_goes_by_what_the_sweep_expects() -> None:
    estimator = Estimator(make_facts().values(), {"classifier": 0.2}, num_devices=0.5)
    assert estimator.wall_s(make_facts()[NONE[0]]) == pytest.approx(100 * 0.2)
    assert estimator.device_s(make_facts()[NONE[0]]) == pytest.approx(100 * 0.2 * 0.5)


def test_what_the_sweep_expects_is_slowed_down_by_the_root_of_what_slows_the_other_kind() -> None:
    facts = make_facts(generator0="complete")
    facts[GENERATORS[0]] = dataclasses.replace(facts[GENERATORS[0]], train_s=8.0)
    # A generator of 50 units was to train for 2 s and took 8.
    estimator = Estimator(facts.values(), {"classifier": 0.2, "generator": 2 / 50})
    assert estimator.wall_s(facts[NONE[0]]) == pytest.approx(2 * 100 * 0.2)
    assert estimator.wall_s(facts[GENERATORS[1]]) == 8


def test_sharing_saves_what_every_further_run_would_have_trained() -> None:
    """Three runs share a generator of 10 s; two a first training of 7 s that a run of none has made."""
    fact = make_facts()[NONE[0]]
    facts = {
        "generator": dataclasses.replace(fact, device_s=10.0, train_s=9.0),
        "first": dataclasses.replace(fact, device_s=0.0, train_s=7.0),
        "none": dataclasses.replace(fact, device_s=8.0, train_s=7.0),
    }
    keys_by_run = [*3 * [("generator",)], *2 * [("first",)], ("none",)]
    assert saved_by_sharing(keys_by_run, facts) == 2 * 10 + 2 * 7


def test_estimates_go_by_the_latest_stages() -> None:
    fact = make_facts(none0="complete")[NONE[0]]
    old = [dataclasses.replace(fact, wall_s=1.0, finished_s=index) for index in range(LATEST)]
    new = [dataclasses.replace(fact, wall_s=3.0, finished_s=100 + index) for index in range(LATEST)]
    assert Estimator([*new, *old]).wall_s(fact) == 3
    assert Estimator(old).wall_s(fact) == 1
