"""Leave out the unfinished seeds of registered studies, whose seeds count when they are whole."""

import dataclasses
from collections.abc import Mapping

from lt_rebalance.store.study_document import StudyDocument

Unfinished = Mapping[int, tuple[int, int]]
"""by seed: how many of its runs have ended, of how many"""


def leave_out_unfinished(study: StudyDocument, states: Mapping[str, str]) -> tuple[StudyDocument, Unfinished]:
    """Return a registered study without its unfinished seeds, and these.

    They are the last seeds, as far as each has a missing run: a sweep was stopped there, or is at work. A
    study stays as it is if it is not registered, if its first seed has a missing run, and if the sources of
    randomness have separate seeds, which belong together.

    Args:
        states: by key, of all its runs. A run without a result whose generator failed or diverged is not
            missing: nothing more will come of it.
    """
    keys: dict[int, list[str]] = {}
    for run in study.runs:
        keys.setdefault(run.seed, []).append(run.key)
    missing = {seed: [states[key] for key in of_seed].count("missing") for seed, of_seed in keys.items()}
    first, *later = keys
    if study.registered is None or missing[first] or any(run.is_apart for run in study.runs):
        return study, {}
    unfinished: dict[int, tuple[int, int]] = {}
    while later and missing[later[-1]]:
        seed = later.pop()
        unfinished[seed] = len(keys[seed]) - missing[seed], len(keys[seed])
    runs = tuple(run for run in study.runs if run.seed not in unfinished)
    return dataclasses.replace(study, runs=runs), dict(reversed(unfinished.items()))


def describe_unfinished(unfinished: Unfinished) -> str:
    """Name the seeds and what they have: "seed 2 (8 of 15 runs have ended), seed 3 (0 of 15)"."""
    said = [f"seed {seed} ({ended} of {planned})" for seed, (ended, planned) in unfinished.items()]
    return ", ".join([said[0].replace(")", " runs have ended)"), *said[1:]])
