"""Read the searches of a store: trials, rungs, importance, and the confirmation on fresh seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.confirmation import PairedDifference, read_confirmation
from lt_rebalance.ground.text import one_line
from lt_rebalance.store import Store


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """The trials and results of one search."""

    name: str
    question: str
    component: str
    """what was tuned"""
    scheduler: str
    objectives: Mapping[str, str]
    """labels by name; the first one decides"""
    space: Mapping[str, Mapping[str, Any]]
    """by hyperparameter: "kind", "unit", and "low", "high" and "is_log", or "values\""""
    untuned: Mapping[str, Any]
    seeds: tuple[int, ...]
    rung_rounds: tuple[int, ...]
    trials: pd.DataFrame
    """one row per trial: number, state, reason, values, cost, objectives at its last rung, `_sd`"""
    rungs: pd.DataFrame
    """one row per trial and rung: number, round, objectives with `_sd`"""
    importance: Mapping[str, float]
    """share of each hyperparameter in the variation of the first objective; empty if unknown"""
    best: int | None
    front: tuple[int, ...]
    confirmation: tuple[PairedDifference, ...]
    """empty until the choice is confirmed, and if it is the untuned configuration"""

    @property
    def objective(self) -> str:
        """The objective that decides."""
        return next(iter(self.objectives))


def read_searches(*stores: Store) -> list[SearchResults]:
    """Return every search that has begun at least one trial; one that several stores have, once.

    Raises:
        StoreError: an account that is damaged or not what a search writes; it names the file.
    """
    holders: dict[str, Store] = {}
    for store in stores:
        holders |= {name: store for name in store.list_searches() if name not in holders}
    accounts = [(holders[name], holders[name].load_search(name)) for name in sorted(holders)]
    return [_read_search(store, account) for store, account in accounts if account["trials"]]


def _read_search(store: Store, account: Mapping[str, Any]) -> SearchResults:
    search, objectives = account["search"], account["objectives"]
    names = list(objectives)
    rungs = [
        {"number": trial["number"], **_rung_row(rung, names)}
        for trial in account["trials"]
        for rung in trial["rungs"]
    ]
    confirmation = account["confirmation"]
    return SearchResults(
        name=search["name"],
        question=one_line(account["question"]),
        component=search["component"],
        scheduler=search["scheduler"],
        objectives=objectives,
        space=account["space"],
        untuned=account["untuned"],
        seeds=tuple(search["seeds"]),
        rung_rounds=tuple(account["rung_rounds"]),
        trials=pd.DataFrame([_trial_row(trial, account["space"], names) for trial in account["trials"]]),
        rungs=pd.DataFrame(rungs, columns=["number", *_rung_columns(names)]),
        importance=account["importance"],
        best=account["best"],
        front=tuple(account["front"]),
        confirmation=tuple(
            read_confirmation(store, confirmation) if confirmation in store.list_studies() else ()
        ),
    )


def _trial_row(trial: Mapping[str, Any], space: Mapping[str, Any], objectives: list[str]) -> dict[str, Any]:
    row = {"number": trial["number"], "state": trial["state"], "reason": one_line(trial["reason"])}
    row |= {name: trial["values"].get(name) for name in space}
    last = trial["rungs"][-1] if trial["rungs"] else None
    return row | (_rung_row(last, objectives) if last else dict.fromkeys(_rung_columns(objectives), np.nan))


def _rung_columns(objectives: list[str]) -> list[str]:
    scores = [column for name in objectives for column in (name, f"{name}_sd")]
    return ["round", "num_steps", "total_steps", "train_s", *scores]


def _rung_row(rung: Mapping[str, Any], objectives: list[str]) -> dict[str, Any]:
    row = {name: rung[name] for name in ("round", "num_steps", "total_steps", "train_s")}
    for name in objectives:
        score = rung["scores"][name]
        row |= {name: score["mean"], f"{name}_sd": np.nan if score["sd"] is None else score["sd"]}
    return row
