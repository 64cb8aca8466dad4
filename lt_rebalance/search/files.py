"""Files that a search writes for readers: its account, and the configuration that it chose."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lt_rebalance.data import at_hand
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.search.account import SearchBudget, Trial, choose, pareto_front
from lt_rebalance.search.search import OBJECTIVES, Search
from lt_rebalance.search.spaces import METHOD
from lt_rebalance.studies.stage import RESULTS_VERSION


def make_account(
    search: Search,
    question: str,
    budget: SearchBudget,
    trials: Sequence[Trial],
    importance: Mapping[str, float],
) -> dict[str, Any]:
    """Return the account of a search as plain JSON values, with all that a report needs."""
    best = choose(trials, search.objectives[0])
    dataset = search.base.data.dataset
    # Without these, readers who lack the images could not tell which stages belong to the search.
    found = at_hand.find(dataset)
    own = {} if found is None else {"own_data": [found.spec.to_plain()]}
    return (
        describe_search(search)
        | own
        | {
            "question": question,
            "budget": dataclasses.asdict(budget),
            "trials": [trial.to_plain() for trial in trials],
            "importance": dict(importance),
            "best": None if best is None else best.number,
            "front": [trial.number for trial in pareto_front(trials, search.objectives)],
            "confirmation": confirmation_name(search),
        }
    )


def confirmation_name(search: Search) -> str:
    """Return the name of the study that confirms the choice of a search."""
    return f"{search.name}-confirmation"


def best_toml(search: Search, trial: Trial) -> str:
    """Return the values of a trial as a configuration file for studies."""
    lines = [f"# The best of search {search.name}: trial {trial.number}."]
    if search.component != METHOD:  # whose names contain the section
        lines.append(f"[{search.component}]")
    # JSON and TOML write strings and finite numbers alike.
    return "\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in trial.values.items()), ""])


def describe_search(search: Search) -> dict[str, Any]:
    """Return the identity of a search, as plain JSON values: searches that agree in this are the same."""
    description = {
        "results_version": RESULTS_VERSION,
        "search": to_plain(search),
        "objectives": {name: OBJECTIVES[name].label for name in search.objectives},
        "space": {
            name: {"kind": type(domain).__name__.lower(), **to_plain(domain)}
            for name, domain in search.space.items()
        },
        "untuned": dict(search.untuned),
        "rung_rounds": list(search.rung_rounds),
    }
    plain: dict[str, Any] = json.loads(json.dumps(description, allow_nan=False))
    return plain
