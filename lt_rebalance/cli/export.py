"""`lt-rebalance export`: the tidy frames of the analysis as files."""

import argparse
from pathlib import Path
from typing import Any

from lt_rebalance.cli.stores import choose_studies, open_existing, print_json
from lt_rebalance.ground.text import to_csv
from lt_rebalance.stages.installation import import_beside

ENDINGS = (".csv", ".parquet")


def run(options: argparse.Namespace) -> int:
    """Write a frame, or print it."""
    if options.out is not None and (not options.out.endswith(ENDINGS) or "://" in options.out):
        raise ValueError(
            f"--out must be a file of this machine that ends in {' or '.join(ENDINGS)}, got {options.out!r}"
        )
    store = open_existing(options.store)
    choose_studies(store, options.study)
    frame = _read_frame(options)
    if options.out is None:
        text = frame.to_json(orient="records", indent=2) + "\n" if options.json else to_csv(frame)
        print(text, end="")
        return 0
    try:
        if options.out.endswith(".csv"):
            Path(options.out).write_text(to_csv(frame), encoding="utf-8")
        else:
            frame.to_parquet(options.out, index=False)
    except OSError as error:
        raise ValueError(f"--out {options.out} cannot be written ({error})") from None
    if options.json:
        print_json({"file": options.out, "rows": len(frame), "columns": list(frame.columns)})
    else:
        print(f"{options.out}: {len(frame)} rows")
    return 0


def _read_frame(options: argparse.Namespace) -> Any:  # Any: pandas ships no types
    # The one place where the package looks at what stands below it: what "tidy" means is decided there.
    import_beside("analysis")
    from analysis.collect import read_results

    results = read_results(options.store, studies=options.study, allow=["gaps", *options.allow])
    return getattr(results, options.frame)
