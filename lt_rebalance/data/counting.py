"""Read the class counts of those sets of the catalogue whose publisher gives none, once, from their labels.

The main process sends its counts to its workers, as it does a user's images.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lt_rebalance.data import at_hand
from lt_rebalance.data.layouts import read_emnist_labels
from lt_rebalance.data.places import have_files, locate_data_dir, misfit
from lt_rebalance.data.spec import DatasetSpec

_place: tuple[str | Path | None, bool] = (None, False)
"""data directory of this process, and whether a missing set is fetched into it"""


def look_in(data_dir: str | Path | None, *, download: bool = False) -> None:
    """Set the data directory in which labels are read; None leaves it to `locate_data_dir`."""
    global _place
    _place = (data_dir, download)


def require_counts(spec: DatasetSpec, data_dir: str | Path | None, *, download: bool) -> DatasetSpec:
    """Return an entry with its class counts: its own, else loaded ones, else those in a data directory.

    Without `data_dir` that is the directory of `look_in`. The archive's checksum is compared when the images
    are loaded, which every run does before it trains. Raises DataError.
    """
    if spec.train_counts_K:
        return spec
    if (known := at_hand.find(spec.name)) is not None:
        return known.spec
    there, is_fetched = _place
    root = locate_data_dir(there if data_dir is None else data_dir)
    (path,) = have_files(spec, root, download=download or is_fetched).values()
    assert spec.num_images is not None
    try:
        labels = read_emnist_labels(spec, path, spec.num_images)
        if (largest := max(int(each.max()) for each in labels)) >= spec.num_classes:
            raise ValueError(f"label {largest} in a set of {spec.num_classes} classes")
        train_K, test_K = (np.bincount(each, minlength=spec.num_classes).tolist() for each in labels)
        return know_counts(spec, train_K, test_K)
    except Exception as error:  # zipfile, gzip and zlib raise many kinds; each means: not what it should be
        raise misfit(spec, root, [path], error) from error


def know_counts(spec: DatasetSpec, train_K: Sequence[int], test_K: Sequence[int]) -> DatasetSpec:
    """Load class counts of an entry for this process; ValueError if they do not fit its set."""
    counted = dataclasses.replace(spec, train_counts_K=tuple(train_K), test_counts_K=tuple(test_K))
    at_hand.keep(at_hand.OwnData(spec=counted, location=spec.name, options={}))
    return counted
