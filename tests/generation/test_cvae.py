"""Checks of the conditional autoencoder: its two terms by hand, a step by plain torch, and that it acts."""

import copy
import dataclasses
import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.files import load_dataset
from lt_rebalance.generation.cvae import kl_divergence, reconstruction_loss
from lt_rebalance.generation.images import sample_images
from lt_rebalance.generation.training import build_generator_training
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.generators.cvae import LATENT_DIM, Decoder
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.studies.overrides import change_cell, read_overrides
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.training.configs import Budget, GeneratorConfig
from lt_rebalance.training.lane import TrainingSet, to_floats
from tests.generation.test_generators import SPEC, finish, make_training, train

pytestmark = pytest.mark.usefixtures("one_thread")


def test_divergence_by_hand() -> None:
    """Of a normal from a standard one, (mean^2 + variance - 1 - log variance) / 2 in each dimension."""
    means = torch.tensor([[[0.0, 0.0], [3.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    log_variances = torch.tensor([[[0.0, 0.0], [0.0, math.log(4)]], [[0.0, 0.0], [0.0, 0.0]]])
    of_second = 9 / 2 + (4 - 1 - math.log(4)) / 2
    assert kl_divergence(means, log_variances).tolist() == pytest.approx([of_second / 2, 1.0])


def test_divergence_is_that_of_torch() -> None:
    means, log_variances = torch.randn(2, 3, 5, LATENT_DIM)
    codes = torch.distributions.Normal(means, (log_variances / 2).exp())
    standard = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(codes, standard).sum(dim=2).mean(dim=1)
    torch.testing.assert_close(kl_divergence(means, log_variances), expected)


def test_reconstruction_by_hand() -> None:
    """White under a logit of 0 costs log 2; grey 1/4 under p = 3/4 costs -(log 3/4 + 3 log 1/4) / 4."""
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 1, 2)
    images = torch.tensor([1.0, -0.5]).reshape(1, 1, 1, 1, 2)
    of_grey = -(math.log(0.75) + 3 * math.log(0.25)) / 4
    assert reconstruction_loss(logits, images).tolist() == pytest.approx([math.log(2) + of_grey])
    both = torch.cat([logits, logits], dim=1), torch.cat([images, images], dim=1)
    assert reconstruction_loss(*both).tolist() == pytest.approx([math.log(2) + of_grey])


def test_decoder_draws_the_grey_values_of_its_logits() -> None:
    decoder = build_generator("cvae", 4, (3, 2, 2))
    assert isinstance(decoder, Decoder)
    noise_NZ, labels_N = torch.randn(5, LATENT_DIM), torch.tensor([0, 1, 2, 3, 3])
    logits_NCHW = decoder.train()(noise_NZ, labels_N)
    images_NCHW = decoder.eval()(noise_NZ, labels_N)
    assert images_NCHW.shape == (5, 3, 2, 2)
    torch.testing.assert_close((images_NCHW + 1) / 2, torch.sigmoid(logits_NCHW))
    # An embedding is a linear layer of the one-hot label.
    of_label = one_hot(labels_N, 4).float() @ decoder.of_label.weight
    by_hand = decoder.output(torch.relu(decoder.hidden(noise_NZ) + of_label)).reshape(5, 3, 2, 2)
    torch.testing.assert_close(logits_NCHW, by_hand)


@pytest.mark.parametrize("kl_weight", [1.0, 0.25])
def test_step_is_that_of_plain_torch(kl_weight: float) -> None:
    budget = Budget(steps=1, rounds=1)
    training = make_training("cvae", budget=budget, batch_size=20, kl_weight=kl_weight)
    (lane,) = training.lanes
    decoder, encoder = copy.deepcopy(lane.generator).train(), copy.deepcopy(lane.partner)
    images, labels = lane.training_set.batch(lane.batches[0])
    noise = torch.randn(20, LATENT_DIM, generator=torch_stream(0, "generator_noise", 0))
    means, log_variances = encoder(images, labels).split(LATENT_DIM, dim=1)
    logits = decoder(means + torch.exp(log_variances / 2) * noise, labels)
    reconstruction = binary_cross_entropy_with_logits(logits, (images + 1) / 2, reduction="sum") / 20
    kl = 0.5 * (means**2 + log_variances.exp() - 1 - log_variances).sum() / 20
    parameters = [*decoder.parameters(), *encoder.parameters()]
    optimizer = torch.optim.Adam(parameters, 1e-3, (0.5, 0.9))
    (reconstruction + kl_weight * kl).backward()
    optimizer.step()
    finish(training)
    assert lane.curves[0] == pytest.approx(
        {"step": 1, "reconstruction_loss": reconstruction.item(), "kl_divergence": kl.item()}, rel=1e-5
    )
    trained = [*lane.generator.parameters(), *lane.partner.parameters()]
    for found, expected in zip(trained, parameters, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_less_weight_lets_codes_diverge_more() -> None:
    budget = Budget(steps=60, rounds=1)
    ends = [train("cvae", budget=budget, kl_weight=each).lanes[0].curves[-1] for each in (4.0, 1.0, 0.0)]
    divergences = [end["kl_divergence"] for end in ends]
    assert divergences == sorted(divergences) and divergences[-1] > 2 * divergences[0]


def test_weight_is_part_of_a_key_only_where_it_is_asked_for_and_of_an_autoencoder_alone() -> None:
    cell, gan = (
        make_cell(get_protocol("sound"), dataset="fashion_mnist", c="1/2", method="cgan", generator=each)
        for each in ("cvae", "cdcgan")
    )
    asked = change_cell(cell, read_overrides(None, ["generator.kl_weight=0.5"]))
    assert cell.generator is not None and asked.generator is not None
    assert to_plain(asked.generator) == to_plain(cell.generator) | {"kl_weight": 0.5}
    assert "kl_weight" not in to_plain(cell.generator)
    with pytest.raises(ValueError, match="kl_weight is of an autoencoder, and cdcgan is trained with a"):
        change_cell(gan, read_overrides(None, ["generator.kl_weight=0.5"]))
    with pytest.raises(ValueError, match="kl_weight must be at least 0, got -1"):
        dataclasses.replace(cell.generator, kl_weight=-1.0)
    with pytest.raises(ValueError, match="what a discriminator sees, and cvae is trained without one"):
        dataclasses.replace(cell.generator, diffaugment=True)


def test_image_size_and_colours_are_those_of_the_data_set() -> None:
    (lane,) = train("cvae").lanes
    labels_N = torch.arange(3)
    assert sample_images(lane.generator, labels_N, torch.Generator()).shape == (3, *SPEC.image_shape)


@pytest.mark.slow
def test_classes_of_the_embedded_sample_are_told_apart_after_a_few_hundred_steps() -> None:
    """The mean of the images drawn of a class is nearest to the mean of the real images of that class."""
    spec = get_dataset_spec("fashion_mnist_mini")
    dataset = load_dataset("fashion_mnist_mini", None)
    images_PCHW, labels_P = (
        torch.from_numpy(each) for each in (dataset.train_images_NCHW, dataset.train_labels_N)
    )
    config = GeneratorConfig(
        architecture="cvae",
        training_method=MethodConfig(name="none", draw=None),
        budget=Budget(steps=400, rounds=1),
        batch_size=64,
        learning_rate=1e-3,
        beta1=0.9,
        beta2=0.999,
    )
    training_set = TrainingSet(
        images_PCHW=images_PCHW, labels_P=labels_P, items_N=torch.arange(len(labels_P))
    )
    training = build_generator_training(config, spec, torch.device("cpu"), "float32", [0], [training_set])
    (lane,) = finish(training).lanes
    assert lane.curves[-1]["kl_divergence"] > 1  # a code that says nothing has 0
    labels_N = torch.arange(10).repeat_interleave(50)
    drawn_NCHW = sample_images(lane.generator, labels_N, torch.Generator().manual_seed(0))
    drawn_KD = drawn_NCHW.reshape(10, 50, -1)
    real_KD = torch.stack(
        [to_floats(images_PCHW[labels_P == label]).flatten(1).mean(0) for label in range(10)]
    )
    nearest_K = torch.cdist(drawn_KD.mean(dim=1), real_KD).argmin(dim=1)
    assert nearest_K.tolist() == list(range(10))
    assert bool((drawn_KD.std(dim=1).mean(dim=1) > 0.05).all())  # and images of a class differ
