"""Turn labels into classes 0..K-1; other labels are refused, or renumbered on request.

Shape suffix: N images.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.text import count

_RENUMBER = "renumber them with --relabel"


def read_labels(name: str, found: NDArray[Any], num_images: int) -> NDArray[np.int64]:
    """Return labels (N,) from (N,) or (N, 1).

    Raises:
        DataError: they have another shape or are not whole numbers.
    """
    if found.ndim == 2 and found.shape[1] > 1:
        raise DataError(
            f"{name} must give each image one class, got {found.shape[1]} columns; save "
            "labels.argmax(axis=1) of one-hot labels; several labels per image cannot be used"
        )
    if found.shape not in ((num_images,), (num_images, 1)):
        raise DataError(
            f"{name} must have one label per image, got {found.shape} for {count(num_images, 'image')}; "
            "correct it"
        )
    if found.dtype.kind in "US":
        raise DataError(
            f"{name} must be whole numbers, got texts ({found.dtype}); save class_names, train_labels = "
            "np.unique(train_labels, return_inverse=True), and np.searchsorted(class_names, labels) of others"
        )
    if found.dtype.kind not in "iu":
        raise DataError(f"{name} must be whole numbers, got {found.dtype}; save labels.astype('int64')")
    return found.reshape(-1).astype(np.int64)


def settle_labels(
    labels_by_split: Mapping[str, NDArray[np.int64]], names: NDArray[np.str_] | None, *, may_renumber: bool
) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
    """Return labels 0..K-1 by split, and the names of the classes: given names, or else the original labels.

    Raises:
        DataError: labels start at another number or have holes, and may not be renumbered; a class is not in
            train; the names do not fit.
    """
    classes = np.unique(labels_by_split["train"])
    for split, labels_N in labels_by_split.items():
        if len(unknown := np.setdiff1d(labels_N, classes)):
            raise DataError(
                f"every class must be in train, got label {unknown[0]} in {split} alone; add images of it to "
                "train, or remove it"
            )
    if not may_renumber:
        _require_whole(classes)
    by_label = {int(label): str(label) for label in classes}
    if names is not None:
        by_label = _take_names(classes, names)
    renumbered = {split: np.searchsorted(classes, labels_N) for split, labels_N in labels_by_split.items()}
    return renumbered, tuple(by_label[int(label)] for label in classes)


def _require_whole(classes: NDArray[np.int64]) -> None:
    if classes[0] != 0:
        raise DataError(f"labels must start at 0, got {classes[0]} as the smallest; {_RENUMBER}")
    holes = np.setdiff1d(np.arange(min(int(classes[-1]), len(classes)) + 1), classes)
    if len(holes):
        raise DataError(
            f"labels must be 0 to K - 1 without holes, got none of class {holes[0]} but some of "
            f"{classes[-1]}; {_RENUMBER}"
        )


def _take_names(classes: NDArray[np.int64], names: NDArray[np.str_]) -> dict[int, str]:
    """Return names by label: one for each existing class, or else one for each number from 0 on."""
    if len(names) == len(classes):
        return {int(label): str(name) for label, name in zip(classes, names, strict=True)}
    if classes[0] >= 0 and classes[-1] < len(names) and len(classes) != classes[-1] + 1:
        return {int(label): str(names[label]) for label in classes}
    raise DataError(
        f"class_names must have one name per class, got {len(names)} for {len(classes)} classes; correct it, "
        "or leave it out"
    )
