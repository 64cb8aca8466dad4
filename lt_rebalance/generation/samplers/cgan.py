"""A conditional GAN as an over-sampler of imbalanced-learn."""

from numbers import Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from lt_rebalance.generation.samplers.generator import GeneratorSampler
from lt_rebalance.networks.generators.registry import GENERATORS, find_trained
from lt_rebalance.training.configs import GeneratorConfig


class CGANSampler(GeneratorSampler):
    """Fill classes with images or rows from a conditional GAN trained on all classes.

    The GAN and its training are those of sweeps (Mirza, Osindero 2014, arXiv 1411.1784, in
    `generation/cgan.py`). It learns from all classes equally: rows of smaller classes are repeated at random.
    Values are scaled to [-1, 1]: pixels by their common minimum and maximum, features each by its own.

    Args:
        sampling_strategy: which classes to fill and to what size, as for all samplers of imbalanced-learn.
        random_state: seed of all random numbers.
        image_shape: (C, H, W) of the image that a row is; None for feature vectors.
        architecture: a generator with a discriminator, so any name in GENERATORS but "cvae"; "cdcgan",
            "projection_gan" and "acgan" need an `image_shape` of at least 2 x 2 pixels.
        steps: optimizer steps of each network.
        batch_size: real rows per step.
        learning_rate: Adam's, for both networks.
        beta1: Adam's, for both networks.

    Attributes:
        sampling_strategy_: how many rows are made, by class.
        n_features_in_: features seen by `fit_resample`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **GeneratorSampler._parameter_constraints,
        "architecture": [StrOptions({name for name in GENERATORS if find_trained(name).has_discriminator})],
        "beta1": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        sampling_strategy: Any = "auto",
        random_state: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        architecture: str = "small_mlp_cgan_leaky",
        steps: int = 2000,
        batch_size: int = 64,
        learning_rate: float = 2e-4,
        beta1: float = 0.5,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.random_state = random_state
        self.image_shape = image_shape
        self.architecture = architecture
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.beta1 = beta1

    def _config(self, batch_size: int) -> GeneratorConfig:
        return GeneratorConfig(
            architecture=self.architecture, beta1=float(self.beta1), **self._common(batch_size)
        )
