"""Checks of DeepSMOTE: what its autoencoder learns, what is made of its features, and when it cannot."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lt_rebalance.ground.errors import NotApplicableError
from lt_rebalance.methods import deep_smote
from lt_rebalance.methods.deep_smote import DeepSmoteOptions
from lt_rebalance.methods.registry import METHODS, MethodConfig
from lt_rebalance.networks.autoencoder import Autoencoder

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = DeepSmoteOptions(steps=150, num_features=8, width=8, k_neighbors=2, learning_rate=5e-3)


def make_images(counts_K: Sequence[int]) -> list[NDArray[np.float32]]:
    """Return images of 8 x 8 that are bright in a row of their class's own."""
    rng = np.random.default_rng(0)
    images = [rng.normal(-0.6, 0.1, (count, 1, 8, 8)).astype(np.float32) for count in counts_K]
    for label, of_class in enumerate(images):
        of_class[:, :, 2 * label] += 1.2
    return [np.clip(of_class, -1, 1) for of_class in images]


def make(counts_K: Sequence[int], wanted_K: Sequence[int], seed: int = 0) -> NDArray[np.float32]:
    synthesize = METHODS["deep_smote"].synthesize
    assert synthesize is not None
    return synthesize(make_images(counts_K), wanted_K, np.random.default_rng(seed), OPTIONS)


@pytest.mark.slow
def test_images_are_of_their_class_and_a_function_of_the_seed() -> None:
    made = make([30, 6, 4], [0, 5, 7])
    assert made.shape == (12, 1, 8, 8) and made.dtype == np.float32
    assert np.abs(made).max() <= 1
    brightest = made.mean(axis=(1, 3)).argmax(axis=1)
    assert brightest.tolist() == [2] * 5 + [4] * 7
    assert np.array_equal(made, make([30, 6, 4], [0, 5, 7]))
    assert not np.array_equal(made, make([30, 6, 4], [0, 5, 7], seed=1))


@pytest.mark.slow
def test_images_are_decoded_from_between_the_features_of_two_of_the_class() -> None:
    images, rng = make_images([20, 3]), np.random.default_rng(5)
    made = METHODS["deep_smote"].synthesize(images, [0, 4], rng, OPTIONS)
    network = deep_smote._learn(images, np.random.default_rng(5), OPTIONS)
    with torch.no_grad():
        ends_NZ = network.encode(torch.from_numpy(images[1]))
        shares_S1 = torch.linspace(0, 1, 2001).unsqueeze(1)
        sides = [ends_NZ[i] + shares_S1 * (ends_NZ[j] - ends_NZ[i]) for i, j in ((0, 1), (0, 2), (1, 2))]
        between_SCHW = network.decode(torch.cat(sides))
    for each in torch.from_numpy(made):
        assert float((between_SCHW - each).abs().amax(dim=(1, 2, 3)).min()) < 2e-3


def test_autoencoder_gives_back_what_it_has_learned_within_its_error() -> None:
    images = make_images([30, 6, 4])
    network = deep_smote._learn(images, np.random.default_rng(0), OPTIONS)
    untrained = Autoencoder((1, 8, 8), 8, 8).eval()
    shown = torch.from_numpy(images[0])
    with torch.no_grad():
        errors = [float((each(shown) - shown).square().mean()) for each in (network, untrained)]
    assert errors[0] < 0.05 and errors[0] < errors[1] / 4


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 17, 30), (1, 16, 224)])
def test_autoencoder_fits_images_of_any_size(shape: tuple[int, int, int]) -> None:
    images = torch.zeros(2, *shape)
    network = Autoencoder(shape, 5, 4)
    assert network(images).shape == images.shape
    assert network.encode(images).shape == (2, 5)


def test_nothing_to_fill_learns_nothing() -> None:
    assert make([3, 3], [0, 0]).shape == (0, 1, 8, 8)


def test_class_with_too_few_images_is_not_applicable() -> None:
    with pytest.raises(NotApplicableError, match="SMOTE is not applicable to classes of 2 to 20 images"):
        make([20, 2], [0, 3])


@pytest.mark.parametrize("option", ["steps", "num_features", "width", "k_neighbors"])
def test_options_below_one_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be above 0, got 0"):
        MethodConfig(name="deep_smote", draw=None, options={option: 0})
