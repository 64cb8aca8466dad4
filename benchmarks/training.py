"""How fast do a CNN and a CGAN train, compared with a plain pipeline and with matrix products?

On a CPU our trainings run as in a sweep: one thread each, concurrently on all cores, measured by their total
throughput. The plain pipeline (benchmarks/plain.py) gets all cores to itself. The work is the same: a number
of training images and all 10,000 test images, or a number of steps of a CGAN. On a GPU one training runs
alone. Times are medians, and ratios are medians of the ratios within one turn, all measured in one run.
"""

import argparse

from benchmarks.measure import make_parser


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--images", type=int, default=12_000, metavar="N", help="per round (default: 12000)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.measure import alternate, describe, measure_peak, median, report
from benchmarks.plain import CGAN_BATCH, CLASSIFIER_BATCH, PlainCGAN, PlainClassifier, make_loader
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.generation.training import build_generator_training
from lt_rebalance.stages.arithmetic import stage_flop
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.classifier import ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.device import prepare_torch, resolve_execution
from lt_rebalance.training.lane import TrainingSet, to_floats
from lt_rebalance.training.rounds import Training
from lt_rebalance.training.stacks import ALONE, Fusion

DATASET = "fashion_mnist"
NUM_TEST = 10_000


def make_cell_of(kind: str, num_images: int) -> Cell:
    """Return a cell whose classifier or CGAN trains one epoch of this many images per round."""
    batch = CLASSIFIER_BATCH if kind == "classifier" else CGAN_BATCH
    budget = Budget(steps=1000 * (num_images // batch), rounds=1000)
    protocol = get_protocol("sound")
    changes = {"classifier_budget": budget} if kind == "classifier" else {"generator_budget": budget}
    fields = {name: getattr(protocol, name) for name in protocol.__dataclass_fields__} | changes
    method, generator = ("none", None) if kind == "classifier" else ("cgan", "mlp_cgan_leaky")
    return make_cell(type(protocol)(**fields), dataset=DATASET, c="1/2", method=method, generator=generator)


def build_training(
    kind: str,
    num_images: int,
    execution: Execution,
    num_lanes: int = 1,
    fusion: Fusion = ALONE,
    *,
    holds_floats: bool = False,
) -> Training[Any, Any]:
    """Return lanes of a training on random images; speed does not depend on their content.

    Args:
        holds_floats: whether all images are stored as floats rather than bytes.
    """
    device = prepare_torch(execution)
    cell, spec = make_cell_of(kind, num_images), get_dataset_spec(DATASET)
    stream = torch.Generator().manual_seed(0)

    def draw(count: int) -> Tensor:
        shape = (count, *spec.image_shape)
        images_PCHW = torch.randint(256, shape, generator=stream, dtype=torch.uint8).to(device)
        return to_floats(images_PCHW) if holds_floats else images_PCHW

    training_set = TrainingSet(
        images_PCHW=draw(num_images),
        labels_P=torch.randint(spec.num_classes, (num_images,), generator=stream).to(device),
        items_N=torch.arange(num_images, device=device),
    )
    lanes = range(num_lanes), [training_set] * num_lanes
    if kind == "cgan":
        assert cell.generator is not None
        return build_generator_training(cell.generator, spec, device, execution.precision, *lanes, fusion)
    test_set = EvaluationSet(
        images_PCHW=draw(NUM_TEST),
        labels_N=torch.randint(spec.num_classes, (NUM_TEST,), generator=stream).to(device),
    )
    config, validation_sets = cell.classifier, [None] * num_lanes
    return ClassifierTraining(
        config, spec, device, execution.precision, *lanes, validation_sets, test_set, fusion
    )


_training: dict[str, Training[Any, Any]] = {}


def _build(kind: str, num_images: int, execution: Execution) -> None:
    _training[kind] = build_training(kind, num_images, execution)
    _training[kind].run_round()  # one-time work, such as imports of the optimizer, is not timed


def _run_round(kind: str) -> None:
    _training[kind].run_round()


class SideBySide:
    """Processes with one thread and one training each, which run their rounds concurrently."""

    def __init__(self, kind: str, num_images: int, execution: Execution, num_processes: int) -> None:
        self._kind = kind
        context = get_context("spawn")
        self._pools = [ProcessPoolExecutor(1, mp_context=context) for _ in range(num_processes)]
        for future in [pool.submit(_build, kind, num_images, execution) for pool in self._pools]:
            future.result()

    def run_round(self) -> None:
        """Run one round of every training."""
        for future in [pool.submit(_run_round, self._kind) for pool in self._pools]:
            future.result()

    def close(self) -> None:
        """End the processes."""
        for pool in self._pools:
            pool.shutdown()


def make_plain(kind: str, num_images: int, num_threads: int) -> Callable[[], None]:
    """Return a function that runs one round of the plain pipeline."""
    rng = np.random.default_rng(0)
    batch = CLASSIFIER_BATCH if kind == "classifier" else CGAN_BATCH

    def draw(count: int, *, shuffle: bool) -> DataLoader[Any]:
        images_NHW = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        return make_loader(images_NHW, rng.integers(0, 10, count), batch, shuffle=shuffle)

    train = draw(num_images, shuffle=True)
    cgan = PlainCGAN(train)
    classifier = PlainClassifier(train, draw(NUM_TEST, shuffle=False))

    def run() -> None:
        torch.set_num_threads(num_threads)
        if kind == "cgan":
            for _ in cgan.steps():
                pass
        else:
            classifier.run_epoch()
            classifier.test()

    return run


def compare(kind: str, num_images: int, execution: Execution, repetitions: int) -> dict[str, Any]:
    """Return one row: medians over the repetitions, ratios within each of them."""
    num_cpus = len(os.sched_getaffinity(0))
    num_processes = num_cpus if execution.device == "cpu" else 1
    dtype = torch.bfloat16 if execution.precision == "bfloat16" else torch.float32
    device = torch.device(execution.device)
    ours = SideBySide(kind, num_images, execution, num_processes)
    peaks: list[float] = []
    seconds = alternate(
        {
            "plain": make_plain(kind, num_images, num_cpus),
            "ours": ours.run_round,
            "peak": lambda: peaks.append(measure_peak(device, dtype)),
        },
        repetitions,
    )
    ours.close()
    ours_s = [each / num_processes for each in seconds["ours"]]
    rates = [round_flop(kind, num_images, execution) / each for each in ours_s]
    return {
        "what": kind,
        "images": num_images,
        "plain, s": median(seconds["plain"]),
        "ours, s per training": median(ours_s),
        "times faster": median([a / b for a, b in zip(seconds["plain"], ours_s, strict=True)]),
        "GFLOP/s": median(rates) / 1e9,
        "matrix products, GFLOP/s": median(peaks) / 1e9,
        "share of them": median([a / b for a, b in zip(rates, peaks, strict=True)]),
        "side by side": num_processes,
        "precision": execution.precision,
    }


def round_flop(kind: str, num_images: int, execution: Execution) -> float:
    """Return the FLOPs of one round, including testing."""
    cell = make_cell_of(kind, num_images)
    stage = cell.stage(0, execution)
    if kind == "cgan":
        assert stage.generator_stage is not None
        return stage_flop(stage.generator_stage) / 1000
    return stage_flop(stage) / 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution(options.device, options.precision, 1, has_cuda=torch.cuda.is_available())
    rows = [compare(kind, options.images, execution, options.repetitions) for kind in ("classifier", "cgan")]
    report("training", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
