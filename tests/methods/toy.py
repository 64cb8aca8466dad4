"""Long-tailed toy images and classifiers that learn from them by a method."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.methods.registry import METHODS, MethodConfig
from lt_rebalance.training.classifier import ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget, ClassifierConfig
from lt_rebalance.training.lane import TrainingSet
from lt_rebalance.training.stacks import ALONE, Fusion

CPU = torch.device("cpu")
COUNTS = (12, 6, 3, 1)
K = len(COUNTS)
SPEC = DatasetSpec(
    name="toy",
    num_classes=K,
    image_shape=(1, 8, 8),
    class_names=("a", "b", "c", "d"),
    train_counts_K=(20,) * K,
    test_counts_K=(6,) * K,
    licence="none",
    sha256_by_file={"toy.npz": "0" * 64},
)


def configure(name: str, **options: Any) -> MethodConfig:
    """Return a method with its first draw, where it has any."""
    return MethodConfig(name=name, draw=next(iter(METHODS[name].draws), None), options=options or None)


def make_set(seed: int = 0, counts_K: Sequence[int] = COUNTS) -> TrainingSet:
    """Return images that are bright in the quarter that their label names."""
    labels_P = torch.repeat_interleave(torch.arange(K), torch.tensor(counts_K))
    generator = torch.Generator().manual_seed(seed)
    images_PCHW = 0.5 * torch.randn(len(labels_P), 1, 8, 8, generator=generator) - 0.5
    for image_CHW, label in zip(images_PCHW, labels_P.tolist(), strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image_CHW[0, row : row + 4, column : column + 4] += 1
    items_N = torch.arange(len(labels_P))
    return TrainingSet(images_PCHW=images_PCHW.clamp(-1, 1), labels_P=labels_P, items_N=items_N)


def make_training(
    method: MethodConfig,
    seeds: Sequence[int] = (0,),
    fusion: Fusion = ALONE,
    *,
    counts: Sequence[Sequence[int]] | None = None,
    budget: Budget = Budget(steps=6, rounds=3),  # noqa: B008  # frozen
    first_weights: Sequence[Mapping[str, Tensor] | None] | None = None,
    device: str = "cpu",
    **changes: Any,
) -> ClassifierTraining:
    """Return a classifier in training on long-tailed images, one lane a seed."""
    config = ClassifierConfig(
        architecture="paper_cnn",
        budget=budget,
        **{
            "loss": "cross_entropy",
            "batch_size": 8,
            "learning_rate": 1e-3,
            "beta1": 0.9,
            "beta2": 0.999,
            "evaluation_mode": "running_statistics",
            "selection": "last",
        }
        | changes,
    )
    place = torch.device(device)
    sets = [make_set(seed, of) for seed, of in zip(seeds, counts or [COUNTS] * len(seeds), strict=True)]
    on_device = [
        TrainingSet(
            images_PCHW=each.images_PCHW.to(place),
            labels_P=each.labels_P.to(place),
            items_N=each.items_N.to(place),
        )
        for each in sets
    ]
    tested = make_set(100, (6,) * K)
    test_set = EvaluationSet(images_PCHW=tested.images_PCHW.to(place), labels_N=tested.labels_P.to(place))
    return ClassifierTraining(
        config,
        SPEC,
        place,
        "float32",
        seeds,
        on_device,
        [None] * len(seeds),
        test_set,
        fusion,
        method,
        first_weights,
    )


def finish(training: ClassifierTraining) -> ClassifierTraining:
    """Train all lanes to their end."""
    while training.run_round():
        pass
    return training


def list_differences(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that are not equal bit for bit."""
    assert state.keys() == other.keys()
    return [name for name in state if not torch.equal(state[name], other[name])]
