"""The counted cost of known networks, so that neither a plan nor the process of a sweep needs torch.

A network that is missing here is counted when it is needed (`stages.counting`), which takes a few seconds.
A test counts all of these again.
"""

from dataclasses import dataclass

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS, PAPER_GAN, TRAINED


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """What a network costs to run and to train."""

    flop: float
    """multiplications and additions of all linear and convolutional layers, for one item forward"""
    has_batch_norm: bool
    num_parameters: int
    kept_bytes: int
    """what it keeps of one item in training for the backward pass, in float32"""


def find_cost(place: str, spec: DatasetSpec) -> NetworkCost | None:
    """Return the cost of the network at a location of a registry, or None if it must be counted."""
    return KNOWN_COSTS.get((place, spec.num_classes, spec.image_shape))


# From the place that a registry names, the number of classes and the image shape.
KNOWN_COSTS: dict[tuple[str, int, ImageShape], NetworkCost] = {
    (place, 10, (1, 28, 28)): NetworkCost(
        flop=flop, has_batch_norm=has_batch_norm, num_parameters=num_parameters, kept_bytes=kept_bytes
    )
    for place, flop, has_batch_norm, num_parameters, kept_bytes in (
        (CLASSIFIERS["paper_cnn"], 31_964_672, True, 454_042, 505_408),
        (CLASSIFIERS["paper_cnn_dropout"], 31_964_672, True, 454_042, 506_048),
        (CLASSIFIERS["resnet18"], 911_601_664, True, 11_172_810, 3_661_888),
        (CLASSIFIERS["resnet20"], 61_642_496, True, 269_434, 1_157_440),
        (CLASSIFIERS["resnet20_group_norm"], 61_642_496, False, 269_434, 1_158_656),
        (CLASSIFIERS["resnet32"], 104_994_560, True, 463_866, 1_859_904),
        (PAPER_GAN.partner, 2_937_344, False, 1_470_565, 24_688),
        (GENERATORS["small_mlp_cgan_leaky"], 1_121_280, False, 562_292, 9_728),
        (GENERATORS["mlp_cgan_relu"], 2_972_672, False, 1_489_012, 10_752),
        (GENERATORS["mlp_cgan_leaky"], 2_972_672, False, 1_489_012, 17_920),
        (GENERATORS["big_mlp_cgan_leaky"], 4_611_072, True, 2_312_180, 32_768),
        (GENERATORS["dccgan_leaky"], 1_495_255_580, False, 1_354_788, 2_613_128),
        (GENERATORS["cdcgan"], 14_626_304, True, 822_501, 154_112),  # of acgan, too
        (GENERATORS["projection_gan"], 14_500_864, True, 763_137, 230_104),
        (GENERATORS["cvae"], 643_200, False, 326_784, 1_688),
        (TRAINED["cvae"].partner, 659_200, False, 334_040, 4_744),
        (TRAINED["cdcgan"].partner, 17_273_088, True, 149_029, 210_120),
        (TRAINED["projection_gan"].partner, 13_246_720, False, 133_697, 129_608),
        (TRAINED["acgan"].partner, 13_384_448, True, 201_419, 178_752),
    )
}
