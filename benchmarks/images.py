"""How long does it take to prepare a folder of small pictures, and to open it again?

It times `load_own` in a separate process, with an empty and with a full cache. The pictures are images of the
embedded sample, shifted by some pixels.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import describe, make_parser, median, report
from lt_rebalance.data.files import load_dataset
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.training.device import resolve_execution

_LOAD = """
import sys, time
from lt_rebalance.images.load import load_own
from lt_rebalance.images.options import OwnOptions
start = time.perf_counter()
load_own(sys.argv[1], OwnOptions())
print(time.perf_counter() - start)
"""


def write_pictures(root: Path, num_images: int) -> None:
    """Write this many PNGs, a fifth of them for testing."""
    dataset = load_dataset("fashion_mnist_mini")
    for split, count in {"train": num_images - num_images // 5, "test": num_images // 5}.items():
        images = getattr(dataset, f"{split}_images_NCHW")[:, 0]
        labels = getattr(dataset, f"{split}_labels_N")
        for label in np.unique(labels):
            (root / split / str(label)).mkdir(parents=True)
        for number in range(count):
            move, place = divmod(number, len(images))
            image = np.roll(images[place], (move // 5, move % 5), axis=(0, 1))
            Image.fromarray(image).save(root / split / str(labels[place]) / f"{number}.png")


def time_load(root: Path, cache: Path) -> float:
    """Return the seconds of a load in a separate process."""
    environment = os.environ | {CACHE_DIR_VARIABLE: str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(root)], check=True, env=environment, stdout=subprocess.PIPE
    )
    return float(done.stdout)


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--images", type=int, default=50_000, metavar="N")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "pictures")
        write_pictures(root, options.images)
        pairs = [
            [time_load(root, Path(folder, f"cache{each}")) for _ in range(2)]
            for each in range(options.repetitions)
        ]
    rows = [
        {"what": what, "count": options.images, "s": median([pair[place] for pair in pairs])}
        for place, what in enumerate(("decoded", "from the cache"))
    ]
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    report("images", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
