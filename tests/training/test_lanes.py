"""Checks of lanes that compute together: forms agree, seeds see the same in any company, lanes stay apart."""

import copy
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.generation.training import build_generator_training
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS, TRAINED
from lt_rebalance.training.classifier import ClassifierTraining, EvaluationSet
from lt_rebalance.training.configs import Budget, ClassifierConfig, GeneratorConfig
from lt_rebalance.training.lane import TrainingSet, next_lanes
from lt_rebalance.training.rounds import Training, group_lanes
from lt_rebalance.training.stacks import ALONE, FORMS, Fusion
from lt_rebalance.training.step import StepProgram

HAS_CUDA = torch.cuda.is_available()
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not HAS_CUDA, reason="no CUDA device")]),
]
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
STACKED_FORMS = [form for form in FORMS if form != "separate"]
KINDS = [*CLASSIFIERS, *GENERATORS]
CONVOLUTIONAL = [*CLASSIFIERS, "dccgan_leaky", *TRAINED]
QUICK = ("paper_cnn", "paper_cnn_dropout", "small_mlp_cgan_leaky", "cdcgan", "cvae")
"""stand for all kinds in the default suite"""
LARGE = {kind: pytest.mark.slow for kind in KINDS if kind not in QUICK}
DEEP = ("resnet18", "resnet32")
"""what rounding there is grows from layer to layer and step to step, so fewer steps are compared"""
SHORT = Budget(steps=4, rounds=2)
"""a pass of three steps, and one of the next"""
ADAM = {"batch_size": 8, "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999}


pytestmark = pytest.mark.usefixtures("one_thread")


def make_images(num_images: int, seed: int, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """Return images that are bright in the quarter that their label names, and the labels."""
    labels_N = torch.arange(num_images) % K
    generator = torch.Generator().manual_seed(seed)
    images_NCHW = noise * torch.randn(num_images, 1, 8, 8, generator=generator) - 0.5
    for index, label in enumerate(labels_N.tolist()):
        row, column = 4 * (label // 2), 4 * (label % 2)
        images_NCHW[index, 0, row : row + 4, column : column + 4] += 1
    return images_NCHW.clamp(-1, 1), labels_N


def make_training_set(seed: int, num_images: int = 20) -> TrainingSet:
    images_PCHW, labels_P = make_images(num_images, seed)
    return TrainingSet(images_PCHW=images_PCHW, labels_P=labels_P, items_N=torch.arange(num_images))


def move(training_set: TrainingSet, device: str) -> TrainingSet:
    return TrainingSet(
        images_PCHW=training_set.images_PCHW.to(device),
        labels_P=training_set.labels_P.to(device),
        items_N=training_set.items_N.to(device),
    )


def make_training(
    kind: str,
    seeds: Sequence[int],
    fusion: Fusion,
    *,
    budget: Budget = SHORT,
    training_sets: Sequence[TrainingSet] | None = None,
    precision: str = "float32",
    num_tested: int = 24,
    noise: float = 0.5,
    device: str = "cpu",
) -> Training[Any, Any]:
    """Return a classifier or a CGAN of an architecture; "classifier" is the paper's."""
    place = torch.device(device)
    sets = [move(each, device) for each in training_sets or [make_training_set(seed) for seed in seeds]]
    if kind in GENERATORS:
        method = MethodConfig(name="none", draw=None)
        cgan = GeneratorConfig(architecture=kind, training_method=method, budget=budget, **ADAM)
        return build_generator_training(cgan, SPEC, place, precision, seeds, sets, fusion)
    config = ClassifierConfig(
        architecture="paper_cnn" if kind == "classifier" else kind,
        loss="cross_entropy",
        budget=budget,
        evaluation_mode="running_statistics",
        selection="last",
        **ADAM,
    )
    images_NCHW, labels_N = make_images(num_tested, 100, noise)
    test_set = EvaluationSet(images_PCHW=images_NCHW.to(place), labels_N=labels_N.to(place))
    validation_sets = [
        EvaluationSet(images_PCHW=each.images_PCHW, labels_N=each.labels_P)
        for each in (move(make_training_set(200 + seed), device) for seed in seeds)
    ]
    return ClassifierTraining(config, SPEC, place, precision, seeds, sets, validation_sets, test_set, fusion)


def finish(training: Training[Any, Any]) -> Training[Any, Any]:
    while training.run_round():
        pass
    return training


@functools.cache
def alone(kind: str, seed: int, device: str = "cpu", **options: Any) -> Training[Any, Any]:
    """Return a finished lane that had no company; every form is compared with the same one."""
    return finish(make_training(kind, [seed], ALONE, device=device, **options))


def together(form: str, max_lanes: int = 100) -> Fusion:
    return Fusion(form=form, max_lanes=max_lanes)


def flatten_curves(lane: Any) -> list[float]:
    return [
        number
        for row in lane.curves
        for name, value in row.items()
        if name != "step"
        for number in (value if isinstance(value, list) else [value])
    ]


def assert_close(training: Training[Any, Any], index: int, other: Training[Any, Any], at: int) -> None:
    """Check that two lanes agree within rounding after a few steps.

    Losses and metrics agree within a thousandth; of each tensor of weights, half within 5 % of what Adam can
    have moved them, all within twice that: of a gradient that is nothing but rounding, Adam makes a step.
    """
    lane, twin = training.lanes[index], other.lanes[at]
    assert (lane.seed, lane.step, lane.round) == (twin.seed, twin.step, twin.round)
    assert flatten_curves(lane) == pytest.approx(flatten_curves(twin), rel=1e-3, abs=1e-3)
    states = training.get_lane_state(lane), other.get_lane_state(twin)
    assert states[0].keys() == states[1].keys()
    furthest = ADAM["learning_rate"] * lane.step
    for name, tensor in states[0].items():
        if ".network." in name and name.endswith(("weight", "bias")):
            differences = (tensor - states[1][name]).abs()
            assert differences.median() < 0.05 * furthest, name
            assert differences.max() < 2 * furthest, name


# Forms


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param(kind, form, marks=LARGE.get(kind, ()))
        for kind, form in (
            *itertools.product(KINDS, ["separate", "vmap"]),
            *itertools.product(CONVOLUTIONAL, ["unfold"]),
        )
    ],
)
@pytest.mark.parametrize("device", DEVICES)
def test_lanes_at_once_train_as_each_alone_within_rounding(kind: str, form: str, device: str) -> None:
    """On a GPU the first steps are plain calls and later ones replay a capture, in each shape of a batch."""
    seeds, budget = ([0, 3, 8], Budget(steps=18, rounds=3)) if device == "cuda" else ([0, 3], SHORT)
    if kind in DEEP and device == "cpu":
        budget = Budget(steps=2, rounds=2)
    training = finish(make_training(kind, seeds, together(form), budget=budget, device=device))
    for index, seed in enumerate(seeds):
        assert_close(training, index, alone(kind, seed, device, budget=budget), 0)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_captured_steps_train_as_plain_calls(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(steps=18, rounds=3)
    captured = finish(make_training(kind, [0], ALONE, budget=budget, device="cuda"))
    monkeypatch.setattr("lt_rebalance.training.step.WARM_UP_CALLS", 1_000)
    plain = finish(make_training(kind, [0], ALONE, budget=budget, device="cuda"))
    assert_close(captured, 0, plain, 0)


@pytest.mark.parametrize("form", STACKED_FORMS)
def test_lanes_at_once_in_bfloat16_train_as_each_alone_within_its_rounding(form: str) -> None:
    training = finish(make_training("classifier", [0, 1], together(form), precision="bfloat16"))
    for index in (0, 1):
        (lane,) = alone("classifier", index, precision="bfloat16").lanes
        found, expected = (each.curves[-1]["train_loss"] for each in (training.lanes[index], lane))
        assert found == pytest.approx(expected, rel=0.02)


def test_convolutions_by_unfolding_equal_those_of_torch() -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 4, (2, 3), padding=(0, 2), dilation=(2, 1), bias=False)
    )
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    images_LNCHW = torch.randn(1, 5, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    expected = network(images_LNCHW[0])
    found = FORMS["unfold"]([network], [optimizer])(images_LNCHW)
    torch.testing.assert_close(found[0], expected)


@pytest.mark.parametrize("form", STACKED_FORMS)
def test_lane_stays_a_view_of_its_stack(form: str) -> None:
    training = make_training("big_mlp_cgan_leaky", [0, 1], together(form))
    training.run_round()
    before = [copy.deepcopy(training.get_lane_state(lane)) for lane in training.lanes]
    training.run_round()
    for lane, state in zip(training.lanes, before, strict=True):
        after = training.get_lane_state(lane)
        unchanged = [name for name in state if torch.equal(state[name], after[name])]
        assert unchanged == []
        assert float(after["generator.optimizer.0.step"]) == lane.step == 4


def test_unknown_form_is_refused_with_those_known() -> None:
    with pytest.raises(ValueError, match="unknown form 'fused'; known: separate, vmap, unfold"):
        Fusion(form="fused", max_lanes=2)
    with pytest.raises(ValueError, match="max_lanes must be at least 1, got 0"):
        Fusion(form="vmap", max_lanes=0)


# What a seed sees


def spy_on_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, ...]]:
    """Return a list that every step's inputs are added to."""
    seen: list[tuple[Tensor, ...]] = []
    call = StepProgram.__call__

    def spy(program: StepProgram, *inputs: Tensor) -> Tensor:
        seen.append(tuple(tensor.clone() for tensor in inputs))
        return call(program, *inputs)

    monkeypatch.setattr(StepProgram, "__call__", spy)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("form", ["separate", "vmap"])
@pytest.mark.parametrize("kind", ["classifier", "small_mlp_cgan_leaky"])
def test_seed_sees_the_same_bits_alone_and_among_15_others(
    kind: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds, budget = range(16), Budget(steps=3, rounds=1)
    seen = spy_on_steps(monkeypatch)
    crowd = make_training(kind, seeds, together(form), budget=budget)
    starts = [copy.deepcopy(crowd.get_lane_state(lane)) for lane in crowd.lanes]
    finish(crowd)
    of_crowd = list(seen)
    for seed in (0, 7, 15):
        seen.clear()
        single = make_training(kind, [seed], ALONE, budget=budget)
        start = single.get_lane_state(single.lanes[0])
        assert start.keys() == starts[seed].keys()
        assert all(torch.equal(start[name], starts[seed][name]) for name in start)
        finish(single)
        assert len(seen) == len(of_crowd) == 3
        for own, all_lanes in zip(seen, of_crowd, strict=True):
            for tensor, of_all in zip(own, all_lanes, strict=True):
                # Without axes it is the number of the step, which lanes share.
                assert torch.equal(
                    tensor[0] if tensor.dim() else tensor, of_all[seed] if of_all.dim() else of_all
                )


@pytest.mark.slow
def test_accuracies_in_a_stacked_form_are_equivalent_to_those_of_lanes_alone() -> None:
    """Two one-sided t tests on the paired differences of 16 seeds: within 3 points, at 5 %."""
    seeds, budget = range(16), Budget(steps=20, rounds=1)
    expected, *stacked = (
        [
            lane.curves[-1]["test_accuracy"]
            for lane in finish(
                make_training("classifier", seeds, fusion, budget=budget, num_tested=200, noise=1.5)
            ).lanes
        ]
        for fusion in (ALONE, *map(together, STACKED_FORMS))
    )
    assert 0.4 < np.mean(expected) < 0.95  # neither guessing nor perfect
    assert np.std(expected) > 0.01
    for form, found in zip(STACKED_FORMS, stacked, strict=True):
        differences = np.subtract(expected, found)
        for bound, side in ((-0.03, "greater"), (0.03, "less")):
            assert stats.ttest_1samp(differences, bound, alternative=side).pvalue < 0.05, (form, side)


# Isolation


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        *itertools.product(["classifier", "big_mlp_cgan_leaky"], ["separate", "vmap"]),
        ("classifier", "unfold"),
    ],
)
@pytest.mark.parametrize("position", [0, 1])
def test_diverged_lane_is_frozen_and_leaves_the_others_alone(kind: str, form: str, position: int) -> None:
    seeds = [4, 5, 6]
    sets = [make_training_set(seed) for seed in seeds]
    healthy = make_training(kind, seeds, together(form))
    damaged = sets[position].images_PCHW.clone()
    damaged[:] = float("nan")
    sets[position] = TrainingSet(
        images_PCHW=damaged, labels_P=sets[position].labels_P, items_N=sets[position].items_N
    )
    training = make_training(kind, seeds, together(form), training_sets=sets)
    training.run_round()
    healthy.run_round()
    for index, (lane, twin) in enumerate(zip(training.lanes, healthy.lanes, strict=True)):
        assert lane.is_diverged == (index == position)
        if index != position:
            states = training.get_lane_state(lane), healthy.get_lane_state(twin)
            assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    frozen = copy.deepcopy(training.get_lane_state(training.lanes[position]))
    finish(training)
    after = training.get_lane_state(training.lanes[position])
    assert training.lanes[position].step == 2
    for name, tensor in frozen.items():
        torch.testing.assert_close(after[name], tensor, atol=0, rtol=0, equal_nan=True, msg=name)
    for index in {0, 1, 2} - {position}:
        assert_close(training, index, alone(kind, seeds[index]), 0)


# Groups, rounds and resumption


def test_group_lanes_splits_by_size_of_the_training_set_and_by_the_limit() -> None:
    sets = [make_training_set(seed, 20 if seed % 2 else 24) for seed in range(7)]
    training = make_training("classifier", range(7), ALONE, training_sets=sets)
    groups = group_lanes(training.lanes, 3)
    assert [[lane.seed for lane in group] for group in groups] == [[0, 2, 4], [6], [1, 3, 5]]


@pytest.mark.parametrize("form", FORMS)
def test_lanes_of_unequal_size_and_beyond_the_limit_all_train(form: str) -> None:
    seeds = range(5)
    sets = [make_training_set(seed, 24 if seed == 2 else 20) for seed in seeds]
    budget = Budget(epochs=2)
    training = finish(
        make_training("classifier", seeds, together(form, 3), training_sets=sets, budget=budget)
    )
    for seed in seeds:
        single = make_training("classifier", [seed], ALONE, training_sets=[sets[seed]], budget=budget)
        assert_close(training, seed, finish(single), 0)


@pytest.mark.parametrize("form", STACKED_FORMS)
def test_program_is_kept_from_round_to_round(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build = ClassifierTraining._build_program
    monkeypatch.setattr(
        ClassifierTraining,
        "_build_program",
        lambda training, lanes: built.append(len(lanes)) or build(training, lanes),
    )
    finish(make_training("classifier", range(5), together(form, 2)))
    assert built == [2, 2, 1]


@pytest.mark.parametrize("form", ["separate", "vmap"])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=LARGE.get(kind, ())) for kind in (*CLASSIFIERS, "big_mlp_cgan_leaky")]
)
def test_lanes_resumed_at_different_rounds_catch_up_and_go_on_together(kind: str, form: str) -> None:
    seeds, budget = [0, 1, 2], Budget(steps=3, rounds=3)
    whole = make_training(kind, seeds, together(form), budget=budget)
    states = []
    for _ in range(2):
        whole.run_round()
        states.append(
            [
                copy.deepcopy(
                    ({name: getattr(lane, name) for name in lane.progress_fields}, whole.get_lane_state(lane))
                )
                for lane in whole.lanes
            ]
        )
    finish(whole)
    resumed = make_training(kind, seeds, together(form), budget=budget)
    for index, num_rounds in enumerate([2, 1, 2]):
        progress, state = states[num_rounds - 1][index]
        for name, value in progress.items():
            setattr(resumed.lanes[index], name, value)
        resumed.set_lane_state(resumed.lanes[index], state)
    assert [lane.seed for lane in next_lanes(resumed.lanes)] == [1]
    assert [lane.seed for lane in resumed.run_round()] == [1]
    assert [lane.seed for lane in resumed.run_round()] == seeds
    for index in range(3):
        assert_close(resumed, index, whole, index)


@pytest.mark.parametrize("form", FORMS)
def test_training_seconds_of_lanes_add_up_to_those_of_their_program(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=10)
    monkeypatch.setattr("lt_rebalance.training.rounds.time.perf_counter", lambda: next(ticks))
    training = make_training("classifier", range(3), together(form, 2), budget=Budget(steps=1, rounds=1))
    training.run_round()
    assert [lane.train_s for lane in training.lanes] == [5, 5, 10]
