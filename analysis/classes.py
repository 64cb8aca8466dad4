"""Choose the classes to show: all, or of many classes groups and the worst; find the most confused pairs.

Shape suffixes: K classes, M pairs of a true class and a prediction.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lt_rebalance.ground.confusion import MAX_SHOWN, NUM_WORST, Confusion
from lt_rebalance.ground.imbalance import COUNT_GROUPS, RANK_GROUPS

NUM_PAIRS = 10
"""number of confused pairs shown"""
_GROUPS = {"rank_group": RANK_GROUPS, "count_group": COUNT_GROUPS}
"""columns of groups, with the labels of their groups"""


def worst_classes(classes: pd.DataFrame) -> list[int]:
    """Return the `NUM_WORST` classes of lowest mean recall over all rows, the worst first; ties by label."""
    means = classes.groupby("class")["recall"].mean()
    return [int(label) for label in means.sort_values(kind="stable").index[:NUM_WORST]]


def sampled_classes(counts_K: Sequence[int]) -> list[int]:
    """Return the classes of a grid of samples: all in order, or of many the largest, then the smallest."""
    if len(counts_K) <= MAX_SHOWN:
        return list(range(len(counts_K)))
    order = sorted(range(len(counts_K)), key=lambda label: (-counts_K[label], label))
    return order[: MAX_SHOWN // 2] + order[-(MAX_SHOWN // 2) :]


def shown_recalls(classes: pd.DataFrame) -> pd.DataFrame:
    """Return the recalls to show: of all classes, or beyond `MAX_SHOWN` of groups and the worst classes.

    Args:
        classes: as in `Results`, of one setting and one C or profile.

    Returns:
        One row per run and shown place: `method`, `key`, `place` (its order), `shown` (the name of the class,
        or of the group with its number of classes), `class_count` (real training images of the class, of a
        group their sum), `num_classes`, and `recall`, of a group the mean over its classes.
    """
    if classes["class"].max() < MAX_SHOWN:
        single = sorted(set(classes["class"]))
        groups = []
    else:
        single = worst_classes(classes)
        groups = [
            _summarize(classes[classes[column] == group], name)
            for column, names in _GROUPS.items()
            for group, name in names.items()
            if (classes[column] == group).any()
        ]
    parts = [*groups, *(_take(classes[classes["class"] == label]) for label in single)]
    return pd.concat([part.assign(place=place) for place, part in enumerate(parts)], ignore_index=True)


def _summarize(members: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the mean recall over the classes of a group in each run."""
    by_run = members.groupby(["method", "key"], observed=True, sort=False)
    group = by_run.agg(
        class_count=("class_count", "sum"), num_classes=("class", "size"), recall=("recall", "mean")
    )
    sizes = sorted(set(group["num_classes"]))
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    noun = "class" if sizes == [1] else "classes"
    return group.reset_index().assign(
        shown=f"{name.partition(' (')[0].removesuffix(' classes')}: {size} {noun}"
    )


def _take(of_class: pd.DataFrame) -> pd.DataFrame:
    rows = of_class[["method", "key", "class_count", "recall"]].copy()
    return rows.assign(num_classes=1, shown=str(of_class["class_name"].iloc[0]))


def recall_table(classes: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each cell and what `shown_recalls` shows of it.

    Columns: setting, dataset, data, method; `shown`, `class_count` (nan where it is not the same in all
    runs), `num_classes`; `n` runs, and over them `recall` and its `sd` (n - 1).
    """
    keys = ["setting", "dataset", "data"]
    frames = []
    for names, block in classes.groupby(keys, sort=False, observed=True):
        shown = shown_recalls(block)
        by_row = shown.groupby(["method", "place"], sort=False, observed=True)
        rows = by_row.agg(
            shown=("shown", "first"),
            lowest=("class_count", "min"),
            class_count=("class_count", "max"),
            num_classes=("num_classes", "max"),
            n=("recall", "size"),
            recall=("recall", "mean"),
            sd=("recall", "std"),
        ).reset_index()
        rows["class_count"] = rows["class_count"].where(rows["class_count"] == rows.pop("lowest"))
        frames.append(rows.drop(columns="place").assign(**dict(zip(keys, names, strict=True))))
    columns = [*keys, "method", "shown", "class_count", "num_classes", "n", "recall", "sd"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def confused_pairs(confusions: Sequence[Confusion]) -> list[tuple[int, int, float]]:
    """Return the `NUM_PAIRS` most confused pairs: true class, prediction, and share of the true class.

    The share is the mean over the confusions; a run in which a pair does not occur counts as 0. Ties are
    ordered by label.
    """
    num_classes = confusions[0].num_classes
    pairs, shares = [], []
    for confusion in confusions:
        is_wrong_M = confusion.true_M != confusion.predicted_M
        true_M = confusion.true_M[is_wrong_M]
        pairs.append(true_M * num_classes + confusion.predicted_M[is_wrong_M])
        shares.append(confusion.counts_M[is_wrong_M] / confusion.true_K[true_M])
    found_M, places = np.unique(np.concatenate(pairs), return_inverse=True)
    means_M = np.bincount(places, np.concatenate(shares), len(found_M)) / len(confusions)
    order = np.argsort(-means_M, kind="stable")[:NUM_PAIRS]
    true_M, predicted_M = np.divmod(found_M[order], num_classes)
    return list(zip(true_M.tolist(), predicted_M.tolist(), means_M[order].tolist(), strict=True))
