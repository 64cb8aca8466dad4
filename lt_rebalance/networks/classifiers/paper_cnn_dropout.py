"""The paper's classifier with dropout before its last layer."""

from torch import nn

from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.classifiers.paper_cnn import build_paper_cnn
from lt_rebalance.networks.dropout import Dropout

RATE = 0.5


def build_paper_cnn_dropout(num_classes: int, image_shape: ImageShape) -> nn.Module:
    """Mankikar, Patel, Zhang, section 3.4, with dropout as in Hinton et al. 2012, arXiv 1207.0580.

    Half of the 128 hidden values are dropped, no inputs; the norm of weights is not bounded. Errors as
    `build_paper_cnn`.
    """
    *layers, last = build_paper_cnn(num_classes, image_shape).children()
    return nn.Sequential(*layers, Dropout(RATE), last)
