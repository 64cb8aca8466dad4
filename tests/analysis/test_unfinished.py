"""The last seeds of a registered study count when they are whole."""

import dataclasses

import pytest

from analysis.unfinished import describe_unfinished, leave_out_unfinished
from lt_rebalance.store.study_document import StudyDocument, StudyRun

NUM_CELLS = 2


def make_study(num_seeds: int = 4) -> StudyDocument:
    """A registered study of two cells without generators; the key of a run is its cell and seed."""
    runs = [
        StudyRun(
            cell=cell,
            seed=seed,
            subset_seed=seed,
            generator_seed=None,
            key=f"{cell}-{seed}",
            generator_key=None,
            flop=None,
            generator_flop=None,
        )
        for cell in range(NUM_CELLS)
        for seed in range(num_seeds)
    ]
    return StudyDocument(
        name="study",
        question="",
        registered={"seeds": num_seeds},
        results_version=4,
        execution={},
        class_names={},
        cells=(),
        runs=tuple(runs),
    )


def states_of(study: StudyDocument, **others: str) -> dict[str, str]:
    """All runs are complete, but c1s2="missing" says otherwise of cell 1 at seed 2."""
    named = {f"{name[1]}-{name[3]}": state for name, state in others.items()}
    return {run.key: "complete" for run in study.runs} | named


@pytest.mark.parametrize(
    ("others", "unfinished"),
    [
        ({}, {}),
        ({"c1s3": "missing"}, {3: (1, 2)}),
        ({"c0s3": "missing", "c1s3": "missing"}, {3: (0, 2)}),
        ({"c1s2": "missing", "c0s3": "missing", "c1s3": "missing"}, {2: (1, 2), 3: (0, 2)}),
        ({"c1s1": "missing"}, {}),  # a gap: later seeds are whole
        ({"c1s1": "missing", "c1s3": "missing"}, {3: (1, 2)}),
        ({"c0s3": "diverged", "c1s3": "failed"}, {}),  # all runs have ended
        ({"c0s3": "failed", "c1s3": "missing"}, {3: (1, 2)}),
        ({"c1s0": "missing", "c1s1": "missing", "c1s2": "missing", "c1s3": "missing"}, {}),
    ],
)
def test_last_seeds_with_missing_runs_are_left_out(
    others: dict[str, str], unfinished: dict[int, tuple[int, int]]
) -> None:
    study = make_study()
    counted, found = leave_out_unfinished(study, states_of(study, **others))
    assert found == unfinished and list(found) == sorted(found)
    assert {run.key for run in counted.runs} == {run.key for run in study.runs if run.seed not in unfinished}
    assert dataclasses.replace(counted, runs=()) == dataclasses.replace(study, runs=())


def test_seeds_that_belong_together_and_seeds_of_no_plan_stay() -> None:
    study = make_study()
    states = states_of(study, c1s3="missing")
    apart = dataclasses.replace(study.runs[0], subset_seed=7)
    for each in (
        dataclasses.replace(study, runs=(apart, *study.runs[1:])),
        dataclasses.replace(study, registered=None),
    ):
        assert leave_out_unfinished(each, states) == (each, {})


def test_unfinished_seeds_are_named_with_what_they_have() -> None:
    assert (
        describe_unfinished({2: (8, 15), 3: (0, 15)}) == "seed 2 (8 of 15 runs have ended), seed 3 (0 of 15)"
    )
