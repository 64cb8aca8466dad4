"""The seeds of a study: which have all their results, and which a sweep has yet to finish."""

import dataclasses

from lt_rebalance.store import Store
from lt_rebalance.store.records import NOT_APPLICABLE, Record
from lt_rebalance.store.study_document import StudyDocument


def list_keys_by_seed(document: StudyDocument) -> dict[tuple[int, int, int], list[str]]:
    """Return the keys of the runs of each seed, by the seeds of classifier, subset and generator."""
    keys: dict[tuple[int, int, int], list[str]] = {}
    for run in document.runs:
        generator_seed = run.seed if run.generator_seed is None else run.generator_seed
        keys.setdefault((run.seed, run.subset_seed, generator_seed), []).append(run.key)
    return keys


def list_whole_seeds(document: StudyDocument, store: Store) -> list[tuple[int, int, int]]:
    """Return the seeds at which every run has a result."""
    by_seed = list_keys_by_seed(document)
    return [seed for seed, keys in by_seed.items() if all(_has_result(store, key) for key in keys)]


def _has_result(store: Store, key: str) -> bool:
    """Whether a run has a result, or is not applicable, which is one."""
    outcome = store.read_outcome(key)
    return isinstance(outcome, Record) or (outcome is not None and outcome.cause == NOT_APPLICABLE)


def leave_out_unfinished(
    document: StudyDocument, store: Store
) -> tuple[StudyDocument, dict[int, tuple[int, int]]]:
    """Return a study without its unfinished seeds, and how many runs of each have ended, of how many.

    Unfinished are the last seeds at which runs are missing, but never the first seed. A study with separate
    seeds for subset, generator and classifier stays as it is, because its seeds belong together.
    """
    unfinished: dict[int, tuple[int, int]] = {}
    if not any(run.is_apart for run in document.runs):
        for (seed, *_), keys in [*list_keys_by_seed(document).items()][:0:-1]:
            num_ended = sum(store.read_outcome(key) is not None for key in keys)
            if num_ended == len(keys):
                break
            unfinished[seed] = num_ended, len(keys)
    if not unfinished:
        return document, {}
    runs = tuple(run for run in document.runs if run.seed not in unfinished)
    return dataclasses.replace(document, runs=runs), dict(sorted(unfinished.items()))
