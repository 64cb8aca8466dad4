"""Write the report of a store, or of several in one: `python -m analysis STORE [STORE ...]`.

Stores are read, never written. A store with failed or missing runs is refused unless --partial is given.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from analysis.reader import find_studies
from lt_rebalance.ground.exits import Parser, describe_os_error, run_command, this_command
from lt_rebalance.ground.metrics import own_metrics
from lt_rebalance.ground.option_types import place
from lt_rebalance.store import require_outside


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python -m analysis",
        usage="%(prog)s STORE [STORE ...] [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "store",
        type=place,
        nargs="+",
        metavar="STORE",
        help="the location that a sweep got as --storage, or the folder of a published study; several are "
        "read as one",
    )
    parser.add_argument(
        "--out", type=place, default="report", metavar="DIR", help="where the report goes (default: report)"
    )
    parser.add_argument("--study", nargs="+", default=[], metavar="NAME", help="read these studies only")
    parser.add_argument(
        "--partial", action="store_true", help=("write the report even if runs failed or are missing")
    )
    parser.add_argument(
        "--allow",
        nargs="+",
        default=[],
        choices=("duplicates", "versions"),
        help="what is mixed. duplicates: results of one cell and seed from several devices, precisions, "
        "numbers of threads or versions of torch, each shown as a cell of its own; versions: results of "
        "several versions of the code",
    )
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="PATH.py:NAME",
        help="your own metrics, each a Metric of confusion matrices in a file, tested like accuracy",
    )
    parser.add_argument(
        "--paper",
        nargs="?",
        const="two",
        choices=("two", "one"),
        help="also write DIR/paper: three tables and three figures for a paper of two columns (default) or "
        "one, a text that says how each number was made, and paper.tex, which includes all",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; return 0, or 2 for wrong input, with nothing written."""
    return run_command(make_parser(), _report, arguments)


def _report(options: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    allow = [*options.allow, *(["gaps"] if options.partial else [])]
    try:
        find_studies(options.store, options.study)
        stack.enter_context(own_metrics(options.metric))
        # Imported here, so that a wrong store is refused before pandas, scipy and matplotlib are loaded.
        from analysis.collect import read_results
        from analysis.figures.style import describe_missing_letters
        from analysis.manuscript import FOLDER, choose
        from analysis.report import write_report
        from analysis.tables import account

        require_outside("--out", options.out)
        results = read_results(options.store, studies=options.study, allow=allow)
        choice = choose(results) if options.paper else None
        manuscript = None if choice is None else (choice, options.paper, this_command())
        page = write_report(results, options.out, manuscript=manuscript)
    except OSError as error:
        raise ValueError(
            f"{describe_os_error(error)}; name a STORE that can be read and an --out that can be written"
        ) from error
    names = [name for of_set in results.class_names.values() for name in of_set]
    for note in filter(None, (*results.notes, describe_missing_letters(names))):
        print(f"note: {note}")
    print(f"report: {page}")
    if choice is not None:
        print(f"paper: {page.parent / FOLDER}; not shown: {'; '.join(choice.left_out) or 'nothing'}")
    print(" ".join(f"{name}={value}" for name, value in account(results.planned).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
