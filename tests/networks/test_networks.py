"""Checks of the architectures of generators, discriminator and classifiers, and of their initial weights."""

import copy
import itertools
import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS, build_classifier
from lt_rebalance.networks.classifiers.resnet20 import Block
from lt_rebalance.networks.discriminator import Discriminator, draw_kept
from lt_rebalance.networks.dropout import Dropout
from lt_rebalance.networks.generators.registry import GENERATORS, build_generator
from lt_rebalance.networks.initialization import build_network
from tests.mostly_slow import mostly_slow

FASHION = (1, 28, 28)
COLOUR = (3, 32, 32)
PARAMETERS = {
    "small_mlp_cgan_leaky": 562_292,
    "mlp_cgan_relu": 1_489_012,
    "mlp_cgan_leaky": 1_489_012,
    "big_mlp_cgan_leaky": 2_312_180,
    "dccgan_leaky": 1_354_788,
}


pytestmark = pytest.mark.usefixtures("one_thread")


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make_generator(name: str, image_shape: tuple[int, int, int] = FASHION, seed: int = 0) -> nn.Module:
    return build_network(lambda: build_generator(name, 10, image_shape), torch_stream(seed, "generator_init"))


def make_discriminator(image_shape: tuple[int, int, int] = FASHION, seed: int = 0) -> Discriminator:
    stream = torch_stream(seed, "discriminator_init")
    return build_network(lambda: Discriminator(10, image_shape), stream)


def make_classifier(name: str, image_shape: tuple[int, int, int] = FASHION, seed: int = 0) -> nn.Module:
    return build_network(
        lambda: build_classifier(name, 10, image_shape), torch_stream(seed, "classifier_init")
    )


def make_images(num_images: int, image_shape: tuple[int, int, int] = FASHION) -> torch.Tensor:
    return torch.rand(num_images, *image_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


# Every network of the registries, by a name for messages.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "discriminator": lambda seed: make_discriminator(seed=seed),
    **{name: lambda seed, name=name: make_generator(name, seed=seed) for name in GENERATORS},
    **{name: lambda seed, name=name: make_classifier(name, seed=seed) for name in CLASSIFIERS},
}


# Generators


@pytest.mark.parametrize("name", PARAMETERS)
def test_generator_has_the_published_number_of_parameters(name: str) -> None:
    assert count_parameters(make_generator(name)) == PARAMETERS[name]


def test_small_generator_has_the_parameters_of_its_widths() -> None:
    widths = [110, 256, 512, 784]
    linear = sum(inputs * outputs + outputs for inputs, outputs in itertools.pairwise(widths))
    assert count_parameters(make_generator("small_mlp_cgan_leaky")) == linear + 10 * 10


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("image_shape", [FASHION, COLOUR])
def test_generator_makes_images_in_range_that_depend_on_noise_and_label(
    name: str, image_shape: tuple[int, int, int]
) -> None:
    generator = make_generator(name, image_shape).eval()
    stream = torch.Generator().manual_seed(0)
    for parameter in generator.parameters():  # as a few steps would, since some begin alike for all labels
        parameter.data += 0.01 * torch.randn(parameter.shape, generator=stream)
    noise_NZ = torch.randn(2, generator.noise_dim, generator=stream)
    noise_NZ = noise_NZ[[0, 0, 1]]
    with torch.no_grad():
        images_NCHW = generator(noise_NZ, torch.tensor([3, 4, 3]))
    assert images_NCHW.shape == (3, *image_shape)
    assert images_NCHW.dtype == torch.float32
    assert images_NCHW.abs().max() <= 1
    assert not torch.equal(images_NCHW[0], images_NCHW[1])
    assert not torch.equal(images_NCHW[0], images_NCHW[2])


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_with_huge_noise_reaches_but_never_leaves_the_range(name: str) -> None:
    generator = make_generator(name).eval()
    noise_NZ = 1e4 * torch.randn(2, generator.noise_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images_NCHW = generator(noise_NZ, torch.tensor([0, 1]))
    assert 0.99 < images_NCHW.abs().max() <= 1


def test_big_generator_normalises_after_the_activation_at_384_and_before_it_at_1024() -> None:
    layers = list(make_generator("big_mlp_cgan_leaky").body)
    norms = [index for index, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm1d)]
    assert [layers[index].num_features for index in norms] == [384, 1024]
    first, second = norms
    assert [type(layer) for layer in layers[first - 2 : first + 1]] == [
        nn.Linear,
        nn.LeakyReLU,
        nn.BatchNorm1d,
    ]
    assert [type(layer) for layer in layers[second - 1 : second + 2]] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.LeakyReLU,
    ]


@pytest.mark.parametrize("name", PARAMETERS)
def test_generator_has_batch_norm_only_in_big(name: str) -> None:
    assert make_generator(name).has_batch_norm == (name == "big_mlp_cgan_leaky")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mlp_cgan_relu", nn.ReLU),
        ("mlp_cgan_leaky", nn.LeakyReLU),
        ("small_mlp_cgan_leaky", nn.LeakyReLU),
        ("big_mlp_cgan_leaky", nn.LeakyReLU),
        ("dccgan_leaky", nn.LeakyReLU),
    ],
)
def test_generator_activations_are_the_published(name: str, kind: type[nn.Module]) -> None:
    modules = list(make_generator(name).modules())
    activations = [module for module in modules if isinstance(module, nn.ReLU | nn.LeakyReLU)]
    assert {type(module) for module in activations} == {kind}
    assert all(getattr(module, "negative_slope", 0.2) == 0.2 for module in activations)


def test_build_generator_of_unknown_name_names_the_known() -> None:
    with pytest.raises(ValueError, match="unknown generator 'mpl_cgan'; known: small_mlp_cgan_leaky, "):
        build_generator("mpl_cgan", 10, FASHION)


@pytest.mark.parametrize("name", mostly_slow(GENERATORS, 2))
@pytest.mark.parametrize("image_shape", [(1, 16, 16), (3, 17, 30), (1, 30, 19), (3, 33, 32)])
def test_generators_make_images_of_any_shape(name: str, image_shape: tuple[int, int, int]) -> None:
    generator = make_generator(name, image_shape)
    images_NCHW = generator(torch.zeros(2, generator.noise_dim), torch.tensor([0, 9]))
    assert images_NCHW.shape == (2, *image_shape)
    assert make_discriminator(image_shape)(
        images_NCHW, torch.tensor([0, 9]), torch.ones(2, 1792, dtype=torch.bool)
    ).shape == (2,)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("image_shape", [(1, 16, 16), (3, 17, 30), (1, 31, 19), (3, 33, 32)])
def test_classifiers_read_images_of_any_shape(name: str, image_shape: tuple[int, int, int]) -> None:
    assert make_classifier(name, image_shape)(make_images(2, image_shape)).shape == (2, 10)


def count_cifar_resnet(num_blocks: int) -> int:
    """Count by formula: convolutions without biases, two values a channel of each norm, a linear layer."""
    count, width_before = 3 * 16 * 9 + 2 * 16, 16
    for width in (16, 32, 64):
        count += (
            width_before * width * 9 + (2 * num_blocks - 1) * width * width * 9 + 2 * num_blocks * 2 * width
        )
        width_before = width
    return count + 64 * 10 + 10


@pytest.mark.parametrize(
    ("name", "count"),
    [("resnet20", count_cifar_resnet(3)), ("resnet32", count_cifar_resnet(5)), ("resnet32", 464_154)],
)
def test_cifar_resnets_have_the_published_number_of_parameters(name: str, count: int) -> None:
    assert count_parameters(make_classifier(name, COLOUR)) == count


def test_resnet18_has_the_parameters_of_torchvisions_but_for_its_stem() -> None:
    """11,689,512 at 1,000 classes, as torchvision states them; its stem has 7x7 and this one 3x3 weights."""
    network = build_network(
        lambda: build_classifier("resnet18", 1000, COLOUR), torch_stream(0, "classifier_init")
    )
    assert count_parameters(network) == 11_689_512 - 3 * 64 * (49 - 9)


# Discriminator


def test_discriminator_has_the_published_number_of_parameters() -> None:
    assert count_parameters(make_discriminator()) == 1_470_565


@pytest.mark.parametrize("image_shape", [FASHION, COLOUR])
def test_discriminator_gives_one_logit_an_image(image_shape: tuple[int, int, int]) -> None:
    discriminator = make_discriminator(image_shape)
    with torch.no_grad():
        logits_N = discriminator(make_images(5, image_shape), torch.arange(5), draw(5))
    assert logits_N.shape == (5,)


def draw(num_items: int, key: int = 0, step: int = 0) -> torch.Tensor:
    (kept_NH,) = draw_kept(torch.tensor([key]), torch.tensor(step), num_items)
    return kept_NH


def test_discriminator_applies_the_masks_it_is_given_in_any_mode() -> None:
    discriminator = make_discriminator().eval()
    with torch.no_grad():
        logits = [discriminator(make_images(4), torch.arange(4), draw(4, key)) for key in (0, 0, 1)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_kept_values_of_a_lane_depend_on_its_key_and_the_step_alone() -> None:
    keys_L, step = torch.tensor([5, 9, 2**62]), torch.tensor(3)
    kept_LNH = draw_kept(keys_L, step, 7)
    for key, kept_NH in zip(keys_L.tolist(), kept_LNH, strict=True):
        assert torch.equal(kept_NH, draw(7, key, 3))
        assert torch.equal(kept_NH[:5], draw(5, key, 3))
    distinct = [draw(7, key, step) for key in (5, 9) for step in (3, 4)]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(distinct, 2))


def test_discriminator_drops_30_percent_and_scales_the_rest() -> None:
    discriminator = make_discriminator()
    layers = [*discriminator.hidden, discriminator.output]
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    for layer in layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        discriminator(make_images(200), torch.arange(200) % 10, draw(200))
    for (_, before), (after, _) in itertools.pairwise(seen):
        activated = torch.where(before > 0, before, 0.2 * before)
        is_kept = after != 0
        assert float(is_kept.float().mean()) == pytest.approx(0.7, abs=0.01)
        torch.testing.assert_close(after[is_kept], activated[is_kept] / 0.7)


def test_kept_values_are_independent_with_the_stated_rate() -> None:
    """Neighbours share a random word: rates and correlations over 20,000 draws, of several kinds."""
    places = [draw(20_000)[:, :9]]
    steps = [draw(12, step=step)[:, :1667].flatten() for step in range(5)]
    keys = [draw(12, key)[:, :1667].flatten() for key in range(5)]
    for kept in [places[0].T, torch.stack(steps), torch.stack(keys)]:
        error = math.sqrt(0.7 * 0.3 / kept.shape[1])
        assert (kept.double().mean(dim=1) - 0.7).abs().max() < 5 * error
        correlations = torch.corrcoef(kept.double()) - torch.eye(len(kept), dtype=torch.float64)
        assert correlations.abs().max() < 5 / math.sqrt(kept.shape[1])


def test_discriminator_looks_at_image_and_label() -> None:
    discriminator = make_discriminator()
    image = make_images(2)
    with torch.no_grad():
        logits = [
            discriminator(image[[row]], torch.tensor([label]), draw(1))
            for row, label in [(0, 0), (1, 0), (0, 1)]
        ]
    assert logits[0] != logits[1]
    assert logits[0] != logits[2]


# Classifiers


def test_paper_cnn_has_the_published_number_of_parameters() -> None:
    assert count_parameters(make_classifier("paper_cnn")) == 454_042


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("image_shape", [FASHION, COLOUR])
def test_classifier_gives_logits_that_depend_on_the_image(
    name: str, image_shape: tuple[int, int, int]
) -> None:
    classifier = make_classifier(name, image_shape).eval()
    with torch.no_grad():
        logits_NK = classifier(make_images(2, image_shape))
    assert logits_NK.shape == (2, 10)
    assert not torch.equal(logits_NK[0], logits_NK[1])
    # Logits, not probabilities: these sum to one.
    assert not torch.allclose(logits_NK.sum(dim=1), torch.ones(2))


def test_paper_cnn_normalises_once_after_the_first_activation() -> None:
    layers = list(make_classifier("paper_cnn"))
    norms = [index for index, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm2d)]
    assert norms == [2]
    assert [type(layer) for layer in layers[:2]] == [nn.Conv2d, nn.ReLU]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_paper_cnn_equals_the_published_order_bit_for_bit(dtype: torch.dtype) -> None:
    """Published: ReLU, then max-pooling. Ours has them the other way round."""
    images_NCHW = torch.randn(20, *FASHION, generator=torch.Generator().manual_seed(3))
    labels_N = torch.arange(20) % 10
    ours = make_classifier("paper_cnn")
    layers = [copy.deepcopy(layer) for layer in ours]
    for index in [index for index, layer in enumerate(ours) if isinstance(layer, nn.MaxPool2d)]:
        layers[index], layers[index + 1] = nn.ReLU(), layers[index]
    published = nn.Sequential(*layers)
    assert [type(layer) for layer in published[3:6]] == [nn.Conv2d, nn.ReLU, nn.MaxPool2d]
    results = []
    for network in (ours, published):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = nn.functional.cross_entropy(network(images_NCHW).float(), labels_N)
        loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_build_classifier_of_unknown_name_names_the_known() -> None:
    with pytest.raises(ValueError, match="unknown classifier 'resnet'; known: paper_cnn"):
        build_classifier("resnet", 10, FASHION)


def test_paper_cnn_of_images_too_small_to_pool_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 4x4, got 3x8"):
        build_classifier("paper_cnn", 10, (1, 3, 8))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # 3 x 3 kernels: 3 channels to 16, then 6, 1 + 5 and 1 + 5 of the three parts; 64 to 10 classes with
        # biases; a weight and a bias for each channel that is normalised. Shortcuts have none.
        ("resnet20", 9 * 3 * 16 + 9 * (6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2) + 650 + 1_376),
        ("resnet20_group_norm", 269_722),
    ],
)
def test_resnet20_has_the_number_of_parameters_of_its_source(name: str, expected: int) -> None:
    """He et al., table 6: 0.27 million, for images of 3 channels."""
    assert count_parameters(make_classifier(name, COLOUR)) == expected == 269_722


def test_resnet20_has_19_convolutions_of_which_two_halve_the_sides() -> None:
    convolutions = [each for each in make_classifier("resnet20").modules() if isinstance(each, nn.Conv2d)]
    assert [each.out_channels for each in convolutions] == [16] * 7 + [32] * 6 + [64] * 6
    assert [index for index, each in enumerate(convolutions) if each.stride == (2, 2)] == [7, 13]


def test_block_of_resnet20_that_halves_has_a_shortcut_of_every_second_pixel_and_zeros() -> None:
    block = Block(2, 4, nn.BatchNorm2d)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)  # nothing but the shortcut is left
    values_NCHW = torch.arange(2 * 2 * 5 * 4).view(2, 2, 5, 4).float()
    expected_NCHW = torch.zeros(2, 4, 3, 2)
    expected_NCHW[:, :2] = values_NCHW[:, :, [0, 2, 4]][..., [0, 2]]
    assert torch.equal(block(values_NCHW), expected_NCHW)


def test_group_normalisation_takes_no_account_of_the_other_images_of_a_batch() -> None:
    images_NCHW = make_images(4)
    for name, is_alone in {"resnet20": False, "resnet20_group_norm": True}.items():
        classifier = make_classifier(name).train()
        alone, among = classifier(images_NCHW[:2]), classifier(images_NCHW)[:2]
        assert torch.allclose(alone, among, atol=1e-4) == is_alone


@pytest.mark.parametrize("name", ["resnet20", "resnet20_group_norm"])
def test_resnet20_of_images_too_small_to_halve_twice_is_refused(name: str) -> None:
    assert make_classifier(name, (1, 4, 4)).eval()(make_images(1, (1, 4, 4))).shape == (1, 10)
    with pytest.raises(ValueError, match=f"{name} needs images of at least 4x4, got 3x8"):
        build_classifier(name, 10, (1, 3, 8))


def test_paper_cnn_dropout_is_the_paper_cnn_with_half_of_the_hidden_values_dropped() -> None:
    *layers, dropout, last = make_classifier("paper_cnn_dropout").children()
    assert [repr(each) for each in (*layers, last)] == [repr(each) for each in make_classifier("paper_cnn")]
    assert isinstance(dropout, Dropout) and dropout.rate == 0.5


# Initial weights


@pytest.mark.parametrize("name", NETWORKS)
def test_build_network_is_bit_reproducible_and_differs_between_seeds(name: str) -> None:
    first, again, other = (NETWORKS[name](seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key in first if key.endswith("weight") and first[key].dim() > 1]
    assert weights
    assert not any(torch.equal(first[key], other[key]) for key in weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_build_network_leaves_the_global_generator_untouched(name: str) -> None:
    before = torch.get_rng_state()
    NETWORKS[name](0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NETWORKS)
def test_build_network_does_not_depend_on_the_global_generator(name: str) -> None:
    states = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        states.append(NETWORKS[name](0).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_build_network_starts_running_statistics_at_zero_and_one(name: str) -> None:
    network = NETWORKS[name](0)
    for key, buffer in network.named_buffers():
        expected = 1 if key.endswith("running_var") else 0
        assert torch.equal(buffer, torch.full_like(buffer, expected)), key
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.affine:
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert torch.equal(module.bias, torch.zeros_like(module.bias))


# Inputs and outputs differ, so that confusing them shows.
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(50, 2000),
    "convolution": lambda: nn.Conv2d(16, 2000, 3),
    "convolution in groups": lambda: nn.Conv2d(16, 2000, 3, groups=4),
    "transposed convolution": lambda: nn.ConvTranspose2d(30, 1000, 4),
}
FAN_IN = {
    "linear": 50,
    "convolution": 16 * 9,
    "convolution in groups": 4 * 9,
    "transposed convolution": 1000 * 16,
}


@pytest.mark.parametrize("name", LAYERS)
def test_build_network_draws_as_torch_does(name: str) -> None:
    ours = build_network(LAYERS[name], torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        default = LAYERS[name]()
    bound = 1 / math.sqrt(FAN_IN[name])
    for role, expected in default.state_dict().items():
        values = ours.state_dict()[role]
        assert values.shape == expected.shape
        assert float(values.abs().max()) <= bound * (1 + 1e-6)
        assert float(values.abs().max()) == pytest.approx(float(expected.abs().max()), rel=0.02)
        assert float(values.std()) == pytest.approx(float(expected.std()), rel=0.1)
        assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert abs(float(values.mean())) < 0.2 * bound


def test_build_network_draws_embeddings_from_a_standard_normal() -> None:
    ours = build_network(lambda: nn.Embedding(1000, 50), torch.Generator().manual_seed(0))
    weight = ours.weight.detach()
    assert float(weight.mean()) == pytest.approx(0, abs=0.02)
    assert float(weight.std()) == pytest.approx(1, rel=0.02)
    assert float((weight.abs() > 1.96).float().mean()) == pytest.approx(0.05, abs=0.01)


def test_build_network_accepts_layers_without_bias() -> None:
    layer = build_network(lambda: nn.Linear(4, 3, bias=False), torch.Generator().manual_seed(0))
    assert layer.bias is None
    assert float(layer.weight.detach().abs().max()) <= 0.5


def test_build_network_initialises_batch_norm_without_parameters() -> None:
    for _ in range(3):  # memory that was never written may hold anything, the right values among it
        layer = build_network(lambda: nn.BatchNorm2d(64, affine=False), torch.Generator())
        assert torch.equal(layer.running_mean, torch.zeros(64))
        assert torch.equal(layer.running_var, torch.ones(64))
        assert layer.num_batches_tracked == 0


class Scaled(nn.Module):
    """A layer with a buffer and no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((64,), 3.0))


class Shifted(nn.Module):
    """A layer of our own with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))


def test_build_network_keeps_buffers_as_their_layer_made_them() -> None:
    assert torch.equal(build_network(Scaled, torch.Generator()).scale, torch.full((64,), 3.0))


@pytest.mark.parametrize("build", [lambda: nn.PReLU(), Shifted])
def test_build_network_of_a_layer_without_stated_distribution_is_refused(
    build: Callable[[], nn.Module],
) -> None:
    name = type(build()).__name__
    with pytest.raises(ValueError, match=f"no initial distribution is stated for {name}; .* draw_weights"):
        build_network(lambda: nn.Sequential(nn.Linear(2, 3), build()), torch.Generator())


class Scattered(Shifted):
    """A layer of our own that states the distribution of its parameter."""

    def draw_weights(self, generator: torch.Generator) -> None:
        self.shift.normal_(generator=generator)


def test_a_layer_may_state_the_distribution_of_its_own_parameters() -> None:
    seeds = [0, 0, 1]
    shifts = [build_network(Scattered, torch.Generator().manual_seed(seed)).shift for seed in seeds]
    expected = torch.randn(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shifts[0], expected) and torch.equal(shifts[0], shifts[1])
    assert not torch.equal(shifts[0], shifts[2])


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.LayerNorm(4, bias=False)])
def test_layers_that_normalise_start_with_ones_and_zeros(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.constant_(parameter, 5)
    built = build_network(lambda: layer, torch.Generator())
    assert {name: set(values.tolist()) for name, values in built.named_parameters()} == {
        name: {1.0 if name == "weight" else 0.0} for name, _ in layer.named_parameters()
    }


# Registries


@pytest.mark.parametrize(
    ("registry", "build"), [(CLASSIFIERS, build_classifier), (GENERATORS, build_generator)]
)
def test_registry_names_functions_that_build(
    registry: dict[str, str], build: Callable[..., nn.Module]
) -> None:
    for name, place in registry.items():
        assert place.startswith("lt_rebalance.networks.")
        assert isinstance(build(name, 3, COLOUR), nn.Module)


def test_names_of_networks_are_listed_without_torch() -> None:
    """In a process of its own: this one has imported torch."""
    script = (
        "import sys; from lt_rebalance.networks.classifiers.registry import CLASSIFIERS; "
        "from lt_rebalance.networks.generators.registry import GENERATORS; "
        "print(len(CLASSIFIERS), len(GENERATORS), 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.split() == [str(len(CLASSIFIERS)), str(len(GENERATORS)), "False"]
