"""The generators of conditional GANs, by name; listed without importing torch."""

from typing import TYPE_CHECKING

from lt_rebalance.networks.builders import ImageShape, find_builder

if TYPE_CHECKING:
    from lt_rebalance.networks.generators.generator import Generator


def build_generator(name: str, num_classes: int, image_shape: ImageShape) -> "Generator":
    """Build a generator with torch's own (unseeded) initial weights.

    Raises:
        ValueError: unknown name, or an image shape the architecture cannot make.
    """
    from lt_rebalance.networks.generators.generator import Generator

    return Generator(find_builder("generator", GENERATORS, name)(image_shape), num_classes)


_PAPER = "lt_rebalance.networks.generators.paper_gans"

# From the image shape to the body of a generator: the module and the function that builds it.
GENERATORS: dict[str, str] = {
    "small_mlp_cgan_leaky": f"{_PAPER}:build_small_mlp_leaky",
    "mlp_cgan_relu": f"{_PAPER}:build_mlp_relu",
    "mlp_cgan_leaky": f"{_PAPER}:build_mlp_leaky",
    "big_mlp_cgan_leaky": f"{_PAPER}:build_big_mlp_leaky",
    "dccgan_leaky": f"{_PAPER}:build_dccgan_leaky",
}
