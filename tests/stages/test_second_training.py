"""Checks of a second training: its first is a stage of its own, shared, run before it, needed and owned."""

import functools
from pathlib import Path

import pytest

from analysis.collect import read_results
from lt_rebalance.cli.main import main
from lt_rebalance.commands.verification import prepare_verification
from lt_rebalance.monitoring.facts import list_pending, read_facts
from lt_rebalance.monitoring.tensorboard.naming import name_runs
from lt_rebalance.monitoring.tensorboard.overview import refresh_events
from lt_rebalance.search.owners import list_owned
from lt_rebalance.stages.kinds import KINDS, open_run, run_stage
from lt_rebalance.stages.size import KEPT_BYTES, kept_bytes
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.overrides import change_cell, read_overrides
from lt_rebalance.studies.plan import Plan, Schedule, compile_study, describe_plan, list_twins
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, STAGE_TYPES, ClassifierStage, stage_from_dict
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.training.configs import Budget, Execution
from tests.tiny import TINY

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def cell(small_protocol: Protocol) -> Cell:
    """Return a cell that trains twice."""
    return make_cell(small_protocol, dataset=TINY, c="1/2", method="crt", generator=None)


@pytest.fixture
def plan(cell: Cell, cpu_execution: Execution) -> Plan:
    """Return two cells of that method, which start from one first training."""
    other = change_cell(cell, read_overrides(None, ["method.options.budget_share=0.5"]))
    return compile_study(Study(name="twice", cells=(cell, other), seeds=(0,)), cpu_execution)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a new store."""
    found = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert found is not None
    return found


def test_every_kind_of_stage_is_in_the_table() -> None:
    assert set(KINDS) == {stage_type.kind for stage_type in STAGE_TYPES}


def test_second_training_lasts_a_share_of_the_first_which_cells_share(plan: Plan) -> None:
    stages = [run.stage for run in plan.runs]
    first = stages[0].first_stage
    assert first is not None
    assert stages[1].first_stage == first
    assert first.classifier.budget == Budget(steps=6, rounds=3)
    budgets = [stage.classifier.budget for stage in stages]
    assert budgets == [Budget(steps=6, rounds=3), Budget(steps=3, rounds=2)]
    assert list(plan.stages) == [first.key, stages[0].key, stages[1].key]
    assert [stage_from_dict(each.to_dict()) for each in plan.stages.values()] == list(plan.stages.values())


def test_second_training_runs_on_the_weights_of_the_first(plan: Plan, store: Store) -> None:
    stage = plan.runs[0].stage
    first = stage.first_stage
    assert first is not None
    with pytest.raises(StoreError, match=f"representation stage {first.key} is missing"):
        run_stage(stage, store)
    ledger = Ledger(plan, store)
    assert list(ledger.pending()) == [first.key, *(run.key for run in plan.runs)]
    record = run_stage(first, store)
    assert (record.kind, list(record.metrics), list(record.artifacts)) == (
        "representation",
        ["train_loss"],
        ["weights"],
    )
    assert {name for row in record.curves for name in row} == {"step", "train_loss"}
    assert record.artifacts["weights"].num_bytes <= kept_bytes(first)
    assert kept_bytes(stage) == KEPT_BYTES + 150 * 10 + 12 * 100  # by class, and by image that is tested
    tested = run_stage(stage, store)
    assert tested.num_steps == 6
    assert prepare_verification(store, stage.key, None)().is_equal
    ledger = Ledger(plan, store)
    assert list(ledger.pending()) == [plan.runs[1].key]


@pytest.mark.slow
def test_rows_after_training_measure_the_network_of_none_which_is_trained_once(
    small_protocol: Protocol, cpu_execution: Execution, store: Store
) -> None:
    """At tau 0 the logits are those of none: the very same predictions, without a step."""
    make = functools.partial(make_cell, small_protocol, dataset=TINY, c="1/2", generator=None)
    asked = [["method.options.tau=0"], [], []]
    after = [
        change_cell(make(method=name), read_overrides(None, changes))
        for name, changes in zip(("logit_adjustment", "tau_norm", "nearest_class_mean"), asked, strict=True)
    ]
    study = Study(name="after", cells=(make(method="none"), *after), seeds=(0,))
    plan = compile_study(study, cpu_execution)
    assert plan.count_stages() == {"classifier": 4, "representation": 1}
    none, *rows = (run.stage for run in plan.runs)
    first = rows[0].first_stage
    assert first is not None
    assert {row.first_stage for row in rows} == {first} == {none.as_representation()}
    schedule = Schedule(plan.stages, lambda stage: 1.0)
    assert schedule.next_ready() == [none] and schedule.next_ready() == []  # the first waits for its twin
    run = open_run([none], store, None, kept=[first.key])
    while not run.is_finished:
        run.run_round()
    records = [store.load_record(key) for key in (none.key, first.key)]
    assert all(record is not None and record.num_steps == 6 for record in records)
    assert prepare_verification(store, first.key, None)().is_equal
    assert prepare_verification(store, none.key, None)().is_equal
    schedule.finish(none.key, releases=True, came_along=True)
    assert [schedule.next_ready()[0] for _ in rows] == rows and schedule.next_ready() == []
    measured = [run_stage(row, store) for row in rows]
    assert [(record.num_steps, len(record.curves)) for record in measured] == [(0, 1)] * 3
    predictions = [store.load_artifact(record, "predictions") for record in (records[0], *measured)]
    assert predictions[1] == predictions[0] != predictions[3]
    assert all(prepare_verification(store, row.key, None)().is_equal for row in rows)


@pytest.mark.parametrize("selection", ["best_validation", "oracle_best_test"])
def test_method_that_acts_after_training_measures_a_network_of_its_own_where_rounds_are_selected(
    small_protocol: Protocol, cpu_execution: Execution, store: Store, selection: str
) -> None:
    """Then none is reported by its best round, and the network that others start from is of the last."""
    changes = [f"classifier.selection={selection}", "data.validation_per_class=2"]
    made = (
        make_cell(small_protocol, dataset=TINY, c="1/2", method=name, generator=None)
        for name in ("none", "logit_adjustment")
    )
    none, after = (change_cell(cell, read_overrides(None, changes)) for cell in made)
    after = change_cell(after, read_overrides(None, ["method.options.tau=0"]))
    stages = [cell.stage(0, cpu_execution) for cell in (none, after)]
    assert stages[1].first_stage is None and stages[1].classifier == stages[0].classifier
    records = [run_stage(stage, store) for stage in stages]
    assert records[0].metrics == records[1].metrics and len(records[1].curves) > 1


@pytest.mark.parametrize("method", ["crt", "tau_norm", "nearest_class_mean"])
def test_first_training_is_its_own_where_tests_leave_their_statistics_in_the_network(
    small_protocol: Protocol, cpu_execution: Execution, method: str
) -> None:
    """By protocol paper a test moves the running statistics, which a class mean and a filter read."""
    make = functools.partial(make_cell, small_protocol, dataset=TINY, c="1/2", generator=None)
    for mode, is_shared in (("running_statistics", True), ("batch_statistics", False)):
        changes = read_overrides(None, [f"classifier.evaluation_mode={mode}"])
        none, after = (change_cell(make(method=name), changes) for name in ("none", method))
        stage = after.stage(0, cpu_execution)
        first = stage.first_stage
        assert first is not None and stage.classifier.evaluation_mode == mode
        assert (none.stage(0, cpu_execution).as_representation() == first) == is_shared
        # Whoever is never tested is one training under both.
        assert first.classifier.evaluation_mode == "running_statistics"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["running_statistics", "batch_statistics"])
def test_first_training_is_the_same_alone_and_beside_none(
    small_protocol: Protocol, cpu_execution: Execution, tmp_path: Path, mode: str
) -> None:
    """One key, one result: what else a plan has moves no method."""
    changes = read_overrides(None, [f"classifier.evaluation_mode={mode}"])
    none, after = (
        change_cell(make_cell(small_protocol, dataset=TINY, c="1/2", method=name, generator=None), changes)
        for name in ("none", "nearest_class_mean")
    )
    found = []
    for name, cells in {"alone": (after,), "beside": (none, after)}.items():
        store = open_store(str(tmp_path / name), RESULTS_VERSION, create=True)
        assert store is not None
        plan = compile_study(Study(name=name, cells=cells, seeds=(0,)), cpu_execution)
        twins = list_twins(plan.stages)
        for key, stage in plan.stages.items():
            if key in twins:
                continue
            run = open_run([stage], store, None, kept=[twin for twin, by in twins.items() if by == key])
            while not run.is_finished:
                run.run_round()
        stage = after.stage(0, cpu_execution)
        found.append([store.load_record(each.key) for each in (*stage.upstreams, stage)])
    for alone, beside in zip(*found, strict=True):
        assert alone is not None and beside is not None
        assert (alone.metrics, alone.artifacts) == (beside.metrics, beside.artifacts)


@pytest.mark.parametrize("mode", ["running_statistics", "batch_statistics"])
def test_study_with_a_first_training_is_read_whatever_measures_it(
    small_protocol: Protocol, cpu_execution: Execution, store: Store, mode: str
) -> None:
    changes = read_overrides(None, [f"classifier.evaluation_mode={mode}"])
    cells = tuple(
        change_cell(make_cell(small_protocol, dataset=TINY, c="1/2", method=name, generator=None), changes)
        for name in ("none", "nearest_class_mean")
    )
    plan = compile_study(Study(name="after", cells=cells, seeds=(0,)), cpu_execution)
    store.write_study(describe_plan(plan))
    study = store.load_study("after")
    for stage in plan.stages.values():
        run_stage(stage, store)
    assert {fact.state for fact in read_facts(store, study).values()} == {"complete"}
    assert len(read_results(store.location).runs) == 2
    refresh_events(store, study)
    for key in plan.stages:
        assert main(["verify", key, "--storage", store.location]) == 0


def test_representation_is_trained_by_itself_where_its_twin_has_not_kept_it(
    small_protocol: Protocol, cpu_execution: Execution
) -> None:
    make = functools.partial(make_cell, small_protocol, dataset=TINY, c="1/2", generator=None)
    study = Study(name="after", cells=(make(method="none"), make(method="tau_norm")), seeds=(0,))
    plan = compile_study(study, cpu_execution)
    none, row = (run.stage for run in plan.runs)
    schedule = Schedule(plan.stages, lambda stage: 1.0)
    assert schedule.next_ready() == [none]
    schedule.finish(none.key, releases=False)
    assert schedule.next_ready() == [row.first_stage]
    pending = {key: stage for key, stage in plan.stages.items() if key != none.key}
    assert Schedule(pending, lambda stage: 1.0).next_ready() == [row.first_stage]


def test_status_owners_and_events_know_the_first_training(plan: Plan, store: Store) -> None:
    first = plan.runs[0].stage.first_stage
    assert first is not None
    described = describe_plan(plan)
    store.write_study(described)
    facts = read_facts(store, described)
    assert [facts[key].kind for key in facts] == ["representation", "classifier", "classifier"]
    assert [fact.key for fact in list_pending(facts)] == list(plan.stages)
    assert list_owned(store)[first.key] == "study twice"
    assert len({run.directory for run in name_runs(described).values()}) == 3


def test_document_of_a_study_without_second_trainings_has_no_word_of_them(
    small_protocol: Protocol, cpu_execution: Execution
) -> None:
    plain = make_cell(small_protocol, dataset=TINY, c="1/2", method="none", generator=None)
    plan = compile_study(Study(name="once", cells=(plain,), seeds=(0,)), cpu_execution)
    assert not [name for name in describe_plan(plan).to_plain()["runs"][0] if name.startswith("first")]
    assert "first_stage" not in plan.runs[0].stage.to_dict()


def test_stage_needs_a_first_training_exactly_where_its_method_starts_again(plan: Plan) -> None:
    values = plan.runs[0].stage.to_dict()
    del values["kind"], values["first_stage"]
    with pytest.raises(ValueError, match="method 'crt' needs a first training"):
        stage_from_dict({"kind": ClassifierStage.kind, **values})
