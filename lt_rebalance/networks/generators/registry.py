"""The generators by name, with their partners and trainings; listed without importing torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from lt_rebalance.networks.builders import ImageShape, find_builder, import_place

if TYPE_CHECKING:
    from lt_rebalance.networks.generators.generator import Generator, Partner


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How an architecture is trained: its partner network, its training and its cost."""

    partner: str
    """the partner network, as "module:class" of a `Partner`"""
    by: str
    """the training of both, as "module:class" of a `GeneratorTraining`"""
    generator_passes: int = 3
    """passes of the generator per image of a step: forward, and backward to inputs and to weights"""
    repeated_passes: int = 0
    """further passes of a generator that normalises over a batch"""
    partner_passes: int
    """the same of the partner"""
    has_discriminator: bool = True
    """whether the partner is one"""
    settings: Mapping[str, float] = field(default_factory=dict)
    """of Adam, as its authors recommend, by field of `GeneratorConfig`; the paper's protocol has its own"""


def build_generator(name: str, num_classes: int, image_shape: ImageShape) -> "Generator":
    """Build a generator with torch's own (unseeded) initial weights.

    Raises:
        ValueError: unknown name, or an image shape that the architecture cannot make.
    """
    from lt_rebalance.networks.generators.generator import Generator

    builder: Any = find_builder("generator", GENERATORS, name)
    if isinstance(builder, type) and issubclass(builder, Generator):
        whole: Generator = cast(Any, builder)(num_classes, image_shape)
        return whole
    return Generator(builder(image_shape), num_classes)


def find_trained(name: str) -> Trained:
    """Return how an architecture is trained; a user's architecture like the paper's."""
    return TRAINED.get(name, PAPER_GAN)


def build_partner(place: str, num_classes: int, image_shape: ImageShape) -> "Partner":
    """Build the partner of this name in `Trained`, with torch's own (unseeded) initial weights."""
    partner: Partner = import_place(place)(num_classes, image_shape)
    return partner


_FIELD = "lt_rebalance.networks.generators"
_PAPER = "lt_rebalance.networks.generators.paper_gans"

# The module and the function that builds it: from the image shape to the body of a generator, or a class of
# generators.
GENERATORS: dict[str, str] = {
    "small_mlp_cgan_leaky": f"{_PAPER}:build_small_mlp_leaky",
    "mlp_cgan_relu": f"{_PAPER}:build_mlp_relu",
    "mlp_cgan_leaky": f"{_PAPER}:build_mlp_leaky",
    "big_mlp_cgan_leaky": f"{_PAPER}:build_big_mlp_leaky",
    "dccgan_leaky": f"{_PAPER}:build_dccgan_leaky",
    "cdcgan": f"{_FIELD}.dcgan:build_dcgan",
    "projection_gan": f"{_FIELD}.projection_gan:ProjectionGenerator",
    "acgan": f"{_FIELD}.dcgan:build_dcgan",
    "cvae": f"{_FIELD}.cvae:Decoder",
}

# A step passes real and fake images through the discriminator to train it, and fake ones once more, forward
# and backward to the inputs, to train the generator.
PAPER_GAN = Trained(
    partner="lt_rebalance.networks.discriminator:Discriminator",
    by="lt_rebalance.generation.cgan:CGANTraining",
    repeated_passes=1,
    partner_passes=8,
)

# Those of GENERATORS that are trained otherwise than the paper's.
TRAINED: dict[str, Trained] = {
    "cdcgan": Trained(
        partner=f"{_FIELD}.dcgan:DCGANDiscriminator",
        by="lt_rebalance.generation.gans:CrossEntropyTraining",
        partner_passes=8,
        settings={"learning_rate": 2e-4, "beta1": 0.5, "beta2": 0.999},
    ),
    "projection_gan": Trained(
        partner=f"{_FIELD}.projection_gan:ProjectionDiscriminator",
        by="lt_rebalance.generation.gans:HingeTraining",
        partner_passes=8,
        settings={"learning_rate": 2e-4, "beta1": 0.0, "beta2": 0.9},
    ),
    "acgan": Trained(
        partner=f"{_FIELD}.acgan:ACGANDiscriminator",
        by="lt_rebalance.generation.gans:ACGANTraining",
        partner_passes=8,
        settings={"learning_rate": 2e-4, "beta1": 0.5, "beta2": 0.999},
    ),
    "cvae": Trained(
        partner=f"{_FIELD}.cvae:Encoder",
        by="lt_rebalance.generation.cvae:CVAETraining",
        partner_passes=3,
        has_discriminator=False,
        settings={"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999},
    ),
}
