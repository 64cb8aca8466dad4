"""T7: how well each class is recognised, or of many classes their groups and the worst."""

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
"""in names of data sets of the user's own, and in no other"""


def has_classes_to_tell(cells: pd.DataFrame, class_names: Mapping[str, Sequence[str]]) -> bool:
    """Whether T7 is shown: for sets of the user's own, and where figures have no room for each class."""
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
            "Recall of a class: share of its test images that are recognised; of a group, the mean over its "
            "classes. Mean and standard deviation (n - 1) over complete runs, the collapsed ones with them. "
            "Real training images are those before rebalancing, of a group those of all its classes; a dash "
            "where they vary from run to run. Head, medium and tail are the largest 30%, the rest and the "
            "smallest 30% of classes; many-shot have more than 100 training images, few-shot fewer than 20. "
            f"The {NUM_WORST} worst classes have the lowest mean recall over all methods and runs, chosen "
            "on the images that they are measured on: their recall is likely to look worse than it is.",
        ),
    )
