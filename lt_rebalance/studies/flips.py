"""Whether images may be flipped: mirror images of letters or traffic signs belong to another class."""

from lt_rebalance.data.at_hand import is_own_name, say_dataset
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.recipe import read_augmentation


def flips(cell: Cell) -> bool:
    """Whether the classifier's recipe or an option of the method mirrors images."""
    by_method = getattr(cell.method.options, "flip", False)
    return bool(by_method) or "flip" in read_augmentation(cell.classifier.augmentation)


def require_allowed_flips(cell: Cell, allow: str) -> None:
    """Raise a ValueError if a cell mirrors images that must not be; `allow` is the remedy for own ones."""
    if not flips(cell) or get_dataset_spec(dataset := cell.data.dataset).may_flip:
        return
    raise ValueError(
        f"{say_dataset(dataset)} does not allow flip, since mirror images may belong to another class, got "
        f"augmentation {cell.classifier.augmentation!r} and method {cell.method.label!r}; leave flip out"
        f"{f', or {allow}' * is_own_name(dataset)}"
    )
