"""Checks of the filter of synthetic images: its network is a stage of its own, shared, needed and owned."""

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lt_rebalance.commands.verification import prepare_verification
from lt_rebalance.generation.filtering import draw_filtered
from lt_rebalance.generation.images import sample_images
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.monitoring.concerns import find_concerns
from lt_rebalance.monitoring.facts import list_pending, read_facts, run_state
from lt_rebalance.networks.classifiers.registry import build_classifier
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.search.owners import list_owned
from lt_rebalance.search.search import Search
from lt_rebalance.stages.inputs import InputReader
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.records import Failure
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.overrides import change_cell, make_overrides
from lt_rebalance.studies.plan import Plan, Schedule, compile_study, describe_plan, plan_from_description
from lt_rebalance.studies.protocols import PROTOCOLS, Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, GeneratorStage, RepresentationStage, stage_from_dict
from lt_rebalance.studies.study import Seeds, Study
from lt_rebalance.training.configs import Execution
from tests.tiny import TINY

GENERATOR = "small_mlp_cgan_leaky"
FILTERED = "cgan:filter=classifier_agrees,filter_attempts=2"
FEW = make_overrides({"method.fill_fraction": 0.05})
"""a twentieth of the synthetic images, which take almost all of the time"""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def plan(small_protocol: Protocol, cpu_execution: Execution) -> Plan:
    """Return a cell with the filter, one without, and one with a second training."""
    filtered, unfiltered, crt = (
        make_cell(small_protocol, dataset=TINY, c="1/2", method=method, generator=generator)
        for method, generator in ((FILTERED, GENERATOR), ("cgan", GENERATOR), ("crt", None))
    )
    cells = (change_cell(filtered, FEW), change_cell(unfiltered, FEW), crt)
    return compile_study(Study(name="filtered", cells=cells, seeds=(0,)), cpu_execution)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a new store."""
    found = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert found is not None
    return found


def upstreams_of(plan: Plan) -> tuple[GeneratorStage, RepresentationStage]:
    """Return what the filtered classifier builds on."""
    stage = plan.runs[0].stage
    assert stage.generator_stage is not None and stage.first_stage is not None
    assert stage.upstreams == (stage.generator_stage, stage.first_stage)
    return stage.generator_stage, stage.first_stage


def test_stages_are_shared_and_in_order(plan: Plan) -> None:
    generator, first = upstreams_of(plan)
    filtered, unfiltered, crt = (run.stage for run in plan.runs)
    assert list(plan.stages) == [generator.key, first.key, filtered.key, unfiltered.key, crt.key]
    assert (unfiltered.upstreams, crt.upstreams) == ((generator,), (first,))
    assert first.method.name == "none" and first.data == filtered.data
    assert stage_from_dict(filtered.to_dict()) == filtered
    assert "filter" not in unfiltered.to_dict()["method"]
    assert [run.key for run in plan_from_description(describe_plan(plan)).runs] == [
        run.key for run in plan.runs
    ]


def test_filtered_classifier_waits_for_both_in_any_order(plan: Plan) -> None:
    generator, first = upstreams_of(plan)
    filtered = plan.runs[0].stage
    pending = {stage.key: stage for stage in (generator, first, filtered)}
    for order in ((generator, first), (first, generator)):
        schedule = Schedule(pending, lambda stage: 1.0)
        assert {stage.key for _ in range(2) for stage in schedule.next_ready()} == {generator.key, first.key}
        schedule.finish(order[0].key, releases=True)
        assert schedule.next_ready() == [] and not schedule.is_exhausted
        schedule.finish(order[1].key, releases=True)
        assert schedule.next_ready() == [filtered]
    schedule = Schedule(pending, lambda stage: 1.0)
    schedule.next_ready(), schedule.next_ready()
    schedule.finish(generator.key, releases=False)
    schedule.finish(first.key, releases=True)
    assert schedule.next_ready() == [] and schedule.is_exhausted


def test_training_of_none_that_commits_both_serves_the_filter(
    small_protocol: Protocol, plan: Plan, cpu_execution: Execution
) -> None:
    generator, first = upstreams_of(plan)
    filtered = plan.runs[0].stage
    none = make_cell(small_protocol, dataset=TINY, c="1/2", method="none", generator=None)
    twin = none.stage(0, cpu_execution)
    pending = {stage.key: stage for stage in (generator, first, filtered, twin)}
    schedule = Schedule(pending, lambda stage: 1.0)
    assert {stage.key for _ in range(2) for stage in schedule.next_ready()} == {generator.key, twin.key}
    schedule.finish(twin.key, releases=True, came_along=True)
    assert schedule.next_ready() == []
    schedule.finish(generator.key, releases=True)
    assert schedule.next_ready() == [filtered]


@pytest.mark.slow
def test_filter_keeps_what_its_network_agrees_with(plan: Plan, store: Store) -> None:
    generator, first = upstreams_of(plan)
    filtered, unfiltered, _ = (run.stage for run in plan.runs)
    run_stage(generator, store)
    with pytest.raises(StoreError, match=f"representation stage {first.key} is missing"):
        run_stage(filtered, store)
    assert list(Ledger(plan, store).pending()) == [first.key, *(run.key for run in plan.runs)]
    run_stage(first, store)
    record, plain = run_stage(filtered, store), run_stage(unfiltered, store)
    assert record.synthetic_counts == plain.synthetic_counts
    assert set(record.quality_per_class) - set(plain.quality_per_class) == {
        "filter_acceptance",
        "filter_agreement",
    }
    assert record.quality_per_class["filter_acceptance"][0] is None  # the largest class takes none

    reader = InputReader(TINY, None, store, torch.device("cpu"))
    made_SCHW = reader.read(filtered).training_set.synthetic_SCHW
    unfiltered_SCHW = reader.read(unfiltered).training_set.synthetic_SCHW
    assert made_SCHW is not None and unfiltered_SCHW is not None
    weights = [store.load_record(stage.key) for stage in (generator, first)]
    networks = [
        build_generator(GENERATOR, 10, (1, 28, 28)),
        build_classifier("paper_cnn", 10, (1, 28, 28)),
    ]
    for network, kept in zip(networks, weights, strict=True):
        assert kept is not None
        network.load_state_dict(safetensors.torch.load(store.load_artifact(kept, "weights")))
    noise = torch_stream(0, "sampling_noise")
    labels_S = torch.arange(10).repeat_interleave(torch.tensor(record.synthetic_counts))
    expected_SCHW, found = draw_filtered(
        lambda labels_N: sample_images(networks[0], labels_N, noise), networks[1], labels_S, 2, 10
    )
    assert torch.equal(made_SCHW, expected_SCHW)
    assert {name: record.quality_per_class[name] for name in found} == found
    # What the first draw already satisfied is what an unfiltered set has.
    accepted_S = networks[1](unfiltered_SCHW).argmax(dim=1) == labels_S
    assert torch.equal(made_SCHW[accepted_S], unfiltered_SCHW[accepted_S])

    assert prepare_verification(store, filtered.key, None)().is_equal
    names = [f"class {label}" for label in range(10)]
    assert [each.kind for each in find_concerns(plain, names)] == ["dead classes"]
    assert "rejected images" in [each.kind for each in find_concerns(record, names)]


def test_ledger_status_and_owners_know_both(plan: Plan, store: Store) -> None:
    generator, first = upstreams_of(plan)
    described = describe_plan(plan)
    store.write_study(described)
    facts = read_facts(store, described)
    assert [fact.key for fact in list_pending(facts)] == list(plan.stages)
    owned = list_owned(store)
    assert owned[generator.key] == owned[first.key] == "study filtered"
    values = {"traceback": "", "provenance": {}, "stage": first.to_dict()}
    store.mark_failed(Failure(key=first.key, kind=first.kind, error="out of luck", **values))
    ledger = Ledger(plan, store)
    filtered, unfiltered, crt = (run.key for run in plan.runs)
    assert [ledger.state(key) for key in (filtered, unfiltered, crt)] == ["failed", "missing", "failed"]
    assert ledger.reason(filtered) == "its first training failed, out of luck"
    facts = read_facts(store, described)
    assert [run_state(facts, key) for key in (filtered, unfiltered, crt)] == ["failed", "missing", "failed"]


@pytest.mark.slow
def test_weights_of_either_that_are_lost_are_made_again(plan: Plan, store: Store, tmp_path: Path) -> None:
    for stage in upstreams_of(plan):
        run_stage(stage, store)
    filtered = plan.runs[0].key
    plan = dataclasses.replace(plan, runs=plan.runs[:1])
    for stage in upstreams_of(plan):
        assert filtered in Ledger(plan, store).pending() and stage.key not in Ledger(plan, store).pending()
        (weights,) = tmp_path.rglob(f"{stage.key}/weights-*")
        weights.unlink()
        assert list(Ledger(plan, store).pending())[:2] == [stage.key, filtered]
        run_stage(stage, store)


@pytest.mark.slow
def test_filtering_nothing_is_none_bit_for_bit(plan: Plan, store: Store) -> None:
    generator, first = upstreams_of(plan)
    run_stage(generator, store)
    run_stage(first, store)
    filtered = plan.runs[0].stage
    method = dataclasses.replace(filtered.method, fill_fraction=0.0)
    record = run_stage(dataclasses.replace(filtered, method=method), store)
    none = dataclasses.replace(filtered, method=first.method, generator_stage=None, first_stage=None)
    assert record.curves == run_stage(none, store).curves
    assert "filter_acceptance" not in record.quality_per_class


def test_seeds_taken_apart_give_each_its_own(small_protocol: Protocol, cpu_execution: Execution) -> None:
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method=FILTERED, generator=GENERATOR)
    stage = cell.stage(Seeds(subset=1, generator=2, classifier=3), cpu_execution)
    assert [(each.seed, each.data_seed) for each in (*stage.upstreams, stage)] == [(2, 1), (3, 1), (3, 1)]
    assert stage.with_seed(5) == cell.stage(5, cpu_execution)


def test_search_takes_no_filter(small_search: Search) -> None:
    protocol = dataclasses.replace(PROTOCOLS["sound"], validation_per_class=5)
    base = make_cell(protocol, dataset=TINY, c="1/2", method=FILTERED, generator=GENERATOR)
    with pytest.raises(ValueError, match=r"tunes one training, and method 'cgan:filter=classifier_agrees"):
        dataclasses.replace(small_search, base=base)
