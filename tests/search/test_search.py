"""Searches as data: what they refuse, the ladders of their trials, their objectives, their account."""

import dataclasses
from typing import Any

import pytest

from lt_rebalance.ground.metrics import METRICS, is_higher_better
from lt_rebalance.search.account import (
    MAX_FAILED,
    RungResult,
    SearchBudget,
    Trial,
    choose,
    pareto_front,
    summary,
)
from lt_rebalance.search.search import OBJECTIVES, Search, score
from lt_rebalance.store.records import Record, Timing
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import ClassifierStage, GeneratorStage, ValidationStage
from lt_rebalance.training.configs import Budget
from tests.tiny import TINY

VALUES = {"learning_rate": 1e-3, "beta1": 0.6, "beta2": 0.99, "batch_size": 25}


def record(kind: str, **fields: Any) -> Record:
    empty: dict[str, Any] = {
        "key": "k",
        "state": "complete",
        "stage": {},
        "num_steps": 1,
        "class_counts": (),
        "training_counts": (),
        "synthetic_counts": (),
        "rank_groups": {},
        "metrics": {},
        "confusion": (),
        "quality_per_class": {},
        "curves": (),
        "artifacts": {},
        "timing": Timing(wall_s=1, train_s=1, num_errors=0),
        "provenance": {},
    }
    return Record(kind=kind, **(empty | fields))


def rung(round_index: int = 9, **scores: tuple[float, ...]) -> RungResult:
    return RungResult(round=round_index, num_steps=90, scores=scores, total_steps=180, train_s=30)


def trial(number: int, state: str, *values: float, other: tuple[float, ...] = (0, 0)) -> Trial:
    rungs = (rung(macro_f1=values, diversity=other),) if values else ()
    return Trial(number=number, values={}, state=state, rungs=rungs)


# The definition


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"component": "losses"}, "unknown component 'losses'; known: classifier, generator"),
        ({"scheduler": "median"}, "unknown scheduler 'median'; known: asha, none, pbt"),
        ({"objectives": ("accuracy",)}, "unknown objective 'accuracy'; known: macro_f1, diversity"),
        ({"objectives": ("diversity",)}, "'diversity' is one of generators"),
        ({"objectives": ()}, "objectives must be above 0, got 0"),
        ({"seeds": ()}, "seeds must be above 0, got 0"),
        ({"reduction": 1}, "the reduction must be at least 2, got 1"),
        ({"scheduler": "pbt"}, "trains populations of CGANs, this tunes a classifier"),
        ({"component": "generator"}, "method 'undersample' has no generator that could be tuned"),
    ],
)
def test_search_refuses(changes: dict[str, Any], message: str, small_search: Search) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(small_search, **changes)


def with_method(search: Search, label: str) -> Search:
    """Return the search of a method, of several passes: sampling changes between passes alone."""
    cell = make_cell(get_protocol("sound"), dataset=TINY, c="1/2", method=label, generator=None)
    classifier = dataclasses.replace(search.base.classifier, budget=Budget(steps=40, rounds=4))
    base = dataclasses.replace(search.base, method=cell.method, classifier=classifier)
    return dataclasses.replace(search, base=base)


@pytest.mark.parametrize(
    "label",
    [
        *("ldam_drw", "mixup_drw", "cutmix_drw", "remix_drw", "progressive_sampling"),
        *("weighted_cross_entropy:deferred=0.95", "class_balanced_sampling:deferred=0.01"),
        *("focal:deferred=0.5", "logit_adjusted_loss:deferred=0.8"),
    ],
)
def test_trials_of_a_method_that_follows_progress_are_not_cut_short(label: str, small_search: Search) -> None:
    """A rung would run the progress from 0 to 1, and pass on weights that the longer training never has."""
    with pytest.raises(ValueError, match=rf"{label}' depends on the length of the whole training;"):
        with_method(small_search, label)
    assert with_method(dataclasses.replace(small_search, scheduler="none"), label).rung_rounds == (4,)


@pytest.mark.parametrize("changes", [{"schedule": "cosine"}, {"warm_up": 0.1}])
def test_trials_with_a_rate_that_falls_are_not_cut_short(
    changes: dict[str, Any], small_search: Search
) -> None:
    classifier = dataclasses.replace(small_search.base.classifier, **changes)
    base = dataclasses.replace(small_search.base, classifier=classifier)
    with pytest.raises(ValueError, match=r"the learning rate .* depends on the length of the whole training"):
        dataclasses.replace(small_search, base=base)


@pytest.mark.parametrize("label", ["none", "ldam", "balanced_softmax", "sqrt_sampling", "mixup", "smote"])
def test_trials_of_other_methods_are(label: str, small_search: Search) -> None:
    assert with_method(small_search, label).rung_rounds == (1, 2, 4)


def test_search_refuses_an_untuned_value_that_no_trial_could_have(small_search: Search) -> None:
    classifier = dataclasses.replace(small_search.base.classifier, batch_size=7)
    with pytest.raises(
        ValueError, match="the untuned batch_size is 7, outside of the search space: 25, 50, 100"
    ):
        dataclasses.replace(small_search, base=dataclasses.replace(small_search.base, classifier=classifier))


def test_search_refuses_to_stop_trials_early_by_two_objectives(small_cgan_search: Search) -> None:
    both = ("macro_f1", "diversity")
    with pytest.raises(ValueError, match="scheduler 'asha' ranks trials by one objective, got 2"):
        dataclasses.replace(small_cgan_search, objectives=both)
    dataclasses.replace(small_cgan_search, objectives=both, scheduler="none")


@pytest.mark.parametrize("budget", [Budget(epochs=3), Budget(steps=10, rounds=4)])
def test_search_refuses_a_budget_that_rungs_cannot_cut(budget: Budget, small_search: Search) -> None:
    classifier = dataclasses.replace(small_search.base.classifier, budget=budget)
    with pytest.raises(ValueError, match="a budget in steps that its rounds divide"):
        dataclasses.replace(small_search, base=dataclasses.replace(small_search.base, classifier=classifier))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            VALUES | {"dropout": 0.5},
            "unknown setting of this search of a classifier 'dropout'; known: learning",
        ),
        ({"learning_rate": 1e-3}, "a trial needs a value for batch_size, beta1, beta2"),
    ],
)
def test_values_that_nothing_reads_or_that_are_missing_are_errors(
    values: dict[str, Any], message: str, small_search: Search
) -> None:
    with pytest.raises(ValueError, match=message):
        small_search.cell(values)


def test_cell_of_a_trial_differs_from_the_base_in_its_values_alone(small_search: Search) -> None:
    cell = small_search.cell(VALUES)
    assert cell == dataclasses.replace(
        small_search.base, classifier=dataclasses.replace(small_search.base.classifier, **VALUES)
    )
    assert small_search.cell(small_search.untuned) == small_search.base
    assert small_search.cell(VALUES, protocol="tuned").protocol == "tuned"


# Ladders


def test_rungs_are_as_far_apart_as_trials_are_thinned_out(small_search: Search) -> None:
    assert small_search.rung_rounds == (1, 2, 4)
    assert dataclasses.replace(small_search, reduction=4).rung_rounds == (1, 4)
    assert dataclasses.replace(small_search, reduction=3).rung_rounds == (4,)
    assert dataclasses.replace(small_search, scheduler="none").rung_rounds == (4,)


def test_ladder_of_a_classifier_trains_longer_at_every_rung_and_never_tests(small_search: Search) -> None:
    ladder = small_search.ladder(VALUES)
    assert [rung.round for rung in ladder] == [1, 2, 4]
    budgets = []
    for rung_ in ladder:
        (group,) = rung_.groups
        assert [stage.seed for stage in group] == [1000, 1001]
        for stage in group:
            assert isinstance(stage, ValidationStage)
            assert (stage.classifier.learning_rate, stage.classifier.batch_size) == (1e-3, 25)
            budgets.append(stage.classifier.budget)
    assert budgets[::2] == [Budget(steps=1, rounds=1), Budget(steps=2, rounds=2), Budget(steps=4, rounds=4)]


def test_ladder_of_a_cgan_measures_every_cut_with_the_same_classifier(small_cgan_search: Search) -> None:
    ladder = small_cgan_search.ladder({**VALUES, "batch_size": 64})
    for rung_, steps in zip(ladder, (1, 2, 4), strict=True):
        generators, classifiers = rung_.groups
        for generator, classifier in zip(generators, classifiers, strict=True):
            assert isinstance(generator, GeneratorStage)
            assert isinstance(classifier, ValidationStage)
            assert generator.generator.budget == Budget(steps=steps, rounds=steps)
            assert classifier.generator_stage == generator
            assert classifier.classifier == small_cgan_search.base.classifier


def test_ladder_of_a_cgan_that_is_judged_by_diversity_trains_no_classifier(small_cgan_search: Search) -> None:
    search = dataclasses.replace(small_cgan_search, objectives=("diversity",))
    groups = [group for rung in search.ladder(search.untuned) for group in rung.groups]
    assert not any(isinstance(stage, ClassifierStage) for group in groups for stage in group)


# Objectives


def test_scores_are_read_from_the_records_of_their_kind() -> None:
    quality = {"diversity": [1.0, 0.5, 2.0, None, 0.0]}
    records = [
        record("generator", quality_per_class=quality),
        record("generator", quality_per_class={"diversity": [1.0]}),
        record("validation", metrics={"macro_f1": 0.25}, quality_per_class=quality),
    ]
    assert score("macro_f1", records) == [0.25]
    # min(d, 1 / d): 1, 1/2, 1/2 and 0; what could not be estimated is left out.
    assert score("diversity", records) == [0.5, 1.0]


def test_every_objective_has_a_label() -> None:
    assert all(objective.label for objective in OBJECTIVES.values())


# The account


def test_rung_has_mean_and_spread_over_seeds_and_survives_json() -> None:
    result = rung(macro_f1=(0.1, 0.3))
    assert result.mean("macro_f1") == pytest.approx(0.2)
    assert result.sd("macro_f1") == pytest.approx(0.02**0.5)
    assert rung(macro_f1=(0.1,)).sd("macro_f1") is None
    assert RungResult.from_plain(result.to_plain()) == result


def test_choice_is_the_best_complete_trial_and_of_equals_the_first() -> None:
    trials = [
        trial(0, "complete", 0.5, 0.5),
        trial(1, "pruned", 0.9, 0.9),
        trial(2, "complete", 0.7, 0.5),
        trial(3, "complete", 0.6, 0.6),
        trial(4, "diverged", 0.9, 0.9),
        trial(5, "failed"),
        trial(6, "running", 0.9, 0.9),
    ]
    chosen = choose(trials, "macro_f1")
    assert chosen is not None
    assert chosen.number == 2
    assert choose(trials[4:], "macro_f1") is None


def test_front_holds_the_trials_that_none_betters() -> None:
    trials = [
        trial(0, "complete", 0.5, 0.5, other=(0.9, 0.9)),
        trial(1, "complete", 0.8, 0.8, other=(0.2, 0.2)),
        trial(2, "complete", 0.5, 0.5, other=(0.8, 0.8)),
        trial(3, "pruned", 0.9, 0.9, other=(0.9, 0.9)),
        trial(4, "complete", 0.8, 0.8, other=(0.2, 0.2)),
    ]
    assert [each.number for each in pareto_front(trials, ("macro_f1", "diversity"))] == [0, 1, 4]


def test_summary_tells_every_end_apart() -> None:
    trials = [
        trial(0, "complete", 0.5),
        trial(1, "pruned", 0.5),
        trial(2, "diverged"),
        trial(3, "pruned", 0.4),
    ]
    assert summary(trials) == "trials=4 complete=1 pruned=2 diverged=1 failed=0 running=0"


@pytest.mark.parametrize(
    ("limits", "is_spent"),
    [
        ({"trials": 3}, False),
        ({"trials": 2}, True),
        ({"steps": 361}, False),
        ({"steps": 360}, True),
        ({"minutes": 1.1}, False),
        ({"minutes": 1.0}, True),
        ({"trials": 9, "minutes": 0.5}, True),
    ],
)
def test_budget_is_spent_at_the_first_limit_that_is_reached(limits: dict[str, Any], is_spent: bool) -> None:
    trials = [trial(0, "complete", 0.5), trial(1, "running", 0.5)]
    assert SearchBudget(**limits).is_spent(trials) is is_spent


def test_budget_that_trials_never_reach_is_spent_when_many_in_a_row_have_failed() -> None:
    budget = SearchBudget(steps=1000, minutes=9)
    failed = [trial(number, "failed") for number in range(MAX_FAILED)]
    assert budget.is_out_of_reach(failed) and budget.is_spent(failed)
    assert budget.is_spent([trial(0, "complete", 0.5), *failed, trial(99, "running")])
    assert not budget.is_spent([*failed[1:], trial(99, "running")])
    assert not budget.is_spent([*failed, trial(99, "complete", 0.5)])
    assert not budget.is_spent([trial(0, "failed", 0.5), *failed[1:]]), "whose steps are counted"
    assert not SearchBudget(trials=MAX_FAILED + 1, steps=1000).is_spent(failed)


def test_budget_is_told_in_words() -> None:
    told = [str(SearchBudget(trials=6)), str(SearchBudget(steps=12_000, minutes=1.5))]
    assert told == ["6 trials", "12,000 steps or 1.5 minutes"]


@pytest.mark.parametrize("limits", [{}, {"trials": 0}, {"steps": -1}, {"minutes": 0}])
def test_budget_without_a_limit_above_0_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="budget in"):
        SearchBudget(**limits)


def test_objectives_that_are_metrics_are_better_when_higher() -> None:
    """All objectives are maximised."""
    assert all(is_higher_better(name) for name in OBJECTIVES if name in METRICS) and "macro_f1" in OBJECTIVES
