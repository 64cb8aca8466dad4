"""The counted cost of a forward pass of known networks, so that a plan needs no torch.

A network that is missing here is counted when it is needed (`stages.counting`), which takes a few seconds.
A test counts all of these again.
"""

from dataclasses import dataclass

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS, PAPER_GAN, TRAINED


@dataclass(frozen=True, kw_only=True)
class ForwardWork:
    """The work of a forward pass for one item."""

    flop: float
    """multiplications and additions of all linear and convolutional layers"""
    has_batch_norm: bool


def find_work(place: str, spec: DatasetSpec) -> ForwardWork | None:
    """Return the work of the network at a location of a registry, or None if it must be counted."""
    return KNOWN_WORK.get((place, spec.num_classes, spec.image_shape))


# From the place that a registry names, the number of classes and the image shape.
KNOWN_WORK: dict[tuple[str, int, ImageShape], ForwardWork] = {
    (place, 10, (1, 28, 28)): ForwardWork(flop=flop, has_batch_norm=has_batch_norm)
    for place, flop, has_batch_norm in (
        (CLASSIFIERS["paper_cnn"], 31_964_672, True),
        (CLASSIFIERS["paper_cnn_dropout"], 31_964_672, True),
        (CLASSIFIERS["resnet18"], 911_601_664, True),
        (CLASSIFIERS["resnet20"], 61_642_496, True),
        (CLASSIFIERS["resnet20_group_norm"], 61_642_496, False),
        (CLASSIFIERS["resnet32"], 104_994_560, True),
        (PAPER_GAN.partner, 2_937_344, False),
        (GENERATORS["small_mlp_cgan_leaky"], 1_121_280, False),
        (GENERATORS["mlp_cgan_relu"], 2_972_672, False),
        (GENERATORS["mlp_cgan_leaky"], 2_972_672, False),
        (GENERATORS["big_mlp_cgan_leaky"], 4_611_072, True),
        (GENERATORS["dccgan_leaky"], 1_495_255_580, False),
        (GENERATORS["cdcgan"], 14_626_304, True),  # of acgan, too
        (GENERATORS["projection_gan"], 14_500_864, True),
        (GENERATORS["cvae"], 643_200, False),
        (TRAINED["cvae"].partner, 659_200, False),
        (TRAINED["cdcgan"].partner, 17_273_088, True),
        (TRAINED["projection_gan"].partner, 13_246_720, False),
        (TRAINED["acgan"].partner, 13_384_448, True),
    )
}
