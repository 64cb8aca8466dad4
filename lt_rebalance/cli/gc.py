"""`lt-rebalance gc`: delete what no result needs."""

import argparse
import dataclasses

from lt_rebalance.cleanup import find_garbage, remove_garbage
from lt_rebalance.cli.stores import open_existing, print_json
from lt_rebalance.text import one_line


def run(options: argparse.Namespace) -> int:
    """Delete garbage, or name it."""
    store = open_existing(options.store)
    garbage = find_garbage(store, with_orphans=options.orphans)
    num_bytes = sum(each.num_bytes for each in garbage)
    if not options.dry_run:
        remove_garbage(store, garbage)
    if options.json:
        listed = [dataclasses.asdict(each) for each in garbage]
        print_json({"is_dry_run": options.dry_run, "num_bytes": num_bytes, "garbage": listed})
        return 0
    for each in garbage:
        print(one_line(f"{each.path}: {each.reason}, {each.num_bytes} bytes"))
    print(f"{'would delete' if options.dry_run else 'deleted'}: {len(garbage)} things, {num_bytes} bytes")
    return 0
