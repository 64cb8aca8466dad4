"""Sentences of a report on the design; each is a function of the cells.

`cells` are all or some of `Results.cells`; `runs` are rows of `Results.runs`. A sentence that does not apply
is the empty string.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from analysis.compare import EXPLORATORY, load_families
from analysis.leading import name_leading, name_metrics
from analysis.methods import DIFFERENCES
from lt_rebalance.ground.confusion import MAX_SHOWN, NUM_WORST
from lt_rebalance.ground.imbalance import ORIGINAL, is_c
from lt_rebalance.ground.paper import explain_absence
from lt_rebalance.ground.statements import describe_diverged
from lt_rebalance.ground.text import count

ORACLE = "oracle_best_test"
_SELECTIONS = {
    "last": "after the last round",
    "best_validation": "of the round that was best on validation images",
    ORACLE: "of the round that was best on the test images themselves",
}
"""the reported round, by the selection of a cell"""


_PROTOCOLS = {
    "paper": "Protocol paper does what the paper's code did: a softmax before the cross-entropy, one subset.",
    "sound": (
        "Protocol sound follows good practice: equal steps, draws by seed, and cross-entropy on logits "
        "unless the setting names another loss."
    ),
    "cifar_lt": "Protocol cifar_lt trains as papers on CIFAR-LT do.",
}


def describe_protocols(cells: pd.DataFrame) -> str:
    """Say what each protocol of the cells is; changed fields are in the setting's name."""
    names = dict.fromkeys(str(name).partition("+")[0] for name in cells["protocol"])
    is_changed = any("+" in str(name) for name in cells["protocol"])
    changed = "Fields that were changed are in the names of the settings." if is_changed else ""
    return join([*(_PROTOCOLS.get(name, "") for name in names), changed])


def join(sentences: Iterable[str]) -> str:
    """Return the sentences that are not empty, joined by spaces."""
    return " ".join(sentence for sentence in sentences if sentence)


def _values(cells: pd.DataFrame, column: str) -> list[object]:
    """Return the distinct values of a column of the configuration; none if no cell has it."""
    return list(dict.fromkeys(cells[column].dropna())) if column in cells else []


def listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# What a seed changes


def name_what_seeds_change(cells: pd.DataFrame) -> list[str]:
    """Return what differs between the seeds of a cell, for at least one cell."""
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
    """Say what a seed changes, and what is equal for all seeds."""
    text = f"A seed changes {listed(name_what_seeds_change(cells))}."
    draws = _values(cells, "data.subset_draw")
    if "paper" in draws:
        where = "" if draws == ["paper"] else " where it is the paper's"
        text += f" The subset{where} is one fixed draw for all seeds, so the spread does not include it."
    return text


def describe_spread(cells: pd.DataFrame, contrasts: pd.DataFrame, *, has_seeds_apart: bool) -> str:
    """Say which spread the intervals show, and which tables separate its sources.

    Args:
        contrasts: as `analysis.compare.compare` returns them; sources are separated from two pairs on.
    """
    apart = "T4b separates the sources where a study has seeds for each" if has_seeds_apart else ""
    has_components = not contrasts.empty and bool((contrasts["n_pairs"] >= 2).any())
    shared = "T4a separates the part that all methods of a seed share" if has_components else ""
    tables = "; ".join(each for each in (shared, apart) if each)
    return join(
        [
            describe_seeds(cells),
            f"Intervals show the spread of all of these together{'; ' + tables if tables else ''}.",
        ]
    )


def _axis(cells: pd.DataFrame) -> str:
    """Return the name of the imbalance of training data: C if all data are given by C."""
    return "C" if all(is_c(data) or data == ORIGINAL for data in cells["data"]) else "training data"


def _one(cells: pd.DataFrame) -> str:
    axis = _axis(cells)
    return f"a {axis}" if axis == "C" else axis


def _num_paired(cells: pd.DataFrame) -> int:
    """Return how many settings and Cs have at least two methods."""
    return int((cells.groupby(["setting", "data"])["cell"].nunique() > 1).sum())


def describe_pairs(cells: pd.DataFrame) -> str:
    """Say what runs of one seed share, if any are compared."""
    if _num_paired(cells) == 0:
        return ""
    order = ", the order of classes" if "permuted" in _values(cells, "data.class_order") else ""
    return (
        f"Within a setting and {_one(cells)}, runs of one seed are compared in pairs. They share the real "
        f"images{order}, the initial weights of the classifier and, if their training sets have equal sizes, "
        "the order of batches."
    )


def describe_settings(cells: pd.DataFrame, *, has_comparisons: bool) -> str:
    """Define a setting, and say what is compared across settings."""
    if cells["setting"].nunique() < 2:
        return (
            f"All configurations belong to one setting: they share everything except {_axis(cells)}, method "
            "and generator."
        )
    others = "hypotheses and comparisons with references" if has_comparisons else "hypotheses"
    return (
        f"A setting is everything that configurations share except {_axis(cells)}, method and generator. "
        f"Methods are compared within a setting; only {others} compare across settings."
    )


# Which images chose and which report


def describe_reported_round(cells: pd.DataFrame) -> str:
    """Say which round is reported."""
    selections = [str(value) for value in _values(cells, "classifier.selection")]
    return " or ".join(_SELECTIONS.get(each, f"by selection {each}") for each in selections)


def describe_choice(cells: pd.DataFrame) -> str:
    """Say whether test images were used for a choice."""
    if "classifier.selection" not in cells:
        return ""
    num_oracle = int((cells["classifier.selection"] == ORACLE).sum())
    if num_oracle == 0:
        return "Test images were used to report, never to choose."
    which = "every configuration"
    if num_oracle < len(cells):
        which = f"{num_oracle} of {len(cells)} configurations"
    return (
        f"In {which} the reported round was chosen on the test images ({ORACLE}). These numbers are too "
        "optimistic; they only show what a choice on the test set can reach."
    )


# What is missing


def describe_left_out(runs: pd.DataFrame, what: str = "every mean") -> str:
    """Say how many planned runs diverged, and the consequence."""
    diverged = describe_diverged(int((runs["state"] == "diverged").sum()), what)
    return f"Of {len(runs):,} planned runs, {diverged}." if diverged else ""


def describe_pairs_left_out(frame: pd.DataFrame) -> str:
    """Say how many pairs lack a diverged run; `frame` has columns `n_expected` and `n_diverged`."""
    if "n_diverged" not in frame or frame.empty:
        return ""
    diverged = describe_diverged(int(frame["n_diverged"].sum()), "the differences")
    return f"Of {int(frame['n_expected'].sum()):,} planned pairs, {diverged}." if diverged else ""


# The paper's numbers


def describe_papers_numbers(runs: pd.DataFrame) -> str:
    """Say why the paper's numbers apply to some cells only, or to none."""
    return explain_absence(runs.drop_duplicates("cell")["paper_departure"])


def has_papers_numbers(runs: pd.DataFrame) -> bool:
    """Whether the paper's numbers apply to any cell."""
    return bool((runs["paper_departure"] == "").any())


# The chapters of a report


def chapter_texts(
    cells: pd.DataFrame,
    runs: pd.DataFrame,
    contrasts: pd.DataFrame,
    *,
    has_comparisons: bool,
    confirmatory: Mapping[str, Sequence[str]],
) -> Mapping[str, str]:
    """Return the introduction of each chapter, by name of the chapter; empty if there is none.

    Args:
        contrasts: as `analysis.compare.compare` returns them. confirmatory: of `Results`.
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
            "These studies compare each configuration with a reference that differs in one choice or a few. "
            "The comparisons of a study form one family for the correction."
            if has_comparisons
            else ""
        ),
        "classes": (
            "A class is dead if none of its test images is recognised. A run with a dead class has "
            "collapsed. Collapsed runs stay in every test."
        ),
        "generators": (
            "All generators get the same noise, so their images can be compared. Look for rows that repeat "
            "one image, images that equal their nearest real image, and images that show another class."
            if has_generators
            else ""
        ),
        "claims": describe_registered(confirmatory),
        "exploratory": "None of these comparisons was declared beforehand. They may suggest a hypothesis; "
        "they do not test one.",
        "provenance": (
            "These tables account for every planned run. They list the code, libraries, devices and data "
            "that the records name."
        ),
    }


def describe_registered(confirmatory: Mapping[str, Sequence[str]]) -> str:
    """Say which hypotheses, families of contrasts and differences were registered, if any were.

    Args:
        confirmatory: by study, of all studies. Where there are several, they are named.
    """
    said = [
        f"Before the first run{f' of {study}' if len(confirmatory) > 1 else ''}: {_list_registered(names)}."
        for study, names in confirmatory.items()
        if names
    ]
    rest = "Everything else is exploratory, and so is every test with a q."
    return join([*said, rest]) if said else ""


def describe_unregistered(
    runs: pd.DataFrame,
    confirmatory: Mapping[str, Sequence[str]],
    study_keys: Mapping[str, Mapping[str, Sequence[str]]],
    registered: Collection[str],
) -> str:
    """Say how many runs of configurations with a registered claim no registered plan has, if there are any.

    Args:
        runs, confirmatory, study_keys: of `Results`.
        registered: studies with a registered plan, with or without claims.
    """
    claimed = {study for study, names in confirmatory.items() if names}
    named = {key for study in {*claimed, *registered} for keys in study_keys[study].values() for key in keys}
    others = runs[runs["cell"].isin({cell for study in claimed for cell in study_keys[study]})]
    num_others = int((~others["key"].isin(named)).sum())
    if num_others == 0:
        return ""
    verb = "is" if num_others == 1 else "are"
    return (
        f"{count(num_others, 'run')} of these configurations {verb} in no registered plan. Tables count "
        "them, so that what they say of these configurations is exploratory, too."
    )


def describe_seeds_registered(seeds: Mapping[str, tuple[int, int, int]]) -> str:
    """Say how many registered seeds are complete, where some are not and the stopping rule allows that.

    Args:
        seeds: `Results.registered_seeds`.
    """
    return join(
        f"{_count_seeds(study, num_whole, planned, len(seeds))}."
        for study, (num_whole, planned, fewest) in seeds.items()
        if fewest <= num_whole < planned
    )


def describe_interim(seeds: Mapping[str, tuple[int, int, int]]) -> str:
    """Say which studies have fewer seeds than their stopping rules ask for, if any.

    Args:
        seeds: `Results.registered_seeds`.
    """
    sentences = [
        f"{_count_seeds(study, num_whole, planned, len(seeds))}, and the stopping rule asks for at least "
        f"{fewest}."
        for study, (num_whole, planned, fewest) in seeds.items()
        if num_whole < fewest
    ]
    return join([*sentences, "No verdict can rest on this."] if sentences else [])


def _count_seeds(study: str, num_whole: int, planned: int, num_studies: int) -> str:
    seeds = f"{num_whole} of {planned} seeds {'of its plan' if num_studies == 1 else f'of {study}'}"
    return f"{seeds} {'is' if num_whole == 1 else 'are'} complete"


def _list_registered(confirmatory: Sequence[str]) -> str:
    named = {family.name: f"the contrasts of “{family.name}”" for family in load_families()}
    named[DIFFERENCES] = f"the differences between methods in {DIFFERENCES}"
    families = [named[name] for name in confirmatory if name in named]
    hypotheses = [name for name in confirmatory if name not in named]
    return listed([*families, *hypotheses])


def describe_replication(runs: pd.DataFrame) -> str:
    """Explain the intervals, and the comparison with the paper's single run if there is one."""
    text = (
        "The interval of a mean shows how precisely the mean is known. The prediction interval shows where "
        "one further run would fall"
    )
    return text + ("; the paper's single run is compared with it." if has_papers_numbers(runs) else ".")


def describe_families(contrasts: pd.DataFrame) -> str:
    """Say how methods are compared and which contrasts are declared, if there are any."""
    if contrasts.empty:
        return ""
    num_declared = int((contrasts["family"] != EXPLORATORY).sum())
    declared, leading = name_metrics(family.metric for family in load_families()), name_leading(contrasts)
    if num_declared == 0 and leading != declared:
        which = (
            f"The families declared in analysis/families.toml are in {declared}, these contrasts in "
            f"{leading}; none belongs to one, so all are exploratory."
        )
    elif num_declared == 0:
        which = "No contrast belongs to a family declared in analysis/families.toml; all are exploratory."
    elif num_declared == len(contrasts):
        which = "All contrasts belong to a family declared in analysis/families.toml."
    else:
        which = (
            f"{num_declared} of {len(contrasts)} contrasts belong{'s' * (num_declared == 1)} to a family "
            "declared in analysis/families.toml; the others are exploratory and marked so."
        )
    return f"Methods are compared in pairs of runs of the same seed. {which}"


# What studies share with others


def describe_seeds_apart(num_apart: int, num_of_one_seed: int) -> str:
    """Say which tables have the runs with separate seeds for subset, generator and classifier."""
    if num_apart == 0:
        return ""
    runs = "1 of these runs has" if num_apart == 1 else f"{num_apart:,} of these runs have"
    rest = "; all other tables and figures leave them out" if num_of_one_seed else ""
    return (
        f"{runs} separate seeds for subset, generator and classifier, and shared subsets. T4b analyses these "
        f"runs and T6 counts them{rest}."
    )


def describe_assumptions(runs: pd.DataFrame) -> str:
    """Say what intervals assume, and whether the runs contradict it."""
    text = "t intervals and prediction intervals assume approximately normal runs."
    collapsed = runs.loc[runs["state"] == "complete"].groupby("cell")["is_collapsed"].agg(["sum", "size"])
    num_mixed = int(((collapsed["sum"] > 0) & (collapsed["sum"] < collapsed["size"])).sum())
    if num_mixed == 0:
        return text
    return (
        f"{text} In {count(num_mixed, 'configuration')} some runs collapse and others do not. There the "
        "assumption fails, and an interval may cover far less than its nominal level; read T3 with T1."
    )


UNCUT = "Intervals are not clipped to the metric's range; one that exceeds it shows that n is too small."


def describe_single_runs(runs: pd.DataFrame) -> str:
    """Say what a single run of the paper can show, if one is compared with ours."""
    if not has_papers_numbers(runs):
        return ""
    return (
        "The paper reports one run per row. One number can be unlikely given our runs; it cannot show the "
        "average of the paper's procedure."
    )


def describe_sample(cells: pd.DataFrame) -> str:
    """Describe the limits of a small sample of a data set, if one was used."""
    if not any(str(name).endswith("_mini") for name in cells["dataset"]):
        return ""
    return (
        "A data set named mini is a small sample of the full one. The report can show which methods differ "
        "on the sample, after trainings of this length. It cannot show how they compare on the full set, or "
        "in the paper."
    )


def describe_shown(num_classes: int) -> str:
    """Say which classes are shown; empty if all are."""
    if num_classes <= MAX_SHOWN:
        return ""
    return (
        f"Of {num_classes:,} classes, the {NUM_WORST} with the lowest mean recall over all methods are "
        "shown, and groups by rank and by number of training images; the others are left out."
    )


# Searches


def describe_search_choice(labels: Iterable[str]) -> str:
    """Say which images were used to choose a trial; `labels` of the objectives."""
    on_validation = [label for label in labels if "validation" in label]
    if not on_validation:
        return "The choice is made by a measure of the generated images; it uses no test image."
    return (
        "The choice is made on validation images, set aside from the training images. Test images are used "
        "in the confirmation only."
    )


def describe_fresh_seeds(search_seeds: Iterable[int], confirmed_seeds: Iterable[int]) -> str:
    """Say whether a confirmation and its search have different seeds."""
    shared = set(search_seeds) & set(confirmed_seeds)
    if shared:
        return (
            f"The search also used {len(shared)} of these seeds; for them this does not confirm the choice."
        )
    return "These runs use seeds that the search did not use, and are evaluated on the test images."


def describe_trials(num_trials: int, ends: str, num_seeds: int) -> str:
    """Explain the values of trials."""
    over = (
        f"the mean over {num_seeds} seeds with its standard deviation,"
        if num_seeds > 1
        else "from a single seed, so its spread is unknown,"
    )
    return (
        f"{count(num_trials, 'trial')}: {ends}. Every value is {over} at the last rung that the trial "
        "reached. Values at different rungs are not comparable."
    )


def describe_trial_ends(states: Iterable[str]) -> str:
    """Explain the states of the trials."""
    meanings = {
        "pruned": "Pruned: stopped at a rung because other trials were better there.",
        "diverged": "Diverged: the loss was not finite at some seed; the trial counts as the worst.",
        "failed": "Failed: an error; the search ignores the trial.",
    }
    return join(meanings[state] for state in meanings if state in set(states))


def describe_trial_bars(num_seeds: int) -> str:
    """Describe the marks of a trial."""
    return (
        f"mean over n = {num_seeds} seeds, bars of one standard deviation"
        if num_seeds > 1
        else "a single seed"
    )
