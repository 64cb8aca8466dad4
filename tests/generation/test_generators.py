"""The contract of every generator of the registry: it learns by its own streams, alone as in company."""

import copy
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.generation.images import sample_images
from lt_rebalance.generation.training import GeneratorTraining, build_generator_training
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.ground.seeding import STREAMS
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.generators.registry import GENERATORS, TRAINED, find_trained
from lt_rebalance.studies.overrides import change_cell, read_overrides
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.training.configs import Budget, GeneratorConfig
from lt_rebalance.training.lane import TrainingSet, TrainingState
from tests.mostly_slow import mostly_slow

CPU = torch.device("cpu")
K = 4
SPEC = DatasetSpec(
    name="toy",
    num_classes=K,
    image_shape=(3, 9, 8),
    class_names=("a", "b", "c", "d"),
    train_counts_K=(10,) * K,
    test_counts_K=(10,) * K,
    licence="none",
    sha256_by_file={"toy.npz": "0" * 64},
)
WITH_DISCRIMINATOR = [name for name in GENERATORS if find_trained(name).has_discriminator]


pytestmark = pytest.mark.usefixtures("one_thread")


def make_training(
    architecture: str, seeds: Sequence[int] = (0,), precision: str = "float32", **changes: Any
) -> GeneratorTraining:
    values: dict[str, Any] = {
        "training_method": MethodConfig(name="none", draw=None),
        "budget": Budget(steps=4, rounds=2),
        "batch_size": 6,
        "learning_rate": 1e-3,
        "beta1": 0.5,
        "beta2": 0.9,
    }
    config = GeneratorConfig(architecture=architecture, **(values | changes))
    sets = [make_training_set(seed) for seed in seeds]
    return build_generator_training(config, SPEC, CPU, precision, seeds, sets)


def make_training_set(seed: int) -> TrainingSet:
    images_PCHW = torch.rand(20, *SPEC.image_shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return TrainingSet(images_PCHW=images_PCHW, labels_P=torch.arange(20) % K, items_N=torch.arange(20))


def finish(training: GeneratorTraining) -> GeneratorTraining:
    while training.run_round():
        pass
    return training


def train(architecture: str, seeds: Sequence[int] = (0,), **changes: Any) -> GeneratorTraining:
    return finish(make_training(architecture, seeds, **changes))


def get_state(training: GeneratorTraining, index: int = 0) -> TrainingState:
    return training.get_lane_state(training.lanes[index])


def differing(state: TrainingState, other: TrainingState) -> set[str]:
    assert state.keys() == other.keys()
    return {name for name in state if not torch.equal(state[name], other[name])}


@functools.cache
def trained(architecture: str, seed: int = 0, diffaugment: bool = False) -> TrainingState:
    """Return the state of a finished lane that had no company; several tests compare theirs with it."""
    return get_state(train(architecture, [seed], diffaugment=diffaugment))


@pytest.mark.parametrize("diffaugment", [False, True])
@pytest.mark.parametrize("architecture", mostly_slow(WITH_DISCRIMINATOR, 1))
def test_lanes_together_give_the_bits_of_each_alone(architecture: str, diffaugment: bool) -> None:
    """In an order that is not that of their seeds."""
    together = train(architecture, [1, 0], diffaugment=diffaugment)
    for index, seed in enumerate([1, 0]):
        alone = trained(architecture, seed, diffaugment)
        assert differing(get_state(together, index), alone) == set()
    assert differing(get_state(together, 0), get_state(together, 1))


@pytest.mark.parametrize("diffaugment", [False, True])
@pytest.mark.parametrize("architecture", mostly_slow(WITH_DISCRIMINATOR, 1))
def test_training_resumed_mid_way_gives_the_same_bits(architecture: str, diffaugment: bool) -> None:
    whole = make_training(architecture, diffaugment=diffaugment)
    whole.run_round()
    resumed = make_training(architecture, diffaugment=diffaugment)
    for name in whole.lanes[0].progress_fields:
        setattr(resumed.lanes[0], name, copy.deepcopy(getattr(whole.lanes[0], name)))
    resumed.set_lane_state(resumed.lanes[0], get_state(whole))
    assert differing(get_state(finish(resumed)), get_state(finish(whole))) == set()
    assert resumed.lanes[0].curves == whole.lanes[0].curves
    assert differing(get_state(whole), trained(architecture, 0, diffaugment)) == set()


@pytest.mark.parametrize("architecture", mostly_slow(GENERATORS, 1))
def test_every_stream_changes_generator_and_partner(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, partner = trained(architecture), make_training(architecture).partner_name
    of_partner = f"{partner}_init"
    for purpose in ("generator_noise", "generator_batches", "generator_init", of_partner):
        monkeypatch.setitem(STREAMS, purpose, 1000)
        changed = differing(first, get_state(train(architecture)))
        monkeypatch.undo()
        for network in ("generator", partner):
            assert any(name.startswith(f"{network}.network.") for name in changed), purpose


@pytest.mark.parametrize("architecture", GENERATORS)
def test_training_leaves_the_global_generator_alone(architecture: str) -> None:
    before = torch.get_rng_state()
    train(architecture)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("architecture", GENERATORS)
def test_training_moves_every_weight_of_the_generator(architecture: str) -> None:
    start, end = get_state(make_training(architecture)), trained(architecture)
    weights = [name for name in start if name.startswith("generator.network.") and name.endswith("weight")]
    assert weights and not any(torch.equal(start[name], end[name]) for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TRAINED)
def test_trained_generator_draws_by_class(architecture: str) -> None:
    """Images of a class have one brightness; two of the classes are distinguished after a few steps."""
    training = make_training(architecture, budget=Budget(steps=120, rounds=1), batch_size=20)
    levels_K = torch.tensor([-0.9, -0.3, 0.3, 0.9])
    labels_P = training.lanes[0].training_set.labels_P
    images_PCHW = levels_K[labels_P][:, None, None, None].expand(-1, *SPEC.image_shape).contiguous()
    training.lanes[0].training_set = TrainingSet(
        images_PCHW=images_PCHW, labels_P=labels_P, items_N=torch.arange(20)
    )
    finish(training)
    drawn_NCHW = sample_images(
        training.lanes[0].generator, torch.tensor([0] * 50 + [3] * 50), torch.Generator().manual_seed(0)
    )
    dark, bright = drawn_NCHW.flatten(1).mean(dim=1).split(50)
    assert bright.mean() - dark.mean() > 0.1


# DiffAugment


@pytest.mark.parametrize("architecture", mostly_slow(WITH_DISCRIMINATOR, 1))
def test_diffaugment_acts_by_a_stream_of_its_own(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    off, on = trained(architecture), trained(architecture, diffaugment=True)
    monkeypatch.setitem(STREAMS, "generator_augmentation", 1000)
    other = get_state(train(architecture, diffaugment=True))
    for one, two in itertools.combinations((off, on, other), 2):
        changed = differing(one, two)
        for network in ("generator", "discriminator"):
            assert any(name.startswith(f"{network}.network.") for name in changed)
    assert differing(off, get_state(train(architecture))) == set()  # whose stream has changed, too


@pytest.mark.parametrize("architecture", WITH_DISCRIMINATOR)
def test_discriminator_sees_nothing_but_changed_images(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image of a step has a place of its own; of images that are cut away a generator learns nothing."""
    places: list[range] = []

    def cut_away(images_LBCHW: Tensor, _: Tensor, first: int) -> Tensor:
        places.append(range(first, first + images_LBCHW.shape[1]))
        return images_LBCHW * 0

    monkeypatch.setattr(GeneratorTraining, "_build_augment", lambda *_: cut_away)
    training = make_training(architecture, budget=Budget(steps=1, rounds=1))
    finish(training)
    assert sorted(itertools.chain(*places)) == list(range(18))  # 6 real, 6 fake, and the fake ones once more
    assert all(not each.grad.any() for each in training.lanes[0].generator.parameters())


def test_diffaugment_is_part_of_a_key_only_where_it_is_asked_for() -> None:
    cell = make_cell(
        get_protocol("sound"), dataset="fashion_mnist_mini", c="1/2", method="cgan", generator="cdcgan"
    )
    asked = change_cell(cell, read_overrides(None, ["generator.diffaugment=true"]))
    off = change_cell(cell, read_overrides(None, ["generator.diffaugment=false"]))
    assert asked.generator is not None and asked.generator.diffaugment
    configs = [to_plain(each.generator) for each in (cell, off, asked)]
    assert configs[0] == configs[1] and "diffaugment" not in configs[0]
    assert configs[2] == configs[0] | {"diffaugment": True}


def test_diffaugment_is_refused_of_a_generator_without_a_discriminator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = dataclasses.replace(TRAINED["cdcgan"], has_discriminator=False)
    monkeypatch.setitem(TRAINED, "cdcgan", alone)
    with pytest.raises(ValueError, match="what a discriminator sees, and cdcgan is trained without one"):
        make_training("cdcgan", diffaugment=True)


@pytest.mark.parametrize(
    ("architecture", "diffaugment"),
    [*((name, False) for name in TRAINED), *((name, True) for name in TRAINED if name in WITH_DISCRIMINATOR)],
)
def test_training_in_bfloat16_keeps_weights_finite(architecture: str, diffaugment: bool) -> None:
    (lane,) = train(architecture, precision="bfloat16", diffaugment=diffaugment).lanes
    assert not lane.is_diverged
    for network in (lane.generator, lane.partner):
        assert all(each.dtype == torch.float32 and each.isfinite().all() for each in network.parameters())


# Settings that an architecture brings


@pytest.mark.parametrize("architecture", GENERATORS)
@pytest.mark.parametrize("protocol", ["paper", "sound"])
def test_protocols_but_the_papers_take_the_settings_of_an_architecture(
    architecture: str, protocol: str
) -> None:
    cell = make_cell(
        get_protocol(protocol), dataset="fashion_mnist", c="1/2", method="cgan", generator=architecture
    )
    asked = {"learning_rate": 2e-4, "beta1": 0.9, "beta2": 0.999}
    if protocol == "sound" and architecture in TRAINED:
        asked |= TRAINED[architecture].settings
    assert cell.generator is not None
    assert {name: getattr(cell.generator, name) for name in asked} == asked


def test_settings_are_those_of_the_sources() -> None:
    names = ("cdcgan", "acgan", "projection_gan")
    assert {name: tuple(TRAINED[name].settings.values()) for name in names} == {
        "cdcgan": (2e-4, 0.5, 0.999),
        "acgan": (2e-4, 0.5, 0.999),
        "projection_gan": (2e-4, 0.0, 0.9),
    }
