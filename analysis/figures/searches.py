"""Figures S1 to S5: trials of a search, importance of hyperparameters, and early stopping."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import COLLAPSED_COLOUR, Drawn, make_figure
from analysis.searches import SearchResults
from analysis.sentences import describe_trial_bars

# Colour and marker by how a trial ended.
_STATES = {
    "complete": ("#0072B2", "o"),
    "pruned": ("#8c8c8c", "v"),
    "running": ("#E69F00", "s"),
    "diverged": (COLLAPSED_COLOUR, "X"),
    "failed": (COLLAPSED_COLOUR, "P"),
}
_BEST_COLOUR, _UNTUNED_COLOUR = "#D55E00", "#000000"


def draw_search(search: SearchResults) -> Iterator[Drawn]:
    """Yield the figures of a search for which there are enough trials."""
    yield _drawn("s1-history", "S1. Optimisation history", _history_caption(search), history_figure(search))
    if search.importance:
        caption = (
            f"Share of each hyperparameter in the variation of {_label(search)} between trials (PED-ANOVA, "
            "Watanabe et al. 2023, by Optuna); no interval. With few trials, or with good trials only, "
            "these shares are unreliable."
        )
        yield _drawn("s2-importance", "S2. Importance of hyperparameters", caption, importance_figure(search))
    if search.trials[search.objective].notna().sum() > 1:
        caption = (
            f"One line per trial, from its hyperparameters to {_label(search)} at its last rung. Orange: the "
            "choice; black, dashed: the untuned configuration; blue: other trials that ran to the end; "
            "grey: trials that did not. Hyperparameters searched on a log scale have a log axis."
        )
        yield _drawn("s3-parallel", "S3. Parallel coordinates", caption, parallel_figure(search))
        yield _drawn("s4-rungs", "S4. Trials at each rung", _rungs_caption(search), rungs_figure(search))
    if len(search.objectives) == 2 and search.front:
        caption = (
            f"Trials that ran to the end, by both objectives: {describe_trial_bars(len(search.seeds))}. "
            "Orange: the Pareto front, whose trials no other trial beats in both."
        )
        yield _drawn("s5-front", "S5. Both objectives", caption, front_figure(search))


def _drawn(name: str, title: str, caption: str, figure: Figure) -> Drawn:
    return Drawn(name=name, title=title, caption=caption, figure=figure)


def _label(search: SearchResults) -> str:
    return search.objectives[search.objective]


def _history_caption(search: SearchResults) -> str:
    return (
        f"Every trial at its last rung, by {_label(search)}: {describe_trial_bars(len(search.seeds))}. Line: "
        "best so far of the trials that ran to the end. Dashed: the untuned configuration. Diverged and "
        "failed trials are at the lower edge. The best of many noisy means is too high on average; the "
        "confirmation shows how good the choice is."
    )


def _rungs_caption(search: SearchResults) -> str:
    shown, _, _ = describe_trial_bars(len(search.seeds)).partition(",")
    return (
        f"Left: number of trials measured at each rung. Right: every trial at its rungs, {shown}. Orange: "
        "the choice; grey: trials that were stopped early."
    )


def history_figure(search: SearchResults) -> Figure:
    """Return every trial in its order, and the best so far."""
    figure, ((axes,),) = make_figure(1, 1, 8, 3.4)
    plot_history(axes, search)
    return figure


def plot_history(axes: Axes, search: SearchResults) -> Axes:
    """Draw the objective of trials in their order, by how they ended."""
    objective, trials = search.objective, search.trials
    measured = trials[trials["state"].isin(["complete", "pruned", "running"]) & trials[objective].notna()]
    floor = measured[objective].min() if len(measured) else 0.0
    for state, rows in trials.groupby("state", sort=False):
        colour, marker = _STATES[str(state)]
        values = rows[objective].where(rows["number"].isin(measured["number"]), floor)
        spread = rows[f"{objective}_sd"].where(rows["number"].isin(measured["number"]), 0).fillna(0)
        options: dict[str, Any] = {"fmt": marker, "color": colour, "markersize": 5, "elinewidth": 0.8}
        axes.errorbar(rows["number"], values, yerr=spread, label=f"{state} ({len(rows)})", **options)
    complete = trials[trials["state"] == "complete"]
    if len(complete):
        best = trials[objective].where(trials["state"] == "complete").cummax().ffill()
        axes.step(
            trials["number"], best, where="post", color=_BEST_COLOUR, linewidth=1.2, label="best so far"
        )
    untuned = complete[_is_untuned(complete, search)]
    if len(untuned):
        axes.axhline(untuned[objective].iloc[0], color=_UNTUNED_COLOUR, linestyle="--", linewidth=0.8)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(_label(search))
    axes.grid(color="0.92")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return axes


def _is_untuned(trials: pd.DataFrame, search: SearchResults) -> pd.Series:
    matches = [trials[name] == value for name, value in search.untuned.items()]
    return pd.Series(np.logical_and.reduce(matches), index=trials.index)


def importance_figure(search: SearchResults) -> Figure:
    """Return one bar per hyperparameter, the most important on top."""
    shares = pd.Series(search.importance).sort_values()
    figure, ((axes,),) = make_figure(1, 1, 6, 1.0 + 0.32 * len(shares))
    axes.barh(shares.index, shares, color="#0072B2", height=0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of importance")
    axes.tick_params(axis="y", length=0)
    return figure


def parallel_figure(search: SearchResults) -> Figure:
    """Return one line per trial over its hyperparameters and its objective."""
    names = [*search.space, search.objective]
    trials = search.trials[search.trials[search.objective].notna()]
    figure, ((axes,),) = make_figure(1, 1, 1.2 + 1.5 * len(names), 3.8)
    scores = trials[search.objective]
    low, high = float(scores.min()), float(scores.max())
    places = {name: [_place(value, search.space[name]) for value in trials[name]] for name in search.space}
    places[search.objective] = list((scores - low) / (high - low or 1.0))
    lines = pd.DataFrame(places)
    is_untuned = _is_untuned(trials, search)
    for index, (number, state, untuned) in enumerate(
        zip(trials["number"], trials["state"], is_untuned, strict=True)
    ):
        colour, width = (_STATES["complete"][0], 1.0) if state == "complete" else ("0.75", 0.8)
        style, order = "-", 2 if state == "complete" else 1
        if untuned:
            colour, width, style, order = _UNTUNED_COLOUR, 1.6, "--", 4
        elif number == search.best:
            colour, width, order = _BEST_COLOUR, 2.2, 3
        axes.plot(range(len(names)), lines.iloc[index], style, color=colour, linewidth=width, zorder=order)
    ends = {name: _ends(search.space[name]) for name in search.space} | {
        search.objective: (f"{low:.3f}", f"{high:.3f}")
    }
    for position, name in enumerate(names):
        axes.vlines(position, 0, 1, color="0.6", linewidth=0.8, zorder=0)
        axes.annotate(ends[name][0], (position, -0.04), ha="center", va="top", fontsize=8)
        axes.annotate(ends[name][1], (position, 1.04), ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(-0.14, 1.14)
    axes.set_yticks([])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="x", length=0)
    return figure


def _place(value: Any, domain: Mapping[str, Any]) -> float:
    """Return the position of a value between the ends of its domain, in [0, 1]."""
    if domain["kind"] == "choice":
        return float(list(domain["values"]).index(value)) / (len(domain["values"]) - 1)
    low, high, at = domain["low"], domain["high"], value
    if domain.get("is_log"):
        low, high, at = np.log(low), np.log(high), np.log(value)
    return float((at - low) / (high - low))


def _ends(domain: Mapping[str, Any]) -> tuple[str, str]:
    if domain["kind"] == "choice":
        return str(domain["values"][0]), str(domain["values"][-1])
    return f"{domain['low']:g}", f"{domain['high']:g}"


def rungs_figure(search: SearchResults) -> Figure:
    """Return the number of trials at each rung, and their objectives there."""
    figure, ((counts, scores),) = make_figure(1, 2, 8, 3.2)
    reached = (
        search.rungs.groupby("round")["number"].nunique().reindex(list(search.rung_rounds), fill_value=0)
    )
    rounds = [str(round_index) for round_index in search.rung_rounds]
    counts.bar(rounds, reached, color="#0072B2", width=0.6)
    for position, number in enumerate(reached):
        counts.annotate(str(number), (position, number), ha="center", va="bottom", fontsize=8)
    counts.set_xlabel("rung (rounds of training)")
    counts.set_ylabel("trials measured")
    counts.yaxis.set_major_locator(MaxNLocator(integer=True))
    states = search.trials.set_index("number")["state"]
    for number, rows in search.rungs.groupby("number"):
        is_complete = states[number] == "complete"
        colour, width = (_STATES["complete"][0], 1.0) if is_complete else ("0.75", 0.8)
        if number == search.best:
            colour, width = _BEST_COLOUR, 2.0
        places = [search.rung_rounds.index(round_index) for round_index in rows["round"]]
        scores.plot(places, rows[search.objective], "o-", color=colour, linewidth=width, markersize=3)
    scores.set_xticks(range(len(rounds)), rounds)
    scores.set_xlabel("rung (rounds of training)")
    scores.set_ylabel(_label(search))
    scores.grid(color="0.92")
    return figure


def front_figure(search: SearchResults) -> Figure:
    """Return the trials that ran to the end by both objectives."""
    first, second = search.objectives
    figure, ((axes,),) = make_figure(1, 1, 5.5, 4)
    complete = search.trials[search.trials["state"] == "complete"]
    for is_front, rows in complete.groupby(complete["number"].isin(search.front)):
        colour = _BEST_COLOUR if is_front else _STATES["complete"][0]
        spread = {"xerr": rows[f"{first}_sd"].fillna(0), "yerr": rows[f"{second}_sd"].fillna(0)}
        axes.errorbar(
            rows[first], rows[second], **spread, fmt="o", color=colour, elinewidth=0.8, markersize=5
        )
        for number, x, y in zip(rows["number"], rows[first], rows[second], strict=True):
            axes.annotate(str(number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel(search.objectives[first])
    axes.set_ylabel(search.objectives[second])
    axes.grid(color="0.92")
    return figure
