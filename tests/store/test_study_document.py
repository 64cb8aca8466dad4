"""A study as a value: what is written is read again, also from before, and its stages are found once."""

import dataclasses
import json
from typing import Any

import pytest

from lt_rebalance.ground.values import MisfitError
from lt_rebalance.store.study_document import Comparison, StudyDocument, parse_study
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version="2.15.0")


def make_document() -> StudyDocument:
    """Return a study of a CGAN, a second training and a plain cell at two seeds, with all it may hold."""
    sound = get_protocol("sound")
    cells = tuple(
        make_cell(sound, dataset="fashion_mnist_mini", c="1/2", method=method, generator=generator)
        for method, generator in (("cgan", "small_mlp_cgan_leaky"), ("crt", None), ("none", None))
    )
    comparison = Comparison(cell=1, reference=2, change="method=crt")
    study = Study(name="study", cells=cells, seeds=(0, 1), comparisons=(comparison,))
    plan = compile_study(study, EXECUTION)
    flop = {key: 1e9 + place for place, key in enumerate(plan.stages)}
    document = describe_plan(plan, "Which?", flop)
    expected_s = {"generator": 1e-9}
    return dataclasses.replace(
        document,
        confirmatory=("H1",),
        changes=("2026-12-01: fewer seeds. Why: time.",),
        registered={"seeds": 2, "arguments": ["--c", "1/2"], "changes": [{"date": "2026-12-01", "seeds": 1}]},
        num_slots=2,
        devices_per_slot=0.5,
        expected_s=expected_s,
    )


def reread(plain: dict[str, Any]) -> StudyDocument:
    return parse_study(json.loads(json.dumps(plain)), "study")


def test_study_is_read_as_it_was_written() -> None:
    document = make_document()
    assert reread(document.to_plain()) == document
    planned = dataclasses.replace(
        document,
        confirmatory=(),
        changes=(),
        registered=None,
        num_slots=None,
        devices_per_slot=1.0,
        expected_s=None,
    )
    assert reread(planned.to_plain()) == planned
    later = {"confirmatory", "changes", "registered", "num_slots", "devices_per_slot", "expected_s"}
    assert not later & planned.to_plain().keys()
    assert reread(dataclasses.replace(document, confirmatory=()).to_plain()).changes == document.changes


def test_study_from_before_names_the_seed_of_everything_and_what_it_does_not_say() -> None:
    document = make_document()
    plain = document.to_plain()
    for name in (
        "results_version",
        "confirmatory",
        "changes",
        "registered",
        "overrides",
        "comparisons",
        "num_slots",
        "devices_per_slot",
        "expected_s",
    ):
        del plain[name]
    for run in plain["runs"]:
        for name in ("subset_seed", "generator_seed", "flop", "generator_flop"):
            del run[name]
    before = reread(plain)
    assert [(run.subset_seed, run.generator_seed) for run in before.runs] == [
        (run.subset_seed, run.generator_seed) for run in document.runs
    ]
    assert {run.flop for run in before.runs} == {None} and not any(run.is_apart for run in before.runs)
    assert (before.results_version, before.num_slots, before.devices_per_slot) == (None, None, 1.0)
    assert (before.overrides, before.comparisons, before.expected_s) == ({}, (), None)
    assert before.confirmatory == before.changes == () and before.registered is None


def test_every_stage_is_found_once_after_those_that_it_builds_on() -> None:
    document = make_document()
    kinds = [stage.kind for stage in document.stages.values()]
    one_seed = ["generator", "classifier", "representation", "classifier", "classifier"]
    assert kinds == [*one_seed, *one_seed]
    seen: list[str] = []
    for key, stage in document.stages.items():
        assert set(stage.upstreams) <= set(seen)
        seen.append(key)
    assert [document.stages[key].trains for key in seen[:5]] == [
        "small_mlp_cgan_leaky",
        "small_mlp_cgan_leaky",
        "paper_cnn",
        "crt",
        "none",
    ]
    assert [stage.flop for stage in document.stages.values()] == [1e9 + place for place in range(10)]
    assert document.runs[0].keys == tuple(seen[:2]) and document.runs[2].keys == (seen[4],)


def test_seeds_of_a_generator_name_it_and_not_those_of_its_classifier() -> None:
    document = make_document()
    run = dataclasses.replace(document.runs[0], seed=7, subset_seed=3, generator_seed=5)
    assert run.is_apart and not document.runs[0].is_apart
    assert dataclasses.replace(document.runs[0], subset_seed=3).is_apart
    generator, classifier = dataclasses.replace(document, runs=(run,)).stages.values()
    assert generator.replicate == "seed 5 of subset 3"
    assert classifier.replicate == "seed 7 of subset 3 with generator 5"


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("cell", 3, r"runs\.0\.cell must be below 3, got 3"),
        (
            "generator_key",
            None,
            r"runs\.0\.generator_key must be a key if its cell has a generator",
        ),
        ("surplus", 1, r"runs\.0 must be an object of cell, seed, key"),
    ],
)
def test_run_that_does_not_go_with_its_study_is_refused(place: str, value: Any, words: str) -> None:
    plain = make_document().to_plain()
    plain["runs"][0][place] = value
    with pytest.raises(MisfitError, match=words):
        reread(plain)


@pytest.mark.parametrize(
    ("section", "value", "words"),
    [
        ("registered", {"changes": []}, "registered must be an object with 'seeds'"),
        ("registered", {"seeds": 2, "changes": [1]}, r"registered\.changes\.0 must be an object, got 1"),
        (
            "registered",
            {"seeds": 2, "changes": [{"seeds": "x"}]},
            r"changes\.0\.seeds must be a whole number",
        ),
        ("expected_s", {"classifier": 0}, r"expected_s\.classifier must be a number from 1e-30"),
    ],
)
def test_what_readers_rely_on_is_checked(section: str, value: Any, words: str) -> None:
    with pytest.raises(MisfitError, match=words):
        reread(make_document().to_plain() | {section: value})


@pytest.mark.parametrize(
    "changes",
    [{"profile": "exp"}, {"ratio": "2"}, {"profile": "a b", "ratio": "2"}, {"profile": "", "ratio": "2"}],
)
def test_profile_goes_with_a_ratio_and_is_one_word(changes: dict[str, str]) -> None:
    plain = json.loads(json.dumps(make_document().to_plain()))
    plain["cells"][1]["config"]["data"] |= changes
    words = r"cells\.1\.config\.data must be of a profile, without spaces, with a ratio, or of neither"
    with pytest.raises(MisfitError, match=words):
        reread(plain)
