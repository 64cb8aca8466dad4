"""Sentences about runs that the terminal and the report share; empty if they do not apply."""

NUM_MORE = 10
"""number of further seeds of which the cost is stated"""


def describe_diverged(num_diverged: int, what: str = "the mean") -> str:
    """Return how diverged runs affect a statistic that excludes them; empty if there are none."""
    if num_diverged == 0:
        return ""
    return f"{num_diverged:,} diverged, left out of {what}: their absence depends on the outcome"


def count_used(n: int, num_planned: int, num_diverged: int) -> str:
    """Return how many planned runs a statistic is based on, and how many diverged and are excluded."""
    used = f"{n:,} of {num_planned:,}"
    return f"{used} ({num_diverged:,} diverged)" if num_diverged else used


def describe_statistic(largest_n: int, *, has_shared_subsets: bool) -> str:
    """Return the kind of a statistic over at most `largest_n` runs per cell.

    Args:
        has_shared_subsets: several runs of a cell share a subset, and are not independent.
    """
    if largest_n == 0:
        return "no run is complete"
    if largest_n == 1:
        return "single runs"
    if has_shared_subsets:
        return "mean ± standard deviation over runs, of which several share a subset"
    return "mean ± standard deviation over seeds"
