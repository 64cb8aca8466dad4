"""T7: recall of each class, or of many classes their groups and the worst."""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.sentences import describe_shown
from analysis.tables.formats import (
    DATA_COLUMN,
    METHOD_COLUMN,
    number_column,
    per_setting,
    share,
    text_column,
    whole,
)
from analysis.tables.table import Table, more
from lt_rebalance.ground.confusion import MAX_SHOWN, NUM_WORST

_OWN_MARK = "@"
"""in the names of a user's data sets only"""


def has_classes_to_tell(cells: pd.DataFrame, class_names: Mapping[str, Sequence[str]]) -> bool:
    """Whether T7 is shown: for a user's data sets, and for too many classes for the figures."""
    is_own = cells["data.dataset"].str.contains(_OWN_MARK, regex=False)
    return bool(is_own.any()) or any(len(names) > MAX_SHOWN for names in class_names.values())


def class_table(recalls: pd.DataFrame, class_names: Mapping[str, Sequence[str]]) -> Table:
    """Return T7; `recalls` as `recall_table` returns them."""
    said = {
        str(setting): describe_shown(len(class_names[str(rows["dataset"].iloc[0])]))
        or "Every class is shown."
        for setting, rows in recalls.groupby("setting", sort=False, observed=True)
    }
    return Table(
        name="t7-classes",
        title="T7. Recall of classes",
        frame=recalls,
        columns=(
            DATA_COLUMN,
            text_column("class", "shown", is_row_head=True),
            METHOD_COLUMN,
            number_column("real training images", "class_count", whole, is_optional=True),
            *more(number_column("complete runs", "n", whole)),
            number_column("mean recall", "recall", share),
            number_column("sd", "sd", share),
        ),
        meaning=per_setting(said) if said else "No run is complete.",
        notes=(
            "Recall of a class: share of its test images that are classified correctly; of a group: mean "
            "over its classes. Mean and standard deviation (n - 1) over complete runs, including collapsed "
            "ones. Real training images: number before rebalancing, of a group the sum over its classes; a "
            "dash where it varies between runs. Head, medium and tail are the largest 30%, the rest and the "
            "smallest 30% of classes; many-shot have more than 100 training images, few-shot fewer than 20. "
            f"The {NUM_WORST} worst classes have the lowest mean recall over all methods and runs, chosen on "
            "the images that they are measured on: their recall is likely to look worse than it is.",
        ),
    )
