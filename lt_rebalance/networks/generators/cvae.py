"""A conditional variational autoencoder: encoder and decoder have one hidden layer and the class as input.

Source: Kingma, Welling 2013, arXiv 1312.6114, appendix C (multilayer perceptrons as encoder and Bernoulli
decoder); Sohn, Lee, Yan 2015, Learning Structured Output Representation using Deep Conditional Generative
Models, NeurIPS 28 (the condition goes to both). 400 hidden units and 20 latent dimensions. Deviations: ReLU
in place of tanh; grey values from 0 to 1 in place of binary ones; a prior of the code that is the same for
every class. A first layer that adds the weights of a one-hot label is an embedding here; its initial weights
are those of an embedding, standard normal, so the class has an effect from the first step.

Shape suffixes: N images, Z latent dimensions, C H W image, K classes, F features.
"""

import math

import torch
from torch import Tensor, nn

from lt_rebalance.networks.builders import ImageShape
from lt_rebalance.networks.generators.generator import Generator, Partner

LATENT_DIM = 20
HIDDEN_DIM = 400


class Decoder(Generator):
    """Map codes and labels to images; in training to logits of grey values, 0 for black and 1 for white.

    A logit keeps precision where a grey value near 0 or 1 loses it.
    """

    noise_dim = LATENT_DIM

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        nn.Module.__init__(self)  # it embeds no labels
        self.image_shape = image_shape
        self.hidden = nn.Linear(LATENT_DIM, HIDDEN_DIM)
        self.of_label = nn.Embedding(num_classes, HIDDEN_DIM)
        self.output = nn.Linear(HIDDEN_DIM, math.prod(image_shape))

    def forward(self, noise_NZ: Tensor, labels_N: Tensor) -> Tensor:
        """Return `logits_NCHW` in training, and `images_NCHW` in [-1, 1] in evaluation."""
        hidden_NF = torch.relu(self.hidden(noise_NZ) + self.of_label(labels_N))
        logits_NCHW = self.output(hidden_NF).unflatten(1, self.image_shape)
        # Twice the sigmoid of x, less 1, is the tanh of half of x.
        return logits_NCHW if self.training else torch.tanh(logits_NCHW / 2)


class Encoder(Partner):
    """Map images and labels to means and log variances of codes, concatenated in one tensor."""

    def __init__(self, num_classes: int, image_shape: ImageShape) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.hidden = nn.Linear(math.prod(image_shape), HIDDEN_DIM)
        self.of_label = nn.Embedding(num_classes, HIDDEN_DIM)
        self.output = nn.Linear(HIDDEN_DIM, 2 * LATENT_DIM)

    def forward(self, images_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Return (N, 2 Z): means, then log variances."""
        hidden_NF = torch.relu(self.hidden(images_NCHW.flatten(1)) + self.of_label(labels_N))
        moments: Tensor = self.output(hidden_NF)
        return moments

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Return images and labels."""
        return torch.zeros(2, *self.image_shape), torch.zeros(2, dtype=torch.int64)
