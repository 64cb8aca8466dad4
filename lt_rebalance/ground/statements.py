"""Sentences about runs that the terminal and the report share; each is empty where it would not be true."""


def describe_diverged(num_diverged: int, what: str = "the mean") -> str:
    """Return what diverged runs mean for a statistic that cannot hold them; empty where there are none."""
    if num_diverged == 0:
        return ""
    return f"{num_diverged:,} diverged, left out of {what}: their absence depends on the outcome"


def count_used(n: int, num_planned: int, num_diverged: int) -> str:
    """Return how many planned runs a statistic rests on, and how many are not in it since they diverged."""
    used = f"{n:,} of {num_planned:,}"
    return f"{used} ({num_diverged:,} diverged)" if num_diverged else used


def describe_statistic(largest_n: int, *, has_shared_subsets: bool) -> str:
    """Return what numbers over so many runs of a cell, at most, are.

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
