"""Checks of the weight of synthetic images in the loss of a classifier."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.training.classifier import ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget, ClassifierConfig
from lt_rebalance.training.lane import TrainingSet
from lt_rebalance.training.stacks import ALONE, Fusion
from tests.methods.toy import CPU, SPEC, K, finish, list_differences, make_set

REAL = make_set()
LABELS_S = torch.tensor([1, 1, 2, 3, 3, 3])

pytestmark = pytest.mark.usefixtures("one_thread")


def add_synthetic(seed: int) -> TrainingSet:
    """Return the real images with six synthetic ones, of noise."""
    noise = torch.Generator().manual_seed(seed)
    size = len(REAL.images_PCHW)
    return TrainingSet(
        images_PCHW=REAL.images_PCHW,
        labels_P=torch.cat([REAL.labels_P, LABELS_S]),
        items_N=torch.arange(size + len(LABELS_S)),
        synthetic_SCHW=torch.rand((len(LABELS_S), 1, 8, 8), generator=noise) * 2 - 1,
    )


def make_training(
    weight: float,
    *sets: TrainingSet,
    architecture: str = "paper_cnn",
    fusion: Fusion = ALONE,
    **changes: Any,
) -> ClassifierTraining:
    values: dict[str, Any] = {
        "loss": "cross_entropy",
        "budget": Budget(steps=6, rounds=3),
        "batch_size": 8,
        "learning_rate": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "evaluation_mode": "running_statistics",
        "selection": "last",
    }
    config = ClassifierConfig(architecture=architecture, **(values | changes))
    test_set = EvaluationSet(images_PCHW=REAL.images_PCHW, labels_N=REAL.labels_P)
    return ClassifierTraining(
        config,
        SPEC,
        CPU,
        "float32",
        list(range(len(sets))),
        sets,
        [None] * len(sets),
        test_set,
        fusion,
        MethodConfig(name="cgan", draw=None, synthetic_weight=weight),
    )


def end_of(training: ClassifierTraining, lane: int = 0) -> dict[str, torch.Tensor]:
    return training.get_lane_state(finish(training).lanes[lane])


def test_images_without_weight_give_no_gradient_and_yet_fill_batches_and_their_statistics() -> None:
    one, other = add_synthetic(1), add_synthetic(2)
    # It normalises each image by itself, so that nothing but the loss could tell them apart.
    ends = [end_of(make_training(0, each, architecture="resnet20_group_norm")) for each in (one, other)]
    assert list_differences(*ends) == []
    weighed = [end_of(make_training(0.01, each, architecture="resnet20_group_norm")) for each in (one, other)]
    assert list_differences(*weighed)
    # It normalises over the batch.
    ends = [end_of(make_training(0, each)) for each in (one, other)]
    assert any("running_mean" in name for name in list_differences(*ends))
    alone = make_training(0, REAL).lanes[0].batches
    beside = make_training(0, one).lanes[0].batches
    assert (alone.batching.num_items, beside.batching.num_items) == (22, 28)


def test_full_weight_is_that_of_real_images_bit_for_bit() -> None:
    made = add_synthetic(1)
    assert made.synthetic_SCHW is not None
    pool = torch.cat([made.images_PCHW, made.synthetic_SCHW])
    real = dataclasses.replace(made, images_PCHW=pool, synthetic_SCHW=None)
    assert list_differences(end_of(make_training(1, made)), end_of(make_training(0.5, real))) == []


def test_half_a_weight_is_half_of_an_image_by_hand() -> None:
    made = add_synthetic(1)
    training = make_training(
        0.5,
        made,
        architecture="resnet20_group_norm",
        budget=Budget(steps=1, rounds=1),
        batch_size=28,
        optimizer="sgd",
        learning_rate=0.1,
    )
    (lane,) = training.lanes
    before = {name: each.detach().clone() for name, each in lane.network.named_parameters()}
    assert made.synthetic_SCHW is not None
    images_NCHW = torch.cat([made.images_PCHW, made.synthetic_SCHW])
    losses_N = cross_entropy(lane.network(images_NCHW), made.labels_P, reduction="none")
    loss = (losses_N[:22].sum() + losses_N[22:].sum() / 2) / 28
    gradients = torch.autograd.grad(loss, list(lane.network.parameters()))
    finish(training)
    assert lane.curves[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for (name, after), gradient in zip(lane.network.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(after, before[name] - 0.1 * gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"schedule": "cosine", "augmentation": "crop"}])
def test_lane_beside_others_trains_as_alone(changes: dict[str, Any]) -> None:
    sets = [add_synthetic(1), add_synthetic(2)]
    together = make_training(0.5, *sets, **changes)
    alone = make_training(0.5, sets[0], **changes)
    assert list_differences(end_of(together), end_of(alone)) == []


def test_fused_lanes_train_as_alone_within_rounding() -> None:
    sets = [add_synthetic(1), add_synthetic(2)]
    fused = end_of(make_training(0.5, *sets, fusion=Fusion(form="vmap", max_lanes=2)))
    alone = end_of(make_training(0.5, sets[0]))
    for name in alone:
        torch.testing.assert_close(fused[name], alone[name], atol=1e-4, rtol=1e-3)


def test_weight_of_each_item() -> None:
    made = add_synthetic(1)
    weights_B = made.weigh_items(torch.tensor([0, 22, 21, 27]), 0.25)
    assert weights_B.tolist() == [1, 0.25, 1, 0.25]
    assert made.labels_P[made.items_N].bincount(minlength=K).tolist() == [12, 8, 4, 4]
