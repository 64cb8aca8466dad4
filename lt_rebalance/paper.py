"""What the paper reports, as data: its grid and its Table 1.

Source: Mankikar, Patel, Zhang, "Re-Balancing of Long-Tailed Datasets Using CGAN Generation", Table 1. Every
number is a single run on the Fashion-MNIST test set.
"""

from dataclasses import dataclass

PAPER_DATASETS = ("fashion_mnist", "fashion_mnist_mini")
"""the paper's data set, and the sample of it"""
PAPER_CS = ("7/9", "1/2")
PAPER_METHODS = ("none", "undersample", "oversample", "cgan")
PAPER_GENERATORS = ("mlp_cgan_relu", "small_mlp_cgan_leaky", "mlp_cgan_leaky", "big_mlp_cgan_leaky")


@dataclass(frozen=True)
class PaperRow:
    """One single run of Table 1."""

    loss: float
    """test loss under double softmax"""
    accuracy: float
    f1: float
    """weighted, which equals macro F1 on the balanced test set"""


# By training data ("original" or C) and method (for a CGAN, its generator).
TABLE_1 = {
    ("original", "none"): PaperRow(1.540, 0.921, 0.921),
    ("7/9", "none"): PaperRow(1.571, 0.890, 0.884),
    ("7/9", "undersample"): PaperRow(1.584, 0.876, 0.873),
    ("7/9", "oversample"): PaperRow(1.561, 0.900, 0.898),
    ("7/9", "mlp_cgan_relu"): PaperRow(1.585, 0.876, 0.872),
    ("7/9", "small_mlp_cgan_leaky"): PaperRow(1.574, 0.887, 0.882),
    ("7/9", "mlp_cgan_leaky"): PaperRow(1.670, 0.791, 0.751),
    ("7/9", "big_mlp_cgan_leaky"): PaperRow(1.586, 0.875, 0.868),
    ("1/2", "none"): PaperRow(1.983, 0.476, 0.342),
    ("1/2", "undersample"): PaperRow(1.763, 0.698, 0.670),
    ("1/2", "oversample"): PaperRow(1.648, 0.812, 0.799),
    ("1/2", "mlp_cgan_relu"): PaperRow(1.727, 0.733, 0.715),
    ("1/2", "small_mlp_cgan_leaky"): PaperRow(1.775, 0.686, 0.658),
    ("1/2", "mlp_cgan_leaky"): PaperRow(1.766, 0.696, 0.668),
    ("1/2", "big_mlp_cgan_leaky"): PaperRow(1.806, 0.654, 0.623),
}
