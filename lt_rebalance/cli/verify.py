"""`lt-rebalance verify`: run a finished stage again in a temporary store, and compare."""

import argparse
import contextlib
import dataclasses
from typing import TYPE_CHECKING

from lt_rebalance.cli.stores import find_stage, print_json
from lt_rebalance.commands.own_images import bring_images_again, note_needless
from lt_rebalance.data.catalog import are_embedded
from lt_rebalance.data.counting import look_in
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, Work, note
from lt_rebalance.ground.own_file import bring, list_needed
from lt_rebalance.ground.text import one_line

if TYPE_CHECKING:  # it needs torch, and an unknown key is refused without it
    from lt_rebalance.commands.verification import Verification

SHOWN = 20
"""maximum number of printed differences"""


def prepare(options: argparse.Namespace, _: contextlib.ExitStack) -> Work:
    """Return what verifies a stage: 0 when every bit agrees, 1 otherwise."""
    look_in(options.data_dir)
    store, key = find_stage(options)
    record = store.read_record(key)
    bring_images_again(options)
    datasets = [] if record is None else [record.stage["data"]["dataset"]]
    if options.data_dir is not None and are_embedded(datasets):
        note("--data-dir changes nothing: the data set of this stage comes with the package")
    if record is not None:
        note_needless(options, datasets)
    for path in options.own_file or ():
        bring(path)
    if options.own_file and record is not None and not any(list_needed(record.stage)):
        note("--own-file changes nothing: this stage was run without a file of your own")
    from lt_rebalance.commands.verification import prepare_verification

    verify = prepare_verification(store, key, options.data_dir)
    return lambda: _tell(verify(), as_json=options.json)


def _tell(found: "Verification", *, as_json: bool) -> int:
    """Print a verification, and return the exit code."""
    code = 0 if found.is_equal else EXIT_INCOMPLETE
    if as_json:
        print_json(dataclasses.asdict(found) | {"is_equal": found.is_equal})
        return code
    print(one_line(f"{found.title}: {found.key}"))
    for run in found.runs:
        print(one_line(f"run: {run}"))
    for fault in found.faults:
        print(one_line(f"fault: {fault}"))
    for difference in found.differences[:SHOWN]:
        print(one_line(f"difference: {difference}"))
    if len(found.differences) > SHOWN:
        print(f"and {len(found.differences) - SHOWN} more differences")
    if found.is_equal:
        print("equal, bit for bit: record, curves, confusion matrix and the sha256 of every artefact")
    elif not found.is_same_device:
        print("the record was made with another kind of processor, so the last bits may differ")
    elif found.is_same_source is False:
        print("the record was made with other code of the same results version")
    return code
