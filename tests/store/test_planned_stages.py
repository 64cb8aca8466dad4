"""What a study says of a stage is compared with its record, before any reader shows the one as the other."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.collect import read_results
from analysis.confirmation import _read_cells
from lt_rebalance.cli.tracked import read_tracked
from lt_rebalance.ground.values import MisfitError
from lt_rebalance.monitoring.facts import read_facts
from lt_rebalance.monitoring.tensorboard.overview import refresh_events
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.study_document import StudyDocument, parse_study
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Seed, Seeds, Study
from lt_rebalance.training.configs import Execution
from tests.analysis.synthetic import make_store, plan_study

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version="2.15.0")
ROOT = Path(__file__).parents[2]
GAN = "small_mlp_cgan_leaky"
METHODS = [
    ("cgan", GAN),
    ("smote", None),
    ("crt", None),
    ("logit_adjustment", None),
    ("none", None),
    ("nearest_class_mean", None),
]


def make_plan(*seeds: Seed) -> Plan:
    """Return a plan with every kind of stage; with separate seeds, of a CGAN alone."""
    methods = METHODS[:1] if isinstance(seeds[0], Seeds) else METHODS
    sound = get_protocol("sound")
    cells = [
        make_cell(protocol, dataset="fashion_mnist_mini", c="1/2", method=method, generator=generator)
        for protocol in (
            sound,
            dataclasses.replace(sound, name="chosen", validation_per_class=5, selection="best_validation"),
            dataclasses.replace(sound, name="by_batch", evaluation_mode="batch_statistics"),
            get_protocol("paper"),
        )
        for method, generator in methods
    ]
    return compile_study(Study(name="study", cells=tuple(cells), seeds=seeds), EXECUTION)


@pytest.mark.parametrize("seeds", [(0, 1), (Seeds(subset=0, generator=1, classifier=2),)])
def test_every_stage_of_a_plan_is_the_one_that_its_study_says(seeds: tuple[Seed, ...]) -> None:
    plan = make_plan(*seeds)
    study = parse_study(json.loads(json.dumps(describe_plan(plan).to_plain())), "study")
    older = dataclasses.replace(study, results_version=None)
    for key, stage in plan.stages.items():
        for each in (study, older):
            each.stages[key].require(json.loads(json.dumps(stage.to_dict())))


@pytest.mark.parametrize("mode", ["running_statistics", "batch_statistics"])
def test_first_training_is_the_same_however_its_record_says_to_measure_it(mode: str) -> None:
    plan = make_plan(0)
    study = describe_plan(plan)
    for key, stage in plan.stages.items():
        if stage.kind == "representation":
            stated = stage.to_dict()
            study.stages[key].require(
                stated | {"classifier": stated["classifier"] | {"evaluation_mode": mode}}
            )
            with pytest.raises(MisfitError, match="kind must be 'representation', as"):
                study.stages[key].require(
                    {each: stated[each] for each in stated if each != "classifier"} | {"kind": "generator"}
                )


@pytest.mark.parametrize("folder", ["tests/golden/store", "studies/sample", "studies/cifar10_lt"])
def test_records_of_a_published_study_are_those_that_it_says(folder: str) -> None:
    store = open_store(str(ROOT / folder), None, create=False, is_read_only=True)
    assert store is not None
    (study,) = map(store.load_study, store.list_studies())
    found = dict(store.scan(Store.read_summary, study.stages))
    for key, summary in found.items():
        assert summary is not None
        store.require_planned(study, key, summary.stage)
    assert found.keys() == study.stages.keys()


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("seed", 7, "seed must be 0, as the study says, got 7"),
        ("subset_seed", 7, "subset_seed must be 0, as"),
        ("kind", "validation", "kind must be 'classifier', as"),
        ("data.c", "7/9", "data.c must be '1/2', as"),
        ("method.name", "none", "method.name must be 'cgan', as"),
        ("classifier.budget.steps", 1, "classifier.budget.steps must be 18000, as"),
        ("classifier.surplus", 1, "classifier.surplus must be None, as"),
        ("generator_stage.seed", 7, "generator_seed must be 0, as"),
        ("generator_stage.generator.beta1", 0.1, "generator.beta1 must be 0.9, as"),
        ("generator_stage", None, "generator must be {.*, as"),
        ("execution.device", "cuda", "execution.device must be 'cpu', as"),
        ("results_version", 3, "results_version must be 4, as"),
    ],
)
def test_difference_between_record_and_study_is_named(place: str, value: Any, words: str) -> None:
    plan = make_plan(0)
    stage = json.loads(json.dumps(plan.runs[0].stage.to_dict()))
    *path, last = place.split(".")
    inner = stage
    for each in path:
        inner = inner[each]
    inner[last] = value
    with pytest.raises(MisfitError, match=words):
        describe_plan(plan).stages[plan.runs[0].key].require(stage)


def test_runs_that_contradict_each_other_under_one_key_are_refused() -> None:
    plain = describe_plan(make_plan(0)).to_plain()
    plain["runs"][4]["key"] = plain["runs"][1]["key"]
    with pytest.raises(MisfitError, match="runs must be of one stage under each key"):
        parse_study(plain, "study")


def test_study_without_runs_is_refused() -> None:
    with pytest.raises(MisfitError, match="runs must be a list of at least one, got \\[\\]"):
        parse_study(describe_plan(make_plan(0)).to_plain() | {"runs": []}, "study")


# Readers


@pytest.fixture
def swapped(tmp_path: Path) -> tuple[Store, StudyDocument, str]:
    """A store whose study gives each of two runs the result of the other, and the key of one."""
    plan = plan_study(cs=["1/2"], methods=["none", "oversample"], generators=[], num_seeds=1)
    store = make_store(tmp_path / "store", plan)
    study = store.load_study("synthetic")
    one, other, *more = study.runs
    runs = (dataclasses.replace(one, key=other.key), dataclasses.replace(other, key=one.key), *more)
    store.write_study(dataclasses.replace(study, runs=runs))
    return store, store.load_study("synthetic"), one.key


READERS: dict[str, Callable[[Store, StudyDocument], object]] = {
    "analysis": lambda store, study: read_results(store.location),
    "confirmation": lambda store, study: _read_cells(store, study.name),
    "trackers": lambda store, study: list(read_tracked(store, study, ())),
    "tensorboard": refresh_events,
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_takes_the_result_of_another_run(
    swapped: tuple[Store, StudyDocument, str], reader: str
) -> None:
    store, study, _ = swapped
    words = r"studies/synthetic.json is damaged: stages/\w{64}/result.json is of another run, whose method"
    with pytest.raises(StoreError, match=rf"{words}.* must be '.*; restore it, or move it away"):
        READERS[reader](store, study)


def test_status_counts_the_result_of_another_run_as_missing(
    swapped: tuple[Store, StudyDocument, str],
) -> None:
    store, study, key = swapped
    fact = read_facts(store, study)[key]
    assert fact.state == "missing" and "is of another run" in fact.reason
