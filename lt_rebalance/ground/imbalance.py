"""How the imbalance of a training set is named and ordered, and how classes are grouped.

Shape suffix: K classes.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

ORIGINAL = "original"
"""name in tables of a training set that keeps every image"""
CUT_PROFILES = ("exp", "step")
"""profiles of a long tail other than the paper's C, each with an imbalance ratio"""
MANY_FROM, FEW_BELOW = 101, 20
"""a class with more training images has many; one with fewer than the second has few"""
_ABOVE_RATIOS = 1e10
RANK_GROUPS = {"head": "head", "medium": "medium", "tail": "tail"}
COUNT_GROUPS = {
    "many_shot": f"many-shot classes (> {MANY_FROM - 1})",
    "medium_shot": f"medium-shot classes ({FEW_BELOW} to {MANY_FROM - 1})",
    "few_shot": f"few-shot classes (< {FEW_BELOW})",
}
"""names of groups by rank and by count, and their labels in tables"""


def name_data(data: Mapping[str, Any]) -> str:  # Any: plain values
    """Return the name of training data in tables, from its configuration: "7/9", "exp 100", or "original"."""
    if data.get("profile") is not None:
        return f"{data['profile']} {data['ratio']}"
    return data["c"] or ORIGINAL


def say_data(data: str) -> str:
    """Return the name of training data in sentences: "C = 7/9", "exp 100", "the original set"."""
    if data == ORIGINAL:
        return "the original set"
    return f"C = {data}" if is_c(data) else data


def is_c(data: str) -> bool:
    """Whether a name of training data is a C."""
    return data != ORIGINAL and " " not in data


def data_rank(data: str) -> float:
    """Return the sort key of training data: the original set first, then each profile from mild to strong."""
    if data == ORIGINAL:
        return -2.0
    if is_c(data):
        return -float(Fraction(data))
    profile, _, ratio = data.partition(" ")
    place = CUT_PROFILES.index(profile) if profile in CUT_PROFILES else len(CUT_PROFILES)
    return place * _ABOVE_RATIOS + float(Fraction(ratio))


def scale_of(data: str) -> str:
    """Return on what scale training data can be ordered from mild to strong imbalance: C, or its profile."""
    return "C" if is_c(data) else data.partition(" ")[0]


def rank_groups(counts_K: Sequence[int]) -> dict[str, list[int]]:
    """Split classes by training rank into head (first 30 %), tail (last 30 %) and medium (the rest).

    For ten classes: 3, 4, 3. A group without classes is absent. Ties keep the order of the labels.
    """
    order = sorted(range(len(counts_K)), key=lambda label: (-counts_K[label], label))
    outer = round(0.3 * len(order))
    groups = {
        "head": order[:outer],
        "medium": order[outer : len(order) - outer],
        "tail": order[len(order) - outer :],
    }
    return {name: labels for name, labels in groups.items() if labels}


def count_groups(counts_K: Sequence[int]) -> dict[str, list[int]]:
    """Split classes by training images: many (> 100), medium (20 to 100) and few (< 20).

    Liu et al. 2019, "Large-Scale Long-Tailed Recognition in an Open World", arXiv 1904.05160, section 5. A
    group without classes is absent.
    """
    groups: dict[str, list[int]] = {name: [] for name in COUNT_GROUPS}
    for label, count in enumerate(counts_K):
        name = "many_shot" if count >= MANY_FROM else "few_shot" if count < FEW_BELOW else "medium_shot"
        groups[name].append(label)
    return {name: labels for name, labels in groups.items() if labels}


def is_balanced(counts_K: Sequence[int]) -> bool:
    """Whether all classes have equal sizes."""
    return len(set(counts_K)) <= 1
