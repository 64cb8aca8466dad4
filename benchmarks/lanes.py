"""How much faster do seeds train as lanes of one program than one after another, or one process each?

A round trains every lane on a number of images; a classifier is then tested on 10,000. The baseline is the
best single run: one lane with its data on the device, on a GPU with captured steps. Everything is a ratio of
throughputs, measured in turn in one run: 6 means that the lanes finish 6 times the seeds in the same time.
"""

import argparse

from benchmarks.measure import make_parser

KINDS = ("classifier", "cgan")


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument(
        "--images", type=int, metavar="N", help="per lane and round (default: 12800; CPU 1280)"
    )
    parser.add_argument("--lanes", type=int, nargs="+", metavar="N", help="(default: 1 to 100; CPU 1, 2, 5)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.measure import alternate, describe, median, report, synchronize
from benchmarks.training import SideBySide, build_training
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import resolve_execution
from lt_rebalance.training.stacks import FORMS, Fusion

# A GPU needs many lanes and long rounds to show its speed; a CPU needs few.
LANES = {"cuda": (1, 2, 5, 10, 20, 50, 100), "cpu": (1, 2, 5)}
IMAGES = {"cuda": 12_800, "cpu": 1_280}
PROCESSES_ON_GPU = 8


def make_round(
    kind: str, num_images: int, execution: Execution, num_lanes: int, form: str
) -> Callable[[], None]:
    """Return a function that runs one round of all lanes, warmed up, and waits for the device."""
    fusion = Fusion(form=form, max_lanes=num_lanes)
    training = build_training(kind, num_images, execution, num_lanes, fusion)
    device = torch.device(execution.device)

    def run() -> None:
        training.run_round()
        synchronize(device)

    run()
    return run


def compare(
    kind: str, num_lanes: int, num_images: int, execution: Execution, repetitions: int
) -> list[dict[str, Any]]:
    """Return one row per form: its throughput relative to a single run."""
    rows = []
    for form in FORMS if num_lanes > 1 else ["separate"]:
        try:
            work = {
                "single": make_round(kind, num_images, execution, 1, "separate"),
                "lanes": make_round(kind, num_images, execution, num_lanes, form),
            }
            seconds = alternate(work, repetitions)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            print(f"{kind}: {num_lanes} lanes do not fit in the form {form}", file=sys.stderr)
            continue
        rows.append(make_row(kind, form, num_lanes, seconds["single"], seconds["lanes"]))
    return rows


def compare_processes(
    kind: str, num_images: int, execution: Execution, repetitions: int
) -> list[dict[str, Any]]:
    """Return a row for one process per seed, all running concurrently on the device."""
    on_gpu = execution.device == "cuda"
    num_processes = PROCESSES_ON_GPU if on_gpu else len(os.sched_getaffinity(0))
    alone = SideBySide(kind, num_images, execution, 1)
    together = SideBySide(kind, num_images, execution, num_processes)
    seconds = alternate({"single": alone.run_round, "processes": together.run_round}, repetitions)
    alone.close()
    together.close()
    return [make_row(kind, "one process per seed", num_processes, seconds["single"], seconds["processes"])]


def make_row(
    kind: str, form: str, num_seeds: int, single_s: Sequence[float], all_s: Sequence[float]
) -> dict[str, Any]:
    """Return medians, and the median of the ratios within each alternation."""
    return {
        "what": kind,
        "form": form,
        "seeds": num_seeds,
        "one, s": median(single_s),
        "all, s": median(all_s),
        "times the throughput": median([num_seeds * a / b for a, b in zip(single_s, all_s, strict=True)]),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution(options.device, options.precision, 1, has_cuda=torch.cuda.is_available())
    num_images = options.images or IMAGES[execution.device]
    rows: list[dict[str, Any]] = []
    for kind in options.kinds:
        for num_lanes in options.lanes or LANES[execution.device]:
            rows += compare(kind, num_lanes, num_images, execution, options.repetitions)
        rows += compare_processes(kind, num_images, execution, options.repetitions)
    report("lanes", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
