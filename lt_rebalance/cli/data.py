"""`lt-rebalance data`: the content of a set of images, and its faults, before any training."""

import argparse

from lt_rebalance.cli.stores import print_json
from lt_rebalance.data.catalog import DATASETS, require_set
from lt_rebalance.data.sample_grid import require_free, write_grid
from lt_rebalance.ground.exits import note
from lt_rebalance.ground.text import one_line
from lt_rebalance.images.description import choose_classes, describe, to_dict
from lt_rebalance.images.load import Look, look_at, look_at_known, require_faultless
from lt_rebalance.images.options import OWN_FIELDS, OWN_FLAGS, OwnOptions


def run(options: argparse.Namespace) -> int:
    """Show a set; DataError, after everything that can be shown, if it cannot be used for training."""
    if options.samples is not None:
        require_free(options.samples)
    look = _look(options)
    if options.json:
        print_json(to_dict(options.what, look))
    else:
        for line in describe(options.what, look):
            print(one_line(line).rstrip())
    if options.samples is not None and look.own is not None:
        shown = choose_classes(look.counts["train"])
        write_grid(options.samples, look.own.dataset, look.class_names, shown)
        if not options.json:
            print(f"samples: {one_line(options.samples)}")
    require_faultless(look)
    return 0


def _look(options: argparse.Namespace) -> Look:
    own = OwnOptions(**{field: getattr(options, field) for field in OWN_FIELDS})
    if options.what not in DATASETS:
        require_set(options.what)
        if options.data_dir is not None:
            raise ValueError(f"--data-dir is for sets of the catalogue ({', '.join(DATASETS)}); leave it out")
        return look_at(options.what, own)
    if own != OwnOptions():
        raise ValueError(
            f"{', '.join(OWN_FLAGS)} are for images of your own, got {options.what} of the "
            f"catalogue; a folder of that name is ./{options.what}"
        )
    if DATASETS[options.what].is_embedded and options.data_dir is not None:
        note(f"--data-dir changes nothing: {options.what} comes with the package")
    return look_at_known(options.what, options.data_dir)
