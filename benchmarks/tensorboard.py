"""How large are the events of a thousand runs, and how soon does TensorBoard serve them?

Generators and classifiers of a full grid are simulated with the real writers: curves of the usual length,
recalls, confusion matrices, precision-recall curves, grids of samples. Then the real server is started on
their events. It is timed from its start until it has read every run completely, and from there until it
answers for the table of hyperparameters. Nothing is trained.
"""

import argparse

from benchmarks.measure import make_parser


def make_own_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000], metavar="N")
    return parser


if __name__ == "__main__":
    make_own_parser().parse_args()  # import below keeps --help and wrong options fast

import dataclasses
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import describe, median, report
from benchmarks.orchestration import NUM_CLASSES, make_record
from lt_rebalance.data.files import load_dataset
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.metrics import confusion_metrics, precision_recall_counts
from lt_rebalance.ground.paper import PAPER_METHODS
from lt_rebalance.monitoring.tensorboard.content import ROUND_COLUMNS
from lt_rebalance.monitoring.tensorboard.naming import name_runs, study_directory
from lt_rebalance.monitoring.tensorboard.overview import refresh_events
from lt_rebalance.monitoring.tensorboard.server import LOOPBACK, server_command
from lt_rebalance.monitoring.tensorboard.writer import RunEvents
from lt_rebalance.networks.generators.registry import GENERATORS, TRAINED
from lt_rebalance.stages.cgan_quality import GRID_IMAGES
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Artifact, Record
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, grid
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, GeneratorStage
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import resolve_execution

POLL_S = 0.05
"""seconds between two requests to the server"""
NOISE_LEVELS = 5.0
"""standard deviation of the noise in synthetic samples, of 255 levels"""


def make_plan(num_runs: int, execution: Execution) -> Plan:
    """Return the plan of the full grid, both protocols, with at least this many stages of both kinds."""
    cells = grid(
        [get_protocol("paper"), get_protocol("sound")],
        dataset="fashion_mnist",
        cs=[None, "7/9", "1/2"],
        methods=PAPER_METHODS,
        generators=tuple(name for name in GENERATORS if name not in TRAINED),
    )
    per_seed = compile_study(Study(name="simulated", cells=cells, seeds=(0,)), execution)
    num_seeds = -(-num_runs // len(per_seed.stages))
    return compile_study(Study(name="simulated", cells=cells, seeds=tuple(range(num_seeds))), execution)


def simulate(store: Store, plan: Plan) -> None:
    """Write the events and the record of every stage, as a sweep writes them."""
    study = describe_plan(plan)
    store.write_study(study)
    runs = name_runs(study)
    simulation = Simulation(store)
    for key, stage in plan.stages.items():
        record = simulation.make_record(stage)
        events = RunEvents(store, stage.kind, runs[key])
        preview = simulation.draw_preview if stage.kind == "generator" else None
        for count in range(len(record.curves) + 1):
            events.note_rounds(record.curves[:count], len(record.curves), preview)
        store.commit(record)
        events.finish(record)
    refresh_events(store, study)


class Simulation:
    """Generates results of trainings."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rng = np.random.default_rng(0)
        dataset = load_dataset("fashion_mnist_mini")
        of_class = [
            dataset.train_images_NCHW[dataset.train_labels_N == label] for label in range(NUM_CLASSES)
        ]
        self._images_KNCHW = np.stack(of_class)

    def make_record(self, stage: AnyStage) -> Record:
        """Return a record with random curves and results of typical size, after writing its artefacts."""
        config = stage.generator if isinstance(stage, GeneratorStage) else stage.classifier
        ends = config.budget.round_ends(-(-60_000 // config.batch_size))
        names = ROUND_COLUMNS[stage.kind] if stage.kind == "generator" else list(make_record(stage).curves[0])
        rows = [{name: self._random(name) for name in names} | {"step": end} for end in ends]
        record = dataclasses.replace(make_record(stage), num_steps=ends[-1])
        if stage.kind == "generator":
            last: dict[str, Any] = {name: value for name, value in rows[-1].items() if name != "step"}
            record = dataclasses.replace(
                record,
                confusion=(),
                curves=tuple(rows),
                metrics=last | {"num_collapsed_classes": 0.0},
                rank_groups={} if stage.data.cut is None else record.rank_groups,
            )
            diversity = self._rng.uniform(0.3, 1, NUM_CLASSES).tolist()
            sheet = np.stack([self.draw_preview()[0]] * 3)
            samples = self._write(stage, "samples", sheet)
            return dataclasses.replace(
                record, quality_per_class={"diversity": diversity}, artifacts={"samples": samples}
            )
        labels_N = np.repeat(np.arange(NUM_CLASSES), 1000)
        logits_NK = 2 * np.eye(NUM_CLASSES)[labels_N] + self._rng.normal(size=(len(labels_N), NUM_CLASSES))
        probabilities_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
        confusion = Confusion.of_predictions(labels_N, probabilities_NK.argmax(axis=1), NUM_CLASSES)
        counts = precision_recall_counts(probabilities_NK, labels_N).astype(np.uint32)
        metrics = {**record.metrics, **confusion_metrics(confusion)}
        rows[-1] |= {f"test_{name}": value for name, value in metrics.items()}
        return dataclasses.replace(
            record,
            metrics=metrics,
            curves=tuple(rows),
            rank_groups={} if stage.data.cut is None else record.rank_groups,
            confusion=confusion.to_rows(),
            artifacts={"precision_recall": self._write(stage, "precision_recall", counts)},
        )

    def draw_preview(self) -> tuple[NDArray[np.uint8], list[float | None]]:
        """Return real images with some noise, as generated samples."""
        chosen = self._rng.integers(self._images_KNCHW.shape[1], size=GRID_IMAGES)
        noise = self._rng.normal(0, NOISE_LEVELS, self._images_KNCHW[:, chosen].shape)
        noisy = (self._images_KNCHW[:, chosen] + noise).clip(0, 255).astype(np.uint8)
        return noisy, self._rng.uniform(0.3, 1, NUM_CLASSES).tolist()

    def _random(self, name: str) -> float | list[float]:
        if name.endswith("_K"):
            return [float(value) for value in self._rng.random(NUM_CLASSES)]
        return float(self._rng.random())

    def _write(self, stage: AnyStage, role: str, array: NDArray[Any]) -> Artifact:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return self._store.write_artifact(stage.key, role, ".npy", file.getvalue())


def time_server(logdir: str, num_runs: int) -> tuple[float, float]:
    """Return the seconds until the server has read every run, and until it then answers for all cells."""
    command = server_command(logdir, host=LOOPBACK, port=0, reload_s=5)
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = next(
            found.group() for line in process.stderr if (found := re.search(r"http://[\d.]+:\d+", line))
        )
        while count_read(ask(f"{url}/data/plugin/scalars/tags")) < num_runs:
            time.sleep(POLL_S)
        loaded_s = time.perf_counter() - start
        columns = [{"hparam": "method.name"}, {"metric": {"tag": "result/last_accuracy"}}]
        body = {"experimentName": "", "colParams": columns, "startIndex": 0, "sliceSize": 10_000}
        body["allowedStatuses"] = ["STATUS_SUCCESS"]
        groups = ask(f"{url}/data/plugin/hparams/session_groups", body)["sessionGroups"]
        assert sum(len(group["sessions"]) for group in groups) > 0
        return loaded_s, time.perf_counter() - start - loaded_s
    finally:
        process.terminate()
        process.wait()


def count_read(tags: Mapping[str, Mapping[str, Any]]) -> int:
    """Return how many runs have been read completely; the last tags of a stage show that."""
    return sum(
        "result/last_accuracy" in of_run or "diversity/0 T-shirt/top" in of_run for of_run in tags.values()
    )


def ask(url: str, body: Mapping[str, Any] | None = None) -> Any:  # Any: JSON values
    """Return the answer of the server."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.loads(opener.open(request, timeout=120).read())


def measure(num_runs: int, execution: Execution, repetitions: int) -> dict[str, Any]:
    """Return size and time of this many runs."""
    plan = make_plan(num_runs, execution)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder, RESULTS_VERSION, create=True)
        assert store is not None
        start = time.perf_counter()
        simulate(store, plan)
        written_s = time.perf_counter() - start
        logdir = f"{folder}/{study_directory('simulated')}"
        files = [path for path in Path(logdir).rglob("*") if path.is_file()]
        timed = [time_server(logdir, len(plan.stages)) for _ in range(repetitions)]
        return {
            "runs": len(plan.stages),
            "MB": sum(path.stat().st_size for path in files) / 1e6,
            "files": len(files),
            "s to load": median([loaded for loaded, _ in timed]),
            "s for hparams": median([answered for _, answered in timed]),
            "s to simulate": written_s,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    options = make_own_parser().parse_args(arguments)
    execution = resolve_execution("cpu", "auto", 1, has_cuda=False)
    rows = [measure(count, execution, options.repetitions) for count in options.runs]
    report("tensorboard", rows, describe(execution), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
