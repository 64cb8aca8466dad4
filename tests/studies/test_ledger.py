"""Checks of the ledger: the state of every planned run, and what is still to run, by a store on disk."""

import dataclasses
from pathlib import Path

import pytest

from lt_rebalance.monitoring.facts import RUN_STATES
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Failure, Record
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, PlannedRun, compile_study
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, GeneratorStage
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import torch_version
from tests.made_up import make_up
from tests.places import BucketPlace
from tests.s3_server import S3Server

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())
WEIGHTS = b"the weights of a generator"


def make_sound_cell(method: str, generator: str | None = None) -> Cell:
    dataset, c = "fashion_mnist_mini", "1/2"
    return make_cell(get_protocol("sound"), dataset=dataset, c=c, method=method, generator=generator)


NONE = make_sound_cell("none")
CGAN = make_sound_cell("cgan", "small_mlp_cgan_leaky")
CGAN_OTHER_LOSS = dataclasses.replace(
    CGAN, protocol="double", classifier=dataclasses.replace(CGAN.classifier, loss="double_softmax")
)

CELLS = (CGAN, NONE, CGAN_OTHER_LOSS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "results"), RESULTS_VERSION, create=True)
    assert store is not None
    return store


@pytest.fixture
def plan() -> Plan:
    """Return the plan of one seed: a generator, two classifiers on it, and one without, in the middle."""
    return make_plan(num_seeds=1)


def make_plan(num_seeds: int) -> Plan:
    return compile_study(Study(name="test", cells=CELLS, seeds=tuple(range(num_seeds))), EXECUTION)


def generator_of(run: PlannedRun) -> GeneratorStage:
    assert run.stage.generator_stage is not None
    return run.stage.generator_stage


def commit(store: Store, stage: AnyStage, state: str = "complete") -> Record:
    """Commit a result of a stage; a complete generator has weights."""
    artifacts = {}
    if isinstance(stage, GeneratorStage) and state == "complete":
        artifacts["weights"] = store.write_artifact(stage.key, "weights", ".safetensors", WEIGHTS)
    record = make_up(stage, state, artifacts=artifacts)
    assert store.commit(record)
    return record


def fail(store: Store, stage: AnyStage, error: str) -> None:
    """Record that a stage failed permanently."""
    failure = Failure(
        key=stage.key, kind=stage.kind, stage=stage.to_dict(), error=error, traceback="", provenance={}
    )
    store.mark_failed(failure)


def states(ledger: Ledger) -> list[str]:
    """Return the states of all planned runs, in order."""
    return [ledger.state(run.key) for run in ledger.plan.runs]


def weights_path(store: Store, record: Record) -> Path:
    return Path(store.location) / "stages" / record.key / record.artifacts["weights"].file


# States


def test_ledger_without_a_store_misses_everything(plan: Plan) -> None:
    ledger = Ledger(plan, None)
    assert states(ledger) == ["missing"] * 3
    assert ledger.pending() == plan.stages
    assert list(ledger.pending()) == list(plan.stages)
    assert ledger.summary() == "planned=3 complete=0 failed=0 diverged=0 missing=3"


def test_ledger_of_an_empty_store_misses_everything(plan: Plan, store: Store) -> None:
    ledger = Ledger(plan, store)
    assert states(ledger) == ["missing"] * 3
    assert list(ledger.pending()) == list(plan.stages)


def test_ledger_finds_what_the_store_holds_of_each_run(plan: Plan, store: Store) -> None:
    first, none, second = plan.runs
    commit(store, generator_of(first))
    commit(store, first.stage)
    fail(store, none.stage, "ValueError: no such thing")
    commit(store, second.stage, "diverged")
    ledger = Ledger(plan, store)
    assert states(ledger) == ["complete", "failed", "diverged"]
    assert ledger.reason(none.key) == "ValueError: no such thing"
    assert ledger.records[first.key].metrics["accuracy"] == 0.5
    assert ledger.pending() == {}


def test_ledger_of_a_failed_generator_fails_its_classifiers_and_names_it(plan: Plan, store: Store) -> None:
    first, none, second = plan.runs
    fail(store, generator_of(first), "OSError: disk full")
    ledger = Ledger(plan, store)
    assert states(ledger) == ["failed", "missing", "failed"]
    for run in (first, second):
        assert "generator" in ledger.reason(run.key)
        assert "OSError: disk full" in ledger.reason(run.key)
    assert list(ledger.pending()) == [none.key]


def test_ledger_of_a_diverged_generator_counts_its_classifiers_as_diverged(plan: Plan, store: Store) -> None:
    first, none, _ = plan.runs
    commit(store, generator_of(first), "diverged")
    ledger = Ledger(plan, store)
    assert states(ledger) == ["diverged", "missing", "diverged"]
    assert list(ledger.pending()) == [none.key]


def test_ledger_of_a_classifier_with_a_result_does_not_ask_how_its_generator_fares(
    plan: Plan, store: Store
) -> None:
    first = plan.runs[0]
    commit(store, first.stage)
    fail(store, generator_of(first), "OSError: disk full")
    assert states(Ledger(plan, store)) == ["complete", "missing", "failed"]


def test_ledger_counts_a_result_above_a_failure_left_behind(plan: Plan, store: Store) -> None:
    none = plan.runs[1]
    commit(store, none.stage)
    fail(store, none.stage, "OSError: disk full")
    assert states(Ledger(plan, store))[1] == "complete"


def test_ledger_ignores_results_of_other_plans(plan: Plan, store: Store) -> None:
    other = NONE.stage(99, EXECUTION)
    commit(store, other)
    ledger = Ledger(plan, store)
    assert ledger.records == {}
    assert states(ledger) == ["missing"] * 3


def test_ledger_misses_a_record_that_cannot_be_read(plan: Plan, store: Store) -> None:
    none = plan.runs[1]
    commit(store, none.stage)
    (Path(store.location) / "stages" / none.key / "result.json").write_text("{")
    ledger = Ledger(plan, store)
    assert states(ledger)[1] == "missing"
    assert none.key in ledger.pending()


def test_refresh_follows_the_store(plan: Plan, store: Store) -> None:
    none = plan.runs[1]
    ledger = Ledger(plan, store)
    fail(store, none.stage, "OSError: disk full")
    assert ledger.state(none.key) == "missing"
    ledger.refresh(none.key)
    assert ledger.state(none.key) == "failed"
    commit(store, none.stage)
    ledger.refresh(none.key)
    assert ledger.state(none.key) == "complete"
    assert ledger.failures == {}


# What is still to run


def test_pending_keeps_the_order_of_the_plan_and_leaves_out_what_is_done(store: Store) -> None:
    plan = make_plan(num_seeds=2)
    done = [plan.runs[1].stage, plan.runs[5].stage]
    for stage in done:
        commit(store, stage)
    expected = [key for key in plan.stages if key not in {stage.key for stage in done}]
    assert len(expected) == 6
    assert list(Ledger(plan, store).pending()) == expected


def test_pending_leaves_out_a_generator_that_is_done(plan: Plan, store: Store) -> None:
    commit(store, generator_of(plan.runs[0]))
    ledger = Ledger(plan, store)
    assert list(ledger.pending()) == [run.key for run in plan.runs]
    assert ledger.pending() == {run.key: run.stage for run in plan.runs}


@pytest.mark.parametrize("damage", ["missing", "altered"])
@pytest.mark.parametrize("is_first_done", [False, True])
def test_pending_remakes_a_generator_with_damaged_weights_that_is_still_needed(
    plan: Plan, store: Store, damage: str, is_first_done: bool
) -> None:
    first, none, second = plan.runs
    generator = generator_of(first)
    path = weights_path(store, commit(store, generator))
    if is_first_done:
        commit(store, first.stage)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(WEIGHTS.upper())
    ledger = Ledger(plan, store)
    needed = [none, second] if is_first_done else [first, none, second]
    pending = list(ledger.pending())
    assert [key for key in pending if key != generator.key] == [run.key for run in needed]
    assert pending.count(generator.key) == 1
    assert all(pending.index(generator.key) < pending.index(run.key) for run in needed if run is not none)
    assert ledger.state(generator.key) == "missing"
    assert store.load_record(generator.key) is None
    # A second look, and a second ledger, find the same.
    assert list(ledger.pending()) == pending
    assert list(Ledger(plan, store).pending()) == pending


@pytest.mark.parametrize("is_altered", [False, True])
def test_pending_asks_a_bucket_for_the_checksum_of_weights_and_reads_only_what_it_does_not_vouch_for(
    plan: Plan, s3: S3Server, monkeypatch: pytest.MonkeyPatch, is_altered: bool
) -> None:
    place = BucketPlace("store")
    store = open_store(place.location, RESULTS_VERSION, create=True)
    assert store is not None
    record = commit(store, generator_of(plan.runs[0]))
    path = f"stages/{record.key}/{record.artifacts['weights'].file}"
    if is_altered:
        place.write(path, WEIGHTS.upper())
    ledger = Ledger(plan, store)
    read: list[str] = []
    monkeypatch.setattr(store.files, "read", lambda path, of=store.files.read: read.append(path) or of(path))
    pending = list(ledger.pending())
    assert (record.key in pending) is is_altered
    assert (path in read) is is_altered
    assert (path in place.read_all()) is not is_altered


def test_look_again_finds_what_others_have_finished_and_what_they_have_deleted(
    plan: Plan, store: Store
) -> None:
    first, none, second = plan.runs
    commit(store, first.stage)
    fail(store, second.stage, "OSError: disk full")
    ledger = Ledger(plan, store)
    assert states(ledger) == ["complete", "missing", "failed"]
    commit(store, none.stage)
    store.files.remove(f"stages/{second.key}/failed.json")
    ledger.look_again()
    assert states(ledger) == ["complete", "complete", "missing"]
    store.files.remove(f"stages/{first.key}/result.json")
    ledger.look_again()
    assert states(ledger) == ["missing", "complete", "missing"]


@pytest.mark.parametrize("has_record", [False, True])
def test_pending_leaves_out_a_lost_generator_when_all_its_classifiers_are_done(
    plan: Plan, store: Store, has_record: bool
) -> None:
    first, none, second = plan.runs
    commit(store, first.stage)
    commit(store, second.stage, "diverged")
    if has_record:
        weights_path(store, commit(store, generator_of(first))).unlink()
    assert list(Ledger(plan, store).pending()) == [none.key]


def test_forget_failures_counts_failed_stages_as_missing_but_not_in_the_store(store: Store) -> None:
    plan = make_plan(num_seeds=2)
    fail(store, generator_of(plan.runs[0]), "OSError: disk full")
    fail(store, plan.runs[4].stage, "OSError: disk full")
    other = NONE.stage(99, EXECUTION)
    fail(store, other, "OSError: of another plan")
    ledger = Ledger(plan, store)
    assert states(ledger) == ["failed", "missing", "failed", "missing", "failed", "missing"]
    ledger.forget_failures()
    assert states(ledger) == ["missing"] * 6
    assert list(ledger.pending()) == list(plan.stages)
    assert states(Ledger(plan, store)) == ["failed", "missing", "failed", "missing", "failed", "missing"]
    for stage in (generator_of(plan.runs[0]), plan.runs[4].stage):
        store.files.remove(f"stages/{stage.key}/failed.json")
    assert states(Ledger(plan, store)) == ["missing"] * 6
    assert store.load_failure(other.key) is not None


# The account


def test_summary_accounts_for_every_planned_run(store: Store) -> None:
    plan = make_plan(num_seeds=3)
    # Seed 0: complete, complete and missing. Seed 1: its generator fails. Seed 2: its generator diverges.
    commit(store, generator_of(plan.runs[0]))
    commit(store, plan.runs[0].stage)
    commit(store, plan.runs[1].stage)
    fail(store, generator_of(plan.runs[3]), "OSError: disk full")
    commit(store, generator_of(plan.runs[6]), "diverged")
    fail(store, plan.runs[7].stage, "OSError: disk full")
    ledger = Ledger(plan, store)
    assert ledger.summary() == "planned=9 complete=2 failed=3 diverged=2 missing=2"
    assert ledger.count_runs() == {"complete": 2, "failed": 3, "diverged": 2, "missing": 2}
    assert set(ledger.count_runs()) == set(RUN_STATES)
