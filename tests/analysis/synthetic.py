"""Stores of made-up records with a known truth: real studies, plans and files, invented outcomes."""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import kept_counts
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.imbalance import rank_groups
from lt_rebalance.ground.metrics import confusion_metrics
from lt_rebalance.ground.paper import PAPER_CS, PAPER_GENERATORS, PAPER_METHODS
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Record, Timing
from lt_rebalance.studies.ablation import nested_seeds
from lt_rebalance.studies.plan import Plan, PlannedRun, compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, grid
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage, GeneratorStage
from lt_rebalance.studies.study import Study
from lt_rebalance.training.device import resolve_execution
from tests.made_up import GENERATOR_CURVES, round_steps

NUM_CLASSES = 10
TEST_PER_CLASS = 1000
PROVENANCE = {
    "commit": "0123456789abcdef",
    "is_dirty": False,
    "versions": {"lt_rebalance": "0.1.0", "torch": "2.15.0+cpu", "python": "3.11.7"},
    "host": "nowhere",
    "device": "an invented processor",
    "lanes": 1,
}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the invented runs are drawn from; accuracies are shares of test images."""

    accuracy: Callable[[PlannedRun], float] = lambda run: 0.8
    """expected accuracy of a run"""
    seed_sd: float = 0.004
    """sd of what all runs of one seed and C share"""
    residual_sd: float = 0.004
    """sd of what each run has for itself"""
    collapse_rate: Callable[[PlannedRun], float] = lambda run: 0.0
    """chance that a run never predicts its last two classes"""
    num_rounds: int = 5
    test_counts_K: Sequence[int] = (TEST_PER_CLASS,) * NUM_CLASSES


def plan_study(
    *,
    name: str = "synthetic",
    protocols: Sequence[str] = ("sound",),
    cs: Sequence[str | None] = (None, *PAPER_CS),
    methods: Sequence[str] = PAPER_METHODS,
    generators: Sequence[str] = PAPER_GENERATORS,
    num_seeds: int = 10,
    dataset: str = "fashion_mnist",
) -> Plan:
    """Return the plan of a real study."""
    cells = grid(
        [get_protocol(protocol) for protocol in protocols],
        dataset=dataset,
        cs=cs,
        methods=methods,
        generators=generators,
    )
    study = Study(name=name, cells=cells, seeds=tuple(range(num_seeds)))
    return compile_study(study, resolve_execution("cpu", "float32", 1, has_cuda=False))


def plan_nested(**axes: Any) -> Plan:
    """Return the plan of a study of these axes that takes seeds apart: 2 subsets, CGANs and classifiers."""
    plan = plan_study(**{"cs": ["1/2"], "methods": ["cgan"], "generators": ["mlp_cgan_relu"]} | axes)
    return compile_study(dataclasses.replace(plan.study, seeds=nested_seeds(2, 2, 2)), plan.execution)


def make_store(root: Path, plan: Plan, truth: Truth | None = None, *, rng_seed: int = 0) -> Store:
    """Write a store in which every run of a plan is complete."""
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    store.write_study(describe_plan(plan))
    for record in invent_records(store, plan, truth or Truth(), rng_seed):
        store.commit(record)
    return store


def invent_records(store: Store, plan: Plan, truth: Truth, rng_seed: int) -> list[Record]:
    """Return a record for each stage of a plan, and write the grids of samples to the store."""
    rng = np.random.default_rng(rng_seed)
    shared: dict[tuple[str, int], float] = {}
    records: dict[str, Record] = {}
    for run in plan.runs:
        generator_stage = run.stage.generator_stage
        if generator_stage is not None and generator_stage.key not in records:
            records[generator_stage.key] = invent_generator(store, generator_stage, rng)
        seed_effect = shared.setdefault((run.cell.data.label, run.seed), rng.normal(0, truth.seed_sd))
        accuracy = truth.accuracy(run) + seed_effect + rng.normal(0, truth.residual_sd)
        recall_K = np.full(NUM_CLASSES, min(max(accuracy, 0.0), 1.0))
        confusion_KK = confusion_of(recall_K, truth.test_counts_K)
        if rng.random() < truth.collapse_rate(run):
            confusion_KK = collapse(confusion_KK, classes=(8, 9))
        quality = {} if generator_stage is None else records[generator_stage.key].quality_per_class
        records[run.key] = make_record(run.stage, confusion_KK, quality=quality, num_rounds=truth.num_rounds)
    return list(records.values())


def confusion_of(
    recall_K: NDArray[np.float64], test_counts_K: Sequence[int] = (TEST_PER_CLASS,) * NUM_CLASSES
) -> NDArray[np.int64]:
    """Return a confusion matrix with given recalls, its errors spread over the other classes."""
    hits_K = np.rint(recall_K * np.asarray(test_counts_K)).astype(np.int64)
    confusion_KK = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    for label, hits in enumerate(hits_K):
        share, rest = divmod(test_counts_K[label] - int(hits), NUM_CLASSES - 1)
        confusion_KK[label] = share
        confusion_KK[label, [(label + 1 + each) % NUM_CLASSES for each in range(rest)]] += 1
        confusion_KK[label, label] = hits
    return confusion_KK


def collapse(confusion_KK: NDArray[np.int64], classes: Sequence[int]) -> NDArray[np.int64]:
    """Return the confusion matrix of a network that says class 0 where this one says one of `classes`."""
    collapsed_KK = confusion_KK.copy()
    for label in classes:
        collapsed_KK[:, 0] += collapsed_KK[:, label]
        collapsed_KK[:, label] = 0
    return collapsed_KK


def make_record(
    stage: ClassifierStage,
    confusion_KK: NDArray[np.int64],
    *,
    quality: Mapping[str, list[float | None]] | None = None,
    num_rounds: int = 5,
    loss: float | None = None,
) -> Record:
    """Return the record of a complete classifier with a given confusion matrix."""
    metrics = confusion_metrics(Confusion.of_matrix(confusion_KK))
    metrics |= {
        "loss": 2.4612 - metrics["accuracy"] if loss is None else loss,
        "nll": 1.0 - metrics["accuracy"],
        "brier": 1.0 - metrics["accuracy"],
        "ece": 0.1,
    }
    recall_K = Confusion.of_matrix(confusion_KK).recall_K.tolist()
    steps = round_steps(stage.classifier.budget)[:num_rounds]
    curves = [
        {"step": step, "train_loss": 1.0 / (index + 1), "test_recall_K": recall_K}
        | {f"test_{name}": value * ((index + 1) / len(steps)) for name, value in metrics.items()}
        for index, step in enumerate(steps)
    ]
    counts = class_counts(stage)
    return _record(
        stage,
        counts,
        num_steps=steps[-1],
        metrics=metrics,
        confusion=tuple(confusion_KK.tolist()),
        quality_per_class=quality or {},
        curves=tuple(curves),
    )


def invent_generator(store: Store, stage: GeneratorStage, rng: np.random.Generator) -> Record:
    """Return the record of a complete generator; its last class has collapsed half of the time."""
    diversity_K = rng.uniform(0.5, 1.0, NUM_CLASSES)
    if rng.random() < 0.5:
        diversity_K[-1] = 0.05
    file = io.BytesIO()
    sheet = rng.integers(0, 256, (3, NUM_CLASSES, 10, 1, 28, 28), dtype=np.uint8)
    np.save(file, sheet, allow_pickle=False)
    values, steps = GENERATOR_CURVES, round_steps(stage.generator.budget)[:5]
    return _record(
        stage,
        class_counts(stage),
        num_steps=steps[-1],
        metrics=values | {"num_collapsed_classes": float((diversity_K < 0.1).sum())},
        confusion=(),
        quality_per_class={
            "diversity": diversity_K.tolist(),
            "distinct_nearest": np.rint(100 * diversity_K).tolist(),
            "nearest_distance_ratio": (0.5 + diversity_K / 2).tolist(),
        },
        curves=tuple({"step": step} | values for step in steps),
        artifacts={"samples": store.write_artifact(stage.key, "samples", ".npy", file.getvalue())},
    )


def class_counts(stage: ClassifierStage | GeneratorStage) -> list[int]:
    """Return ceil(6000 C^i), the paper's counts, or those of a profile; of the original set, its own."""
    if stage.data.c is None:
        available_K = get_dataset_spec(stage.data.dataset).train_counts_K
        return kept_counts(available_K, stage.data.cut, "label", seed=0)
    numerator, denominator = map(int, stage.data.c.split("/"))
    return [-(-6000 * numerator**rank // denominator**rank) for rank in range(NUM_CLASSES)]


def _record(stage: ClassifierStage | GeneratorStage, counts: list[int], **fields: Any) -> Record:
    synthetic = [0] * NUM_CLASSES
    if isinstance(stage, ClassifierStage) and stage.generator_stage is not None:
        synthetic = [counts[0] - count for count in counts]
    defaults: dict[str, Any] = {
        "key": stage.key,
        "kind": stage.kind,
        "state": "complete",
        "stage": stage.to_dict(),
        "class_counts": tuple(counts),
        "training_counts": tuple(a + b for a, b in zip(counts, synthetic, strict=True)),
        "synthetic_counts": tuple(synthetic),
        "rank_groups": {} if stage.data.cut is None else rank_groups(counts),
        "artifacts": {},
        "timing": Timing(wall_s=12.0, train_s=10.0, num_errors=0),
        "provenance": PROVENANCE,
    }
    return Record(**defaults | fields)
