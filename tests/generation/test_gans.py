"""Checks of the field's GANs: their losses by hand, their networks by formulas, one step by plain torch."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from lt_rebalance.generation.gans import ACGANTraining, CrossEntropyTraining, HingeTraining
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.networks.generators.acgan import ACGANDiscriminator
from lt_rebalance.networks.generators.dcgan import DCGANDiscriminator, build_dcgan, list_widths
from lt_rebalance.networks.generators.projection_gan import (
    ConditionalBatchNorm2d,
    ProjectionDiscriminator,
    ProjectionGenerator,
    SpectralConv2d,
    SpectralLinear,
)
from lt_rebalance.networks.generators.registry import build_generator, build_partner, find_trained
from lt_rebalance.networks.initialization import build_network
from tests.generation.test_generators import K, make_training

FIELD = {"cdcgan": DCGANDiscriminator, "projection_gan": ProjectionDiscriminator, "acgan": ACGANDiscriminator}
NONE = torch.zeros(1, 2, dtype=torch.int64)


pytestmark = pytest.mark.usefixtures("one_thread")


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# Losses


def test_cross_entropy_of_a_dcgan_is_counted_by_hand() -> None:
    """Logits 2 and 0 of real images, -1 and 3 of fake ones."""
    real, fake = torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, 3.0]])
    of_real = -(math.log(sigmoid(2)) + math.log(0.5)) / 2
    of_fake = -(math.log(1 - sigmoid(-1)) + math.log(1 - sigmoid(3))) / 2
    found = CrossEntropyTraining.discriminator_loss(real, fake, NONE, NONE)
    assert found.tolist() == pytest.approx([of_real + of_fake])
    fooled = -(math.log(sigmoid(-1)) + math.log(sigmoid(3))) / 2
    assert CrossEntropyTraining.generator_loss(fake, NONE).tolist() == pytest.approx([fooled])


def test_hinge_loss_is_counted_by_hand() -> None:
    """Beyond 1 on its side an image costs nothing; lanes are apart."""
    real = torch.tensor([[2.0, 0.25], [-1.0, 1.0]])
    fake = torch.tensor([[-3.0, 0.5], [-1.0, -0.5]])
    found = HingeTraining.discriminator_loss(real, fake, NONE, NONE)
    assert found.tolist() == [(0 + 0.75) / 2 + (0 + 1.5) / 2, (2 + 0) / 2 + (0 + 0.5) / 2]
    assert HingeTraining.generator_loss(fake, NONE).tolist() == [1.25, 0.75]


def test_acgan_loss_takes_one_softmax_of_the_class_logits() -> None:
    """The source's logit comes first; two classes with logits 1 and 3, so the second has odds e^2."""
    real, fake = torch.tensor([[[0.0, 1.0, 3.0]]]), torch.tensor([[[0.0, 3.0, 1.0]]])
    first, second = torch.tensor([[0]]), torch.tensor([[1]])
    likely, unlikely = -math.log(sigmoid(2)), -math.log(sigmoid(-2))
    source = -2 * math.log(0.5)
    found = ACGANTraining.discriminator_loss(real, fake, second, second)
    assert found.tolist() == pytest.approx([source + likely + unlikely])
    found = ACGANTraining.generator_loss(fake, first)
    assert found.tolist() == pytest.approx([source / 2 + likely])
    assert ACGANTraining.real_logits(real).tolist() == [[0.0]]


# Networks


@pytest.mark.parametrize(
    ("image_shape", "widths", "smallest"),
    [
        ((1, 28, 28), [64, 128], (7, 7)),
        ((3, 64, 64), [64, 128, 256, 512], (4, 4)),
        ((3, 224, 224), [64, 128, 256, 512, 512], (7, 7)),
        ((1, 16, 16), [64, 128], (4, 4)),
        ((1, 8, 8), [64], (4, 4)),
        ((1, 4, 30), [64], (2, 15)),
    ],
)
def test_levels_of_a_dcgan_follow_from_the_shape(
    image_shape: tuple[int, int, int], widths: list[int], smallest: tuple[int, int]
) -> None:
    assert list_widths(image_shape) == widths
    body = build_dcgan(image_shape)
    assert body[1].unflattened_size == (widths[-1], *smallest)


@pytest.mark.parametrize("architecture", FIELD)
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (3, 32, 32), (3, 17, 30), (1, 2, 5), (3, 224, 224)])
def test_networks_of_the_field_take_any_shape(architecture: str, image_shape: tuple[int, int, int]) -> None:
    generator = build_generator(architecture, 10, image_shape)
    images_NCHW = generator(torch.zeros(2, 100), torch.tensor([0, 9]))
    assert images_NCHW.shape == (2, *image_shape)
    partner = build_partner(find_trained(architecture).partner, 10, image_shape)
    assert partner(images_NCHW, torch.tensor([0, 9])).shape == ((2, 11) if architecture == "acgan" else (2,))


@pytest.mark.parametrize("architecture", FIELD)
def test_images_of_one_row_are_refused_with_the_remedy(architecture: str) -> None:
    with pytest.raises(ValueError, match="at least 2 x 2, got 1 x 30; use a generator of linear layers"):
        build_generator(architecture, 10, (1, 1, 30))


def test_weights_of_a_dcgan_are_normal_with_the_deviation_of_its_paper() -> None:
    for build in (lambda: build_dcgan((1, 28, 28)), lambda: DCGANDiscriminator(10, (1, 28, 28))):
        network = build_network(build, torch_stream(0, "generator_init"))
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
                assert layer.bias is None or not layer.bias.any()


def test_batch_norm_stands_everywhere_but_at_output_and_input() -> None:
    generator, discriminator = build_dcgan((3, 64, 64)), DCGANDiscriminator(10, (3, 64, 64))
    assert [type(each) for each in generator if not isinstance(each, nn.Unflatten | nn.ReLU)][:-1] == [
        *(type(generator[0]), nn.BatchNorm2d),
        *(type(generator[4]), nn.BatchNorm2d) * 3,
    ]
    layers = [type(each) for each in discriminator.body if not isinstance(each, nn.LeakyReLU)]
    convolution = layers[0]
    assert layers == [convolution, *(convolution, nn.BatchNorm2d) * 3]


@pytest.mark.parametrize("architecture", ["cdcgan", "projection_gan"])
def test_discriminator_looks_at_the_label(architecture: str) -> None:
    partner = build_network(lambda: FIELD[architecture](K, (1, 8, 8)), torch_stream(0, "discriminator_init"))
    image = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    logits = [partner.eval()(image, torch.tensor([label])).item() for label in range(K)]
    assert len(set(logits)) == K


def test_acgan_discriminator_is_not_told_the_label() -> None:
    partner = build_network(lambda: ACGANDiscriminator(K, (1, 8, 8)), torch_stream(0, "discriminator_init"))
    image = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    outputs = [partner.eval()(image, torch.tensor([label])) for label in range(K)]
    assert all(torch.equal(each, outputs[0]) for each in outputs)


def test_projection_is_the_inner_product_of_class_and_features() -> None:
    """On weights so set that the features are known: 2 and 3, of classes that look at one of them each."""
    partner = ProjectionDiscriminator(2, (1, 2, 2)).eval()
    partner.body = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, 1, 2)))
    partner.output, partner.projection = SpectralLinear(2, 1), SpectralLinear(2, 2, bias=False)
    with torch.no_grad():
        partner.output.weight.copy_(torch.tensor([[0.0, 1.0]]))  # of singular value 1
        partner.output.bias.fill_(0.5)
        partner.projection.weight.copy_(torch.tensor([[5.0, 0.0], [0.0, -5.0]]))  # 5, so 1 and -1
        partner.projection.left_O.copy_(torch.tensor([1.0, 1.0]))
    # Summed over the map, the features are 2 and 3.
    images = torch.tensor([0.5, 1.5, 1.0, 2.0]).view(1, 1, 2, 2).repeat(2, 1, 1, 1)
    assert partner(images, torch.tensor([0, 1])).tolist() == pytest.approx([3.5 + 2, 3.5 - 3])


@pytest.mark.parametrize("layer", [SpectralLinear(5, 7), SpectralConv2d(3, 8, 4, 2, 1)])
def test_spectral_norm_comes_to_one_and_agrees_with_torch(layer: nn.Module) -> None:
    layer = build_network(lambda: layer, torch_stream(0, "discriminator_init"))
    inputs = torch.rand(2, 5) if isinstance(layer, nn.Linear) else torch.rand(2, 3, 8, 8)
    plain = nn.Linear(5, 7) if isinstance(layer, nn.Linear) else nn.Conv2d(3, 8, 4, 2, 1)
    plain.load_state_dict({name: tensor for name, tensor in layer.state_dict().items() if name != "left_O"})
    torchs = nn.utils.parametrizations.spectral_norm(plain)
    for _ in range(200):
        outputs, expected = layer(inputs), torchs(inputs)
    largest = torch.linalg.svdvals(layer.normalised_weight().detach().flatten(1))[0]
    assert largest.item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(outputs, expected, atol=1e-4, rtol=1e-3)
    # The gradient passes through the singular value, and not through the vectors.
    outputs.square().sum().backward()
    expected.square().sum().backward()
    gradient = torchs.parametrizations.weight.original.grad
    torch.testing.assert_close(layer.weight.grad, gradient, atol=1e-3, rtol=1e-2)


def test_singular_vector_is_kept_in_evaluation_and_moves_in_training() -> None:
    layer = build_network(lambda: SpectralLinear(5, 7), torch_stream(0, "discriminator_init"))
    before = layer.left_O.clone()
    layer.eval()(torch.rand(2, 5))
    assert torch.equal(layer.left_O, before)
    layer.train()(torch.rand(2, 5))
    assert not torch.equal(layer.left_O, before)
    assert layer.left_O.norm().item() == pytest.approx(1)


def test_conditional_batch_norm_scales_and_shifts_by_class() -> None:
    norm = ConditionalBatchNorm2d(1, 2)
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([[1.0], [10.0]]))
        norm.shift.copy_(torch.tensor([[0.0], [5.0]]))
    maps = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)  # of mean 0 and deviation 1
    assert norm(maps, torch.tensor([0, 1])).flatten().tolist() == pytest.approx([-1, 15], rel=1e-4)


def test_projection_generator_is_told_the_label_by_batch_norm_alone() -> None:
    generator = build_network(
        lambda: ProjectionGenerator(K, (1, 8, 8)), torch_stream(0, "generator_init")
    ).eval()
    labels, noise = torch.arange(K), torch.linspace(-1, 1, 100).expand(K, -1)
    images = generator(noise, labels)
    assert all(torch.equal(each, images[0]) for each in images)  # all classes begin alike
    with torch.no_grad():
        generator.norms[0].scale[1] = 2.0
    assert not torch.equal(generator(noise, labels)[1], images[1])


# One step


def plain_discriminator_loss(
    architecture: str, real: Tensor, fake: Tensor, real_labels: Tensor, fake_labels: Tensor
) -> Tensor:
    """Return the loss by the names that torch has for it."""
    zeros = torch.zeros(len(real))
    if architecture == "projection_gan":
        return torch.maximum(zeros, 1 - real).mean() + torch.maximum(zeros, 1 + fake).mean()
    bce, name = nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss()
    if architecture == "cdcgan":
        return bce(real, zeros + 1) + bce(fake, zeros)
    source = bce(real[:, 0], zeros + 1) + bce(fake[:, 0], zeros)
    return source + name(real[:, 1:], real_labels) + name(fake[:, 1:], fake_labels)


def plain_generator_loss(architecture: str, fake: Tensor, labels: Tensor) -> Tensor:
    """Return the loss by the names that torch has for it."""
    if architecture == "projection_gan":
        return -fake.mean()
    bce, ones = nn.BCEWithLogitsLoss(), torch.ones(len(fake))
    if architecture == "cdcgan":
        return bce(fake, ones)
    return bce(fake[:, 0], ones) + nn.CrossEntropyLoss()(fake[:, 1:], labels)


@pytest.mark.parametrize("architecture", FIELD)
def test_step_equals_one_of_plain_torch(architecture: str) -> None:
    training = make_training(architecture)
    (lane,) = training.lanes
    generator, discriminator = copy.deepcopy(lane.generator).train(), copy.deepcopy(lane.partner)
    real, real_labels = lane.training_set.batch(torch.arange(6))
    stream = torch.Generator().manual_seed(1)
    noise, fake_labels = torch.randn(6, 100, generator=stream), torch.randint(K, (6,), generator=stream)
    inputs = (real, real_labels, noise, fake_labels)
    curves = training._program([lane])(*(each.unsqueeze(0) for each in inputs), torch.tensor(0))

    adam = torch.optim.Adam(discriminator.parameters(), 1e-3, (0.5, 0.9))
    fake = generator(noise, fake_labels)
    told = discriminator(real, real_labels), discriminator(fake.detach(), fake_labels)
    losses = [plain_discriminator_loss(architecture, *told, real_labels, fake_labels)]
    losses[0].backward()
    expected_gradients = [each.grad.clone() for each in discriminator.parameters()]
    adam.step()
    losses.append(plain_generator_loss(architecture, discriminator(fake, fake_labels), fake_labels))
    losses[1].backward()
    for found, gradient in zip(lane.partner.parameters(), expected_gradients, strict=True):
        torch.testing.assert_close(found.grad, gradient, atol=1e-5, rtol=1e-3)
    for (name, found), expected in zip(
        lane.generator.named_parameters(), generator.parameters(), strict=True
    ):
        assert expected.grad.abs().max() > 0, name
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=1e-2)
    assert curves[0, :2].tolist() == pytest.approx([each.item() for each in losses], rel=1e-4)
