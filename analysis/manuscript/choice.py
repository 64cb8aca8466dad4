"""What a paper shows of a store: one setting, and the training sets and methods that there is room for."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from analysis.collect import Results
from analysis.leading import leading_of
from analysis.methods import REFERENCES
from analysis.naming import compared_data, in_order
from analysis.tables.formats import listed
from lt_rebalance.ground.imbalance import data_rank, say_data
from lt_rebalance.ground.metrics import is_higher_better
from lt_rebalance.ground.text import count

MOST_DATA = 5
"""training sets of one table"""
MOST_PANELS = 3
"""training sets of one figure"""
MOST_ROWS = 40
"""rows of one table, so that it has room on a page"""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a paper shows."""

    setting: str
    dataset: str
    metric: str
    """the leading metric of this setting"""
    runs: pd.DataFrame
    """all planned runs of the setting, rows of `Results.runs`"""
    data: tuple[str, ...]
    """training sets, from mild to strong imbalance"""
    compared: tuple[str, ...]
    """those of them on which methods are compared"""
    methods: tuple[str, ...]
    """those with a complete run, the best at the strongest imbalance first"""
    left_out: tuple[str, ...] = ()
    """what the store has and the paper does not show, or what a paper has and the store does not, in words"""

    def select(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a frame that are of the setting and the training sets."""
        if frame.empty:
            return frame
        return frame[(frame["setting"] == self.setting) & frame["data"].isin(self.data)]

    def has(self, method: str, data: Collection[str]) -> bool:
        """Whether a method has a complete run on any of these training sets."""
        of_method = self.runs[(self.runs["method"] == method) & self.runs["data"].isin(list(data))]
        return bool((of_method["state"] == "complete").any())

    def best(self, data: str) -> list[str]:
        """Return the methods of a training set that one table has room for, in their order."""
        means = _means(self.runs[self.runs["data"] == data], self.metric)
        room = MOST_ROWS // len(self.compared)
        references = [name for name in means if name in REFERENCES]
        kept = {*references, *[name for name in means if name not in references][: room - len(references)]}
        return [method for method in self.methods if method in kept]


def choose(results: Results) -> Choice:
    """Return what a paper shows: the setting with the most complete runs, and of it what has room.

    Raises:
        ValueError: no run is complete.
    """
    complete = results.runs[results.runs["state"] == "complete"]
    if complete.empty:
        raise ValueError(
            "--paper takes complete runs, and this store has none; wait for the first, or leave --paper out"
        )
    counts = complete.groupby("setting", sort=False)["key"].nunique()
    setting = str(counts.idxmax())
    runs = results.runs[results.runs["setting"] == setting]
    metric = leading_of(runs)
    found = complete[complete["setting"] == setting]
    every = sorted(dict.fromkeys(found["data"]), key=data_rank)
    compared = [data for data in every if data in compared_data(found)] or every
    compared = compared[-MOST_DATA:]
    data = [each for each in every if each in compared or len(compared) < MOST_DATA][-MOST_DATA:]
    strongest = list(_means(found[found["data"] == compared[-1]], metric))
    choice = Choice(
        setting=setting,
        dataset=str(runs["dataset"].iloc[0]),
        metric=metric,
        runs=runs,
        data=tuple(data),
        compared=tuple(compared),
        methods=(*strongest, *(name for name in in_order(found["method"]) if name not in strongest)),
    )
    others = [str(name) for name in counts.index if name != setting]
    return dataclasses.replace(choice, left_out=tuple(_left_out(choice, every, others, results)))


def _means(runs: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return the mean of each method over its complete runs, the best first."""
    complete = runs[runs["state"] == "complete"]
    means = complete.groupby("method", sort=False)[metric].mean()
    ordered = means.sort_values(ascending=not is_higher_better(metric), kind="stable")
    return {str(method): float(mean) for method, mean in ordered.items()}


def _left_out(choice: Choice, every: list[str], others: list[str], results: Results) -> list[str]:
    """Return what is not shown and why, one sentence each."""
    said = []
    if others:
        said.append(f"{count(len(others), 'other setting')} ({'; '.join(others)}): --study reads one study")
    if absent := [say_data(data) for data in every if data not in choice.data]:
        said.append(f"{listed(absent)}: a table has room for {MOST_DATA} training sets")
    if len(choice.compared) > MOST_PANELS:
        absent = [say_data(data) for data in choice.compared[:-MOST_PANELS]]
        said.append(f"in figures, {listed(absent)}: they have room for {MOST_PANELS} training sets")
    for data in choice.compared:
        shown = choice.runs[choice.runs["data"] == data]
        if number := len(_means(shown, choice.metric)) - len(choice.best(data)):
            said.append(
                f"in tables 2 and 3, the {count(number, 'method')} of lowest mean on {say_data(data)}"
            )
    without = [name for name in in_order(choice.runs["method"]) if name not in choice.methods]
    if without:
        said.append(f"{listed(without)}: no complete run")
    if not any(reference in choice.methods for reference in REFERENCES):
        said.append(f"table 2 and figure 2: no complete run of {' or '.join(REFERENCES)}")
    elif len(choice.methods) < 2:
        said.append("table 2 and figure 2: there is one method")
    if choice.runs.loc[choice.runs["state"] == "complete"].groupby("cell").size().max() < 2:
        said.append("intervals and p values: there is one seed, and a spread takes two")
    generators = results.generators
    if generators.empty or not (generators["setting"] == choice.setting).any():
        said.append("diversity of generated images: this setting has no generator")
    return said
