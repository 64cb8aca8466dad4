"""What a report says of the design: each sentence is a function of the cells, said only where they bear it.

`cells` are those of `Results.cells`, whole or in part; `runs` are rows of `Results.runs`. A sentence for
which there is no ground is the empty string.
"""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from analysis.compare import EXPLORATORY
from lt_rebalance.ground.confusion import MAX_SHOWN, NUM_WORST
from lt_rebalance.ground.imbalance import ORIGINAL, is_c
from lt_rebalance.ground.paper import explain_absence
from lt_rebalance.ground.statements import describe_diverged

ORACLE = "oracle_best_test"
_SELECTIONS = {
    "last": "after the last round",
    "best_validation": "of the round that was best on validation images",
    ORACLE: "of the round that was best on the test images themselves",
}
"""which round is reported, by the selection of a cell"""


def join(sentences: Iterable[str]) -> str:
    """Return the sentences that there is ground for, one after the other."""
    return " ".join(sentence for sentence in sentences if sentence)


def _values(cells: pd.DataFrame, column: str) -> list[object]:
    """Return the values that a column of the configuration has, each once; none where no cell has it."""
    return list(dict.fromkeys(cells[column].dropna())) if column in cells else []


def listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# What a seed changes


def name_what_seeds_change(cells: pd.DataFrame) -> list[str]:
    """Return what differs between the seeds of one cell, in some cell at least."""
    draws, orders = _values(cells, "data.subset_draw"), _values(cells, "data.class_order")
    changed = []
    if "per_seed" in draws:
        changed.append("the subset" if draws == ["per_seed"] else "the subset where it is drawn per seed")
    if "permuted" in orders:
        changed.append(
            "the order of classes" if orders == ["permuted"] else "the order of classes where permuted"
        )
    if _values(cells, "generator.architecture"):
        changed.append("the generator where there is one")
    return [*changed, "the initial weights", "the order of batches"]


def describe_seeds(cells: pd.DataFrame) -> str:
    """Say what a seed changes, and what all seeds share."""
    text = f"A seed changes {listed(name_what_seeds_change(cells))}."
    draws = _values(cells, "data.subset_draw")
    if "paper" in draws:
        where = "" if draws == ["paper"] else " where it is the paper's"
        text += f" The subset{where} is one fixed draw, the same at every seed: the spread holds none of it."
    return text


def describe_spread(cells: pd.DataFrame, contrasts: pd.DataFrame, *, has_seeds_apart: bool) -> str:
    """Say whose spread the intervals show, and which tables take it apart.

    Args:
        contrasts: as `analysis.compare.compare` returns them; spread is taken apart from two pairs on.
    """
    apart = "T4b the sources where a study has seeds for each" if has_seeds_apart else ""
    has_components = not contrasts.empty and bool((contrasts["n_pairs"] >= 2).any())
    shared = "T4a separates what all methods of a seed share" if has_components else ""
    tables = "; ".join(each for each in (shared, apart) if each)
    return join(
        [
            describe_seeds(cells),
            f"The spread is that of all of these together{'; ' + tables if tables else ''}.",
        ]
    )


def _axis(cells: pd.DataFrame) -> str:
    """Return how the imbalance of training data is called: C where there is nothing else."""
    return "C" if all(is_c(data) or data == ORIGINAL for data in cells["data"]) else "training data"


def _one(cells: pd.DataFrame) -> str:
    axis = _axis(cells)
    return f"a {axis}" if axis == "C" else axis


def _num_paired(cells: pd.DataFrame) -> int:
    """Return how many settings and Cs have two methods that can be compared."""
    return int((cells.groupby(["setting", "data"])["cell"].nunique() > 1).sum())


def describe_pairs(cells: pd.DataFrame) -> str:
    """Say what runs of one seed share; only where some are compared."""
    if _num_paired(cells) == 0:
        return ""
    order = ", the order of classes" if "permuted" in _values(cells, "data.class_order") else ""
    return (
        f"Within a setting and {_one(cells)}, runs of one seed share the real images{order}, the initial "
        "weights of the classifier, and the order of batches where their sets are of one size; they are "
        "compared in pairs."
    )


def describe_settings(cells: pd.DataFrame, *, has_comparisons: bool) -> str:
    """Say what a setting is, and what is compared across several."""
    if cells["setting"].nunique() < 2:
        return f"All cells are of one setting: they share all but {_axis(cells)}, method and generator."
    others = "hypotheses and comparisons with reference cells do" if has_comparisons else "hypotheses do"
    return (
        f"Cells that share all but {_axis(cells)}, method and generator are one setting. Methods are "
        f"compared within a setting; only {others} look across settings."
    )


# Which images chose and which report


def describe_reported_round(cells: pd.DataFrame) -> str:
    """Say which round the numbers are of."""
    selections = [str(value) for value in _values(cells, "classifier.selection")]
    return " or ".join(_SELECTIONS.get(each, f"by selection {each}") for each in selections)


def describe_choice(cells: pd.DataFrame) -> str:
    """Say whether test images chose anything."""
    if "classifier.selection" not in cells:
        return ""
    num_oracle = int((cells["classifier.selection"] == ORACLE).sum())
    if num_oracle == 0:
        return "Test images were used to report, never to choose."
    cells_of = "every cell" if num_oracle == len(cells) else f"{num_oracle} of {len(cells)} cells"
    return (
        f"In {cells_of} the test images chose the round that they report ({ORACLE}): these numbers are too "
        "good, and show only how far a choice on the test set can carry."
    )


# What is missing


def describe_left_out(runs: pd.DataFrame, what: str = "every mean") -> str:
    """Say how many planned runs diverged, and what follows."""
    diverged = describe_diverged(int((runs["state"] == "diverged").sum()), what)
    return f"Of {len(runs):,} planned runs, {diverged}." if diverged else ""


def describe_pairs_left_out(frame: pd.DataFrame) -> str:
    """Say how many pairs lack a run that diverged; `frame` has columns `n_expected` and `n_diverged`."""
    if "n_diverged" not in frame or frame.empty:
        return ""
    diverged = describe_diverged(int(frame["n_diverged"].sum()), "the differences")
    return f"Of {int(frame['n_expected'].sum()):,} planned pairs, {diverged}." if diverged else ""


# The paper's numbers


def describe_papers_numbers(runs: pd.DataFrame) -> str:
    """Say why the paper's numbers stand beside some cells only, or beside none."""
    return explain_absence(runs.drop_duplicates("cell")["paper_departure"])


def has_papers_numbers(runs: pd.DataFrame) -> bool:
    """Whether the paper's numbers stand beside any cell."""
    return bool((runs["paper_departure"] == "").any())


# The chapters of a report


def chapter_texts(
    cells: pd.DataFrame, runs: pd.DataFrame, contrasts: pd.DataFrame, *, has_comparisons: bool
) -> Mapping[str, str]:
    """Return what each chapter says before its tables, by name of the chapter; what is not said is left out.

    Args:
        contrasts: as `analysis.compare.compare` returns them.
    """
    has_generators = bool(_values(cells, "generator.architecture"))
    return {
        "results": join(
            [
                describe_seeds(cells),
                describe_replication(runs),
                describe_left_out(runs),
            ]
        ),
        "differences": describe_families(contrasts),
        "ablations": (
            "These studies compare cells with a reference cell that differs in one choice, or in a few. "
            "Every study is one family of comparisons."
            if has_comparisons
            else ""
        ),
        "classes": (
            "A class is dead when not one of its test images is recognised, and a run with a dead class has "
            "collapsed. Collapsed runs stay in every test."
        ),
        "generators": (
            "Every generator draws its sheet from the same noise, so that sheets can be laid side by side. "
            "Look for rows that repeat one image, for images that equal their nearest real one, and for "
            "classes "
            "drawn as another."
            if has_generators
            else ""
        ),
        "exploratory": "Nothing here was declared beforehand. It may suggest a question; it answers none.",
        "provenance": (
            "Every planned run is accounted for. What finished runs were made with is told as far as their "
            "records say."
        ),
    }


def describe_replication(runs: pd.DataFrame) -> str:
    """Say how to read an interval, and what the paper's single run is compared with where there is one."""
    text = (
        "The interval of a mean says how well the mean is known; the prediction interval says where one "
        "further run would fall"
    )
    return text + (
        ", and that is what the paper's single run is compared with." if has_papers_numbers(runs) else "."
    )


def describe_families(contrasts: pd.DataFrame) -> str:
    """Say how methods are compared and which contrasts are declared; only where there are any."""
    if contrasts.empty:
        return ""
    declared = contrasts["family"] != EXPLORATORY
    if not declared.any():
        which = (
            "No contrast at hand belongs to a family that analysis/families.toml declares: all are "
            "exploratory."
        )
    elif declared.all():
        which = "All contrasts belong to a family that analysis/families.toml declares."
    else:
        which = (
            f"{int(declared.sum())} of {len(contrasts)} contrasts belong to a family that "
            "analysis/families.toml declares; all others are exploratory, and marked so."
        )
    return f"Methods are compared seed by seed. {which}"


# What studies share with others


def describe_seeds_apart(num_apart: int, num_of_one_seed: int) -> str:
    """Say where runs stand that have seeds of their own for subset, generator and classifier."""
    if num_apart == 0:
        return ""
    runs = "1 of these runs has" if num_apart == 1 else f"{num_apart:,} of these runs have"
    rest = "; all other tables and figures are about the rest" if num_of_one_seed else ""
    return (
        f"{runs} another seed for its subset than for its generator or classifier, and shares a subset with "
        f"another run: T4b is about them, T6 counts them{rest}."
    )


def describe_assumptions(runs: pd.DataFrame) -> str:
    """Say what intervals assume, and whether the runs at hand look otherwise."""
    text = "t and prediction intervals take runs to be about normally distributed."
    collapsed = runs.loc[runs["state"] == "complete"].groupby("cell")["is_collapsed"].agg(["sum", "size"])
    num_mixed = int(((collapsed["sum"] > 0) & (collapsed["sum"] < collapsed["size"])).sum())
    if num_mixed == 0:
        return text
    cells = "1 cell" if num_mixed == 1 else f"{num_mixed} cells"
    return (
        f"{text} In {cells} some runs collapse and others do not: there they are not, and an interval may "
        "cover "
        "far less than it says; read T3 beside T1."
    )


UNCUT = (
    "Intervals are not cut at the ends of a metric's range; one that reaches beyond says that n is too small "
    "for it."
)


def describe_single_runs(runs: pd.DataFrame) -> str:
    """Say what a single run of the paper can show; only where one stands beside ours."""
    if not has_papers_numbers(runs):
        return ""
    return (
        "The paper gives one run a row. One number can be unlikely under ours; it cannot show how the "
        "paper's "
        "procedure behaves on average."
    )


def describe_sample(cells: pd.DataFrame) -> str:
    """Say what a small sample of a data set is worth; only where one was used."""
    if not any(str(name).endswith("_mini") for name in cells["dataset"]):
        return ""
    return (
        "A data set named mini is a small sample of the full one, and its test set is small as well: its "
        "accuracies are not those of the full set."
    )


def describe_shown(num_classes: int) -> str:
    """Say which classes are shown of more than have room; nothing where all are."""
    if num_classes <= MAX_SHOWN:
        return ""
    return (
        f"Of {num_classes:,} classes, shown are groups by rank and by number of training images, and the "
        f"{NUM_WORST} of lowest mean recall over all methods; the others are left out."
    )


# Searches


def describe_search_choice(labels: Iterable[str]) -> str:
    """Say which images chose among the trials; `labels` of the objectives."""
    on_validation = [label for label in labels if "validation" in label]
    if not on_validation:
        return "What chooses is measured on the generated images; no test image is looked at for it."
    return (
        "What chooses is measured on validation images, set aside from the training images; test images "
        "speak "
        "in the confirmation alone."
    )


def describe_fresh_seeds(search_seeds: Iterable[int], confirmed_seeds: Iterable[int]) -> str:
    """Say whether a confirmation has other seeds than its search."""
    shared = set(search_seeds) & set(confirmed_seeds)
    if shared:
        return (
            f"{len(shared)} of the seeds of these runs were seeds of the search as well: for them this is no "
            "confirmation."
        )
    return "These runs have other seeds than the search, and are tested on the test images."


def describe_trials(num_trials: int, ends: str, num_seeds: int) -> str:
    """Say what the numbers of trials are."""
    over = (
        f"the mean over {num_seeds} seeds with its standard deviation"
        if num_seeds > 1
        else "that of a single seed, whose spread is not known"
    )
    trials = "1 trial" if num_trials == 1 else f"{num_trials:,} trials"
    return (
        f"{trials}: {ends}. Every number is {over}, at the last rung that the trial reached; those of "
        "different "
        "rungs are not comparable."
    )


def describe_trial_ends(states: Iterable[str]) -> str:
    """Say what the ends mean that trials at hand have come to."""
    meanings = {
        "pruned": "Pruned: stopped at a rung for being worse than others there.",
        "diverged": "Diverged: at some seed a loss was not finite; it counts as the worst.",
        "failed": "Failed: an error, of which the search learns nothing.",
    }
    return join(meanings[state] for state in meanings if state in set(states))


def describe_trial_bars(num_seeds: int) -> str:
    """Say what is drawn of a trial."""
    return (
        f"mean over n = {num_seeds} seeds, bar of one standard deviation"
        if num_seeds > 1
        else "a single seed"
    )
