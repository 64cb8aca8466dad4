"""Continue a study on the device and in the precision that it began with, where the user names neither."""

import argparse
from typing import Any

from lt_rebalance.ground.exits import note
from lt_rebalance.store import StoreError, open_store
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.device import AUTO, count_gpus, resolve_execution, torch_version


def as_begun(options: argparse.Namespace, study: str) -> argparse.Namespace:
    """Return options whose device and precision, if "auto", are those of the study in the store.

    Both are part of every key: chosen again on another machine, they would train its finished runs again.

    Raises:
        ValueError: the study was begun on a GPU, and this machine has none.
    """
    begun = _read_execution(options, study) if AUTO in (options.device, options.precision) else {}
    if (begun.get("torch_version"), begun.get("num_threads")) != (torch_version(), options.threads):
        return options  # no study, or one whose runs have other keys in any case
    chosen = argparse.Namespace(**vars(options))
    if options.device == AUTO:
        chosen.device = begun["device"]
    if options.precision == AUTO and chosen.device == begun["device"]:
        chosen.precision = begun["precision"]
    if options.address is not None:  # the nodes to come are unknown
        return chosen
    num_gpus = 0 if options.device == "cpu" else count_gpus()
    if options.device == AUTO and chosen.device == "cuda" and not num_gpus:
        raise ValueError(
            f"study {study} in {options.storage} was begun on a GPU, and this machine has none; run it where "
            "there is one, or give --device cpu, which trains all its runs again"
        )
    new = resolve_execution(options.device, options.precision, 1, has_cuda=bool(num_gpus))
    if (chosen.device, chosen.precision) != (new.device, new.precision):
        note(
            f"study {study} goes on as it was begun, on {chosen.device} in {chosen.precision}; this machine "
            f"would choose {new.device} and {new.precision}, which trains all its runs again"
        )
    return chosen


def _read_execution(options: argparse.Namespace, study: str) -> dict[str, Any]:
    """Return how a study in the store computes; empty if there is none that can be read."""
    try:
        store = open_store(options.storage, RESULTS_VERSION, create=False, is_read_only=True)
        if store is None or study not in store.list_studies():
            return {}
        return dict(store.load_study(study).execution)
    except StoreError:  # whoever uses the store says so
        return {}
