"""What the benchmarks share: the matrix-product peak, alternating measurements, tables and JSON.

No torch until it measures, so that a benchmark that needs none answers --help immediately.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_rebalance.training.configs import Execution

if TYPE_CHECKING:
    import torch

MATRIX_SIZE = 2048


def make_parser(doc: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="alternations (default: 3)")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers here")
    return parser


def measure_peak(device: "torch.device", dtype: "torch.dtype", num_products: int = 10) -> float:
    """Return the throughput of square matrix products in FLOP/s, the best of several."""
    import torch

    first, second = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(num_products):
        start = time.perf_counter()
        torch.mm(first, second)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * MATRIX_SIZE**3 / min(seconds[1:])


def synchronize(device: "torch.device") -> None:
    """Wait for the device."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def alternate(work: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    """Time each piece of work once per repetition, in turn, so that all of them see the same load."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repetitions):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def peak_bytes() -> int:
    """Return the peak resident memory of this process since its start.

    Raises:
        OSError: the system has no /proc. `getrusage` is unsuitable: it includes the peak of the program
            before exec.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def median(seconds: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(seconds)


def describe(execution: Execution) -> dict[str, Any]:
    """Return a description of the machine."""
    from lt_rebalance.stages.machine import describe_machine

    return describe_machine(execution) | {"cpus": os.cpu_count(), "system": platform.platform()}


def report(
    title: str, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], json_path: str | None
) -> None:
    """Print rows as a table, and write them as JSON if requested."""
    heads = list(rows[0])
    texts = [[_format(row[head]) for head in heads] for row in rows]
    widths = [max(len(line[column]) for line in [heads, *texts]) for column in range(len(heads))]
    print(f"{title}: {machine['device']}, {machine['cpus']} CPUs, torch {machine['torch_build']}")
    for line in [heads, ["-" * width for width in widths], *texts]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    if json_path:
        content = {"title": title, "machine": machine, "rows": rows}
        Path(json_path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _format(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
