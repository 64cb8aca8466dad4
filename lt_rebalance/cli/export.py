"""`lt-rebalance export`: tidy frames of the analysis to files, or finished runs to a tracker."""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

from lt_rebalance.cli.parser import FRAMES
from lt_rebalance.cli.stores import choose_studies, open_existing, print_json
from lt_rebalance.cli.tracked import Tracker, read_tracked, require_extra
from lt_rebalance.files.archive import require_outside
from lt_rebalance.ground.exits import Work, note
from lt_rebalance.ground.text import count, one_line, to_csv
from lt_rebalance.stages.installation import import_beside

CSV, PARQUET = FILES = ("csv", "parquet")
MLFLOW = "mlflow"
_TELL_EACH = 100
"""runs, each of which takes a third of a second"""


def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Work | int:
    """Write frames, or print one; for a tracker, return the work that exports runs."""
    if options.to in (None, *FILES):
        return _export_frames(options)
    return _prepare_tracker(options, stack)


# Frames


def _export_frames(options: argparse.Namespace) -> int:
    form = _choose_form(options)
    store = open_existing(options.store)
    choose_studies(store, options.study)
    is_folder = options.out is not None and not options.out.endswith(f".{form}")
    names = FRAMES if is_folder and options.frame is None else (options.frame or FRAMES[0],)
    if is_folder:
        _make_folder(options.out)
    elif options.out is not None:
        require_outside("--out", options.out)
    results = _read_results(options)
    for each in results.notes:
        note(each)
    frames = {name: getattr(results, name) for name in names}
    if options.out is None:
        (frame,) = frames.values()
        text = frame.to_json(orient="records", indent=2) + "\n" if options.json else to_csv(frame)
        print(text, end="")
        return 0
    told = []
    for name, frame in frames.items():
        path = Path(options.out, f"{name}.{form}") if is_folder else Path(options.out)
        try:
            _write(frame, path, form)
        except OSError as error:
            raise ValueError(f"--out {options.out} cannot be written ({error})") from None
        told.append({"file": str(path), "rows": len(frame), "columns": list(frame.columns)})
        if not options.json:
            print(f"{path}: {count(len(frame), 'row')}")
    if options.json:
        print_json(told if is_folder else told[0])
    return 0


def _write(frame: Any, path: Path, form: str) -> None:  # Any: pandas has no types
    if form == CSV:
        path.write_text(to_csv(frame), encoding="utf-8")
    else:
        frame.to_parquet(path, index=False)


def _choose_form(options: argparse.Namespace) -> str:
    """Return the kind of file that the options ask for.

    Raises:
        ValueError: an unknown kind, or one that the place cannot hold.
    """
    out, form = options.out, options.to
    ending = "" if out is None else next((each for each in FILES if out.endswith(f".{each}")), "")
    if out is not None and ("://" in out or not (ending or form)):
        raise ValueError(
            f"--out must be a file of this machine that ends in {' or '.join(f'.{each}' for each in FILES)}, "
            f"got {out!r}; a folder goes with --to"
        )
    if form and ending and ending != form:
        raise ValueError(f"--to {form} and --out {out} name two kinds of files; leave out --to")
    if out is None and form == PARQUET:
        raise ValueError(f"--to {PARQUET} needs --out, a file or a folder: a terminal cannot show it")
    return form or ending or CSV


def _make_folder(folder: str) -> None:
    """Create a missing folder; a ValueError if it must not or cannot be written."""
    require_outside("--out", folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {folder} must be a folder that can be written ({error.strerror})") from None


def _read_results(options: argparse.Namespace) -> Any:  # Any: pandas has no types
    import_beside("analysis")
    from analysis.collect import read_results

    return read_results(options.store, studies=options.study, allow=["gaps", *options.allow])


# Runs


def _prepare_tracker(options: argparse.Namespace, stack: contextlib.ExitStack) -> Work:
    for name in ("frame", "allow"):
        if getattr(options, name):
            raise ValueError(f"--{name} is for frames, and --to {options.to} takes whole runs; leave it out")
    store = open_existing(options.store)
    studies = [store.load_study(name) for name in choose_studies(store, options.study)]
    tracker = _open_tracker(options, stack)
    present = {study.name: set(tracker.find(study)) for study in studies}

    def export() -> int:
        told = []
        for study in studies:
            keys = {run.key for run in study.runs}
            there = keys & present[study.name]
            num_exported = 0
            for run in read_tracked(store, study, there):
                tracker.add(study, run)
                num_exported += 1
                if num_exported % _TELL_EACH == 0:
                    note(f"{study.name}: {num_exported} runs exported so far")
            num_left = len(keys) - len(there) - num_exported
            counts = {"exported": num_exported, "there_before": len(there), "without_result": num_left}
            told.append({"study": study.name, **counts})
            if not options.json:
                words = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in counts.items())
                print(one_line(f"{study.name}: runs: {words}"))
        if options.json:
            print_json({"to": options.to, "place": tracker.place, "studies": told})
        else:
            print(one_line(f"place: {tracker.place}"))
        return 0

    return export


def _open_tracker(options: argparse.Namespace, stack: contextlib.ExitStack) -> Tracker:
    """Return the tracker to export to; errors as those of the trackers."""
    if options.to == MLFLOW:
        from lt_rebalance.cli.to_mlflow import URI_VARIABLE, MlflowTracker

        place = options.out or os.environ.get(URI_VARIABLE)
        require_extra("mlflow", options.to)
        if not place:
            raise ValueError(
                f"--to {MLFLOW} needs --out, the address of a server, or the variable {URI_VARIABLE}"
            )
        return MlflowTracker(place, stack)
    from lt_rebalance.cli.to_wandb import WandbTracker

    if options.out is None or "://" in options.out:
        raise ValueError(
            f"--to {options.to} needs --out, a folder of this machine, got {options.out or 'none'}"
        )
    require_extra("wandb", options.to)
    _make_folder(options.out)
    return WandbTracker(options.out, stack)
