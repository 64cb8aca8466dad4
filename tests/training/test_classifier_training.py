"""Checks of the training of classifiers on toy images: learning, lanes, resumption, divergence, tests."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.classifier import ClassifierLane, ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget, ClassifierConfig
from lt_rebalance.training.lane import BatchOrder, TrainingSet, TrainingState

CPU = torch.device("cpu")
K = 4
SPEC = DatasetSpec(
    name="toy",
    num_classes=K,
    image_shape=(1, 8, 8),
    class_names=("a", "b", "c", "d"),
    train_counts_K=(10,) * K,
    test_counts_K=(10,) * K,
    licence="none",
    sha256_by_file={"toy.npz": "0" * 64},
)


pytestmark = pytest.mark.usefixtures("one_thread")


def make_config(**changes: Any) -> ClassifierConfig:
    values: dict[str, Any] = {
        "architecture": "paper_cnn",
        "loss": "cross_entropy",
        "budget": Budget(steps=6, rounds=3),
        "batch_size": 8,
        "learning_rate": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "evaluation_mode": "running_statistics",
        "selection": "last",
    }
    return ClassifierConfig(**(values | changes))


def make_images(num_images: int, seed: int, noise: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images that are bright in the quarter that their label names, and the labels."""
    labels_N = torch.arange(num_images) % K
    generator = torch.Generator().manual_seed(seed)
    images_NCHW = noise * torch.randn(num_images, 1, 8, 8, generator=generator) - 0.5
    for index, label in enumerate(labels_N.tolist()):
        row, column = 4 * (label // 2), 4 * (label % 2)
        images_NCHW[index, 0, row : row + 4, column : column + 4] += 1
    return images_NCHW.clamp(-1, 1), labels_N


def make_training_set(seed: int = 0, num_images: int = 20) -> TrainingSet:
    images_PCHW, labels_P = make_images(num_images, seed)
    return TrainingSet(images_PCHW=images_PCHW, labels_P=labels_P, items_N=torch.arange(num_images))


def make_evaluation_set(seed: int = 100, num_images: int = 24, noise: float = 0.3) -> EvaluationSet:
    images_NCHW, labels_N = make_images(num_images, seed, noise)
    return EvaluationSet(images_PCHW=images_NCHW, labels_N=labels_N)


def make_training(
    config: ClassifierConfig,
    seeds: Sequence[int] = (0,),
    *,
    training_sets: Sequence[TrainingSet] | None = None,
    validation_set: EvaluationSet | None = None,
    test_set: EvaluationSet | None = None,
    precision: str = "float32",
) -> ClassifierTraining:
    return ClassifierTraining(
        config,
        SPEC,
        CPU,
        precision,
        seeds,
        training_sets or [make_training_set(seed) for seed in seeds],
        [validation_set for _ in seeds],
        test_set or make_evaluation_set(),
    )


def finish(training: ClassifierTraining) -> ClassifierTraining:
    while training.run_round():
        pass
    return training


@pytest.mark.parametrize("evaluation_mode", ["running_statistics", "batch_statistics"])
def test_training_on_bytes_is_that_on_their_floats_bit_for_bit(evaluation_mode: str) -> None:
    generator = torch.Generator().manual_seed(0)
    bytes_PCHW = torch.randint(256, (150, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels_P = torch.arange(150) % K
    floats_PCHW = bytes_PCHW.float().div_(127.5).sub_(1)
    apart_N = torch.tensor([149, 3, 77, 4])
    states, curves = [], []
    for pool, validation_set in (
        (bytes_PCHW, EvaluationSet(images_PCHW=bytes_PCHW, labels_N=labels_P[apart_N], positions_N=apart_N)),
        (floats_PCHW, EvaluationSet(images_PCHW=floats_PCHW[apart_N], labels_N=labels_P[apart_N])),
    ):
        training = make_training(
            make_config(evaluation_mode=evaluation_mode),
            training_sets=[TrainingSet(images_PCHW=pool, labels_P=labels_P, items_N=torch.arange(100))],
            validation_set=validation_set,
            test_set=EvaluationSet(images_PCHW=pool, labels_N=labels_P),
        )
        (lane,) = finish(training).lanes
        states.append(training.get_lane_state(lane))
        curves.append(lane.curves)
    assert list_differences(*states) == []
    assert curves[0] == curves[1]
    assert bytes_PCHW.dtype == torch.uint8


def list_differences(state: TrainingState, other: TrainingState) -> list[str]:
    assert state.keys() == other.keys()
    return [name for name in state if not torch.equal(state[name], other[name])]


def get_progress(lane: ClassifierLane) -> dict[str, Any]:
    """Return what a checkpoint keeps of a lane beside tensors, as a copy."""
    return copy.deepcopy({name: getattr(lane, name) for name in lane.progress_fields})


def assert_same_result(training: ClassifierTraining, index: int, other: ClassifierTraining, at: int) -> None:
    """Check that two lanes agree bit for bit in everything but time."""
    lane, twin = training.lanes[index], other.lanes[at]
    assert list_differences(training.get_lane_state(lane), other.get_lane_state(twin)) == []
    assert get_progress(lane) | {"train_s": 0} == get_progress(twin) | {"train_s": 0}


def predict(network: nn.Module, images_NCHW: torch.Tensor) -> np.ndarray:
    """Return the answers of a copy of the network in evaluation mode."""
    with torch.no_grad():
        return copy.deepcopy(network).eval()(images_NCHW).argmax(dim=1).numpy()


# Learning


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("evaluation_mode", ["running_statistics", "batch_statistics"])
def test_training_learns_separable_images(loss: str, evaluation_mode: str) -> None:
    config = make_config(loss=loss, evaluation_mode=evaluation_mode, budget=Budget(steps=40, rounds=4))
    (lane,) = finish(make_training(config)).lanes
    losses = [row["train_loss"] for row in lane.curves]
    assert losses[-1] < losses[0] - 0.3
    assert lane.curves[-1]["test_accuracy"] == 1
    assert lane.predictions_N.tolist() == [0, 1, 2, 3] * 6


def test_training_in_bfloat16_learns_and_keeps_weights_in_float32() -> None:
    training = finish(make_training(make_config(budget=Budget(steps=40, rounds=2)), precision="bfloat16"))
    assert training.lanes[0].curves[-1]["test_accuracy"] == 1
    assert {parameter.dtype for parameter in training.lanes[0].network.parameters()} == {torch.float32}


def test_training_twice_gives_the_same_bits() -> None:
    assert_same_result(finish(make_training(make_config())), 0, finish(make_training(make_config())), 0)


def test_training_with_another_seed_gives_other_weights() -> None:
    training_sets = [make_training_set(0)]
    first, other = (
        finish(make_training(make_config(), [seed], training_sets=training_sets)) for seed in (0, 1)
    )
    states = [training.get_lane_state(training.lanes[0]) for training in (first, other)]
    assert "classifier.network.0.weight" in list_differences(*states)


def test_training_in_epochs_tests_after_every_pass() -> None:
    (lane,) = finish(make_training(make_config(budget=Budget(epochs=3)))).lanes
    assert [row["step"] for row in lane.curves] == [3, 6, 9]  # 20 images in batches of 8
    assert (lane.round, lane.step, lane.is_diverged) == (3, 9, False)


def test_training_in_steps_tests_at_even_shares() -> None:
    (lane,) = finish(make_training(make_config(budget=Budget(steps=7, rounds=3)))).lanes
    assert [row["step"] for row in lane.curves] == [2, 4, 7]


def test_training_loss_of_a_round_is_the_mean_over_its_steps() -> None:
    # A step so small that the weights stay what they are, and a network without statistics of its own.
    config = make_config(budget=Budget(steps=3, rounds=1), learning_rate=1e-30)
    training = make_training(config)
    network, training_set = copy.deepcopy(training.lanes[0].network), training.lanes[0].training_set
    order = BatchOrder(Batching(num_items=20, batch_size=8, smallest=1), 0, "classifier_batches", CPU)
    with torch.no_grad():
        batches = [training_set.batch(order[step]) for step in range(3)]
        losses = [float(nn.functional.cross_entropy(network.train()(x), y)) for x, y in batches]
    finish(training)
    assert training.lanes[0].curves[0]["train_loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_training_leaves_global_generators_untouched() -> None:
    before = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    finish(make_training(make_config()))
    after = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def test_training_does_not_depend_on_the_global_generator() -> None:
    trainings = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        trainings.append(finish(make_training(make_config())))
    assert_same_result(trainings[0], 0, trainings[1], 0)


# Lanes


@pytest.mark.parametrize("evaluation_mode", ["running_statistics", "batch_statistics"])
def test_lanes_together_give_the_bits_of_each_alone_in_any_order(evaluation_mode: str) -> None:
    config = make_config(evaluation_mode=evaluation_mode)
    together, turned = finish(make_training(config, [0, 1])), finish(make_training(config, [1, 0]))
    for index, seed in enumerate([0, 1]):
        alone = finish(make_training(config, [seed]))
        assert_same_result(together, index, alone, 0)
        assert_same_result(turned, 1 - index, alone, 0)


def test_run_round_trains_the_lane_furthest_behind_first() -> None:
    training, ahead = make_training(make_config(), [0, 1]), make_training(make_config(), [1])
    ahead.run_round()
    lanes = training.lanes
    for name, value in get_progress(ahead.lanes[0]).items():
        setattr(lanes[1], name, value)
    training.set_lane_state(lanes[1], ahead.get_lane_state(ahead.lanes[0]))
    assert [list(training.run_round()) for _ in range(4)] == [[lanes[0]], lanes, lanes, []]
    for index, seed in enumerate([0, 1]):
        assert_same_result(training, index, finish(make_training(make_config(), [seed])), 0)


def test_lanes_of_different_length_finish_one_after_the_other() -> None:
    training_sets = [make_training_set(0, 16), make_training_set(1, 20)]
    training = make_training(make_config(budget=Budget(epochs=2)), [0, 1], training_sets=training_sets)
    finish(training)
    assert [lane.step for lane in training.lanes] == [4, 6]


# Resumption


@pytest.mark.parametrize("evaluation_mode", ["running_statistics", "batch_statistics"])
@pytest.mark.parametrize("num_rounds", [0, 1, 2, 3])
def test_training_resumed_at_a_round_boundary_gives_the_same_bits(
    evaluation_mode: str, num_rounds: int
) -> None:
    config = make_config(evaluation_mode=evaluation_mode, selection="best_validation")
    validation_set = make_evaluation_set(seed=7, noise=1.0)
    first = make_training(config, validation_set=validation_set)
    for _ in range(num_rounds):
        first.run_round()
    resumed = make_training(config, validation_set=validation_set)
    for name, value in get_progress(first.lanes[0]).items():
        setattr(resumed.lanes[0], name, value)
    resumed.set_lane_state(resumed.lanes[0], copy.deepcopy(first.get_lane_state(first.lanes[0])))
    finish(first)
    finish(resumed)
    assert first.lanes[0].round == 3
    assert_same_result(resumed, 0, first, 0)


# Divergence


@pytest.mark.parametrize("position", [0, 1])
def test_lane_with_a_damaged_image_diverges_and_leaves_the_other_alone(position: int) -> None:
    config = make_config()
    damaged = make_training_set(5)
    step_two = BatchOrder(Batching(num_items=20, batch_size=8, smallest=1), 5, "classifier_batches", CPU)[2]
    damaged.images_PCHW[damaged.items_N[step_two[0]]] = float("nan")
    seeds, training_sets = [1], [make_training_set(1)]
    seeds.insert(position, 5)
    training_sets.insert(position, damaged)
    training = finish(make_training(config, seeds, training_sets=training_sets))
    diverged = training.lanes[position]
    # Steps 0 and 1 are round 0; the image comes in step 2, so that round 1 does not count.
    assert (diverged.is_diverged, diverged.round, diverged.step) == (True, 2, 4)
    assert len(diverged.curves) == 1
    assert not training.lanes[1 - position].is_diverged
    assert_same_result(training, 1 - position, finish(make_training(config, [1])), 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_lane_with_an_absurd_learning_rate_diverges_and_trains_no_further(loss: str) -> None:
    training = finish(make_training(make_config(learning_rate=1e30, loss=loss)))
    (lane,) = training.lanes
    assert lane.is_diverged
    assert lane.is_finished
    before = copy.deepcopy(training.get_lane_state(lane))
    assert training.run_round() == []
    after = training.get_lane_state(lane)
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)


@pytest.mark.parametrize("damaged", ["test", "validation"])
@pytest.mark.parametrize("selection", ["last", "best_validation"])
def test_lane_whose_answers_are_not_numbers_diverges(damaged: str, selection: str) -> None:
    sets = {"test": make_evaluation_set(), "validation": make_evaluation_set(seed=7)}
    sets[damaged].images_PCHW[3] = float("nan")
    training = make_training(
        make_config(selection=selection), validation_set=sets["validation"], test_set=sets["test"]
    )
    (lane,) = finish(training).lanes
    assert (lane.is_diverged, lane.round, lane.curves) == (True, 1, [])


# Evaluation


def test_evaluation_in_mode_running_statistics_changes_no_statistics() -> None:
    config = make_config(budget=Budget(steps=4, rounds=2))
    test_sets = [make_evaluation_set(), make_evaluation_set(seed=200, num_images=12, noise=2.0)]
    trainings = [finish(make_training(config, test_set=test_set)) for test_set in test_sets]
    states = [training.get_lane_state(training.lanes[0]) for training in trainings]
    assert list_differences(*states) == ["predictions_N", "precision_recall_K2T"]


def test_evaluation_in_mode_batch_statistics_changes_running_statistics_and_nothing_else() -> None:
    config = make_config(budget=Budget(steps=4, rounds=2), evaluation_mode="batch_statistics")
    test_sets = [make_evaluation_set(), make_evaluation_set(seed=200, noise=2.0)]
    trainings = [finish(make_training(config, test_set=test_set)) for test_set in test_sets]
    states = [training.get_lane_state(training.lanes[0]) for training in trainings]
    changed = {name.rpartition(".")[2] for name in list_differences(*states)}
    assert changed == {"predictions_N", "precision_recall_K2T", "running_mean", "running_var"}
    # Two steps and one batch of the test, twice.
    assert states[0]["classifier.network.2.num_batches_tracked"] == 2 * (2 + 1)


def test_evaluation_in_mode_running_statistics_equals_a_network_in_evaluation_mode() -> None:
    test_set = make_evaluation_set(num_images=150, noise=1.5)
    training = make_training(make_config(), test_set=test_set)
    training.run_round()
    (lane,) = training.lanes
    with torch.no_grad():
        logits_NK = copy.deepcopy(lane.network).eval()(test_set.images_PCHW)
    row = lane.curves[0]
    assert lane.predictions_N.tolist() == logits_NK.argmax(dim=1).tolist()
    loss = float(nn.functional.cross_entropy(logits_NK, test_set.labels_N))
    assert row["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert row["test_accuracy"] == pytest.approx(
        accuracy_score(test_set.labels_N.numpy(), lane.predictions_N)
    )
    assert row["test_macro_f1"] == pytest.approx(
        f1_score(
            test_set.labels_N.numpy(), lane.predictions_N, labels=range(K), average="macro", zero_division=0
        )
    )
    recalls = [float((lane.predictions_N[test_set.labels_N == label] == label).mean()) for label in range(K)]
    assert row["test_recall_K"] == pytest.approx(recalls)


def test_evaluation_in_mode_batch_statistics_normalises_batches_of_100_by_themselves() -> None:
    test_set = make_evaluation_set(num_images=150, noise=1.5)
    test_set.images_PCHW[100:] *= 0.1  # so that the second batch has statistics of its own
    config = make_config(evaluation_mode="batch_statistics", learning_rate=1e-2)
    training = make_training(config, test_set=test_set)
    training.run_round()
    (lane,) = training.lanes
    network = copy.deepcopy(lane.network).train()
    with torch.no_grad():
        logits_NK = torch.cat([network(images) for images in test_set.images_PCHW.split([100, 50])])
        others = [network(test_set.images_PCHW), network.eval()(test_set.images_PCHW)]
    loss, *other_losses = (
        float(nn.functional.cross_entropy(logits, test_set.labels_N)) for logits in (logits_NK, *others)
    )
    assert lane.predictions_N.tolist() == logits_NK.argmax(dim=1).tolist()
    assert lane.curves[0]["test_loss"] == pytest.approx(loss, rel=1e-5)
    for other_loss in other_losses:
        assert abs(other_loss - loss) > 1e-4 * loss


def test_curves_hold_validation_columns_only_with_a_validation_set() -> None:
    for validation_set in (None, make_evaluation_set(seed=7)):
        training = make_training(make_config(), validation_set=validation_set)
        training.run_round()
        (row,) = training.lanes[0].curves
        columns = {name.removeprefix("validation_") for name in row if name.startswith("validation_")}
        tested = {name.removeprefix("test_") for name in row if name.startswith("test_")}
        assert columns == (tested if validation_set else set())
        assert {"step", "train_loss", "test_loss", "test_macro_f1", "test_recall_K"} <= set(row)
        assert {"test_nll", "test_brier", "test_ece"} <= set(row)


@pytest.mark.parametrize("loss", LOSSES)
def test_probabilities_are_the_softmax_of_the_logits_once_whatever_the_loss(loss: str) -> None:
    test_set = make_evaluation_set(num_images=150, noise=1.5)
    training = make_training(make_config(loss=loss), test_set=test_set)
    training.run_round()
    (lane,) = training.lanes
    with torch.no_grad():
        logits_NK = copy.deepcopy(lane.network).eval()(test_set.images_PCHW).double()
    row = lane.curves[0]
    nll = float(nn.functional.cross_entropy(logits_NK, test_set.labels_N))
    assert row["test_nll"] == pytest.approx(nll, rel=1e-5)
    assert (row["test_loss"] == pytest.approx(row["test_nll"], rel=1e-9)) == (loss == "cross_entropy")
    probabilities_NK, one_hot_NK = logits_NK.softmax(dim=1), nn.functional.one_hot(test_set.labels_N, K)
    brier = float((probabilities_NK - one_hot_NK).square().sum(dim=1).mean())
    assert row["test_brier"] == pytest.approx(brier, rel=1e-5)
    confidence_N, answers_N = probabilities_NK.max(dim=1)
    gaps_N = (answers_N == test_set.labels_N).double() - confidence_N
    bins_N = (confidence_N * 15).ceil()
    ece = sum(float(gaps_N[bins_N == index].sum().abs()) for index in range(1, 16)) / 150
    assert row["test_ece"] == pytest.approx(ece, rel=1e-4)


# Selection


@pytest.mark.parametrize("selection", ["last", "best_validation", "oracle_best_test"])
def test_selection_reports_the_round_it_names(selection: str) -> None:
    # Answers that cannot be learned, so that the scores go up and down.
    generator = torch.Generator().manual_seed(3)
    sets = [make_evaluation_set(seed, 40, noise=2.0) for seed in (8, 9)]
    validation_set, test_set = (
        EvaluationSet(images_PCHW=one.images_PCHW, labels_N=torch.randint(K, (40,), generator=generator))
        for one in sets
    )
    config = make_config(selection=selection, budget=Budget(steps=16, rounds=8), learning_rate=3e-3)
    training = make_training(config, validation_set=validation_set, test_set=test_set)
    (lane,) = training.lanes
    predictions, scores = [], {"best_validation": [], "oracle_best_test": []}
    while training.run_round():
        predictions.append(predict(lane.network, test_set.images_PCHW).tolist())
        for name, one in [("best_validation", validation_set), ("oracle_best_test", test_set)]:
            answers = predict(lane.network, one.images_PCHW)
            options = {"labels": range(K), "average": "macro", "zero_division": 0}
            scores[name].append(float(f1_score(one.labels_N.numpy(), answers, **options)))
    best = {name: int(np.argmax(values)) for name, values in scores.items()} | {"last": 7}
    assert len(set(best.values())) == 3  # or this test could not tell them apart
    assert lane.selected_round == best[selection]
    assert lane.predictions_N.tolist() == predictions[best[selection]]
    assert [row["validation_macro_f1"] for row in lane.curves] == pytest.approx(scores["best_validation"])


def test_selection_of_equal_scores_reports_the_first_round() -> None:
    config = make_config(selection="best_validation", budget=Budget(steps=40, rounds=8))
    (lane,) = finish(make_training(config, validation_set=make_evaluation_set(seed=7))).lanes
    scores = [row["validation_macro_f1"] for row in lane.curves]
    assert scores[-2:] == [1, 1]
    assert lane.selected_round == scores.index(1)
