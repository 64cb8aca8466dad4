"""A conditional variational autoencoder as an over-sampler of imbalanced-learn."""

from numbers import Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval

from lt_rebalance.generation.samplers.generator import GeneratorSampler
from lt_rebalance.training.configs import GeneratorConfig


class CVAESampler(GeneratorSampler):
    """Fill classes with rows from a conditional variational autoencoder trained on all classes.

    Networks and training are those of sweeps (Kingma, Welling 2013, arXiv 1312.6114; Sohn, Lee, Yan 2015;
    `generation/cvae.py`). It learns from all classes equally: rows of smaller classes are repeated at random.
    Values are scaled to [-1, 1]: pixels by their common minimum and maximum, features each by its own. New
    rows are decoded means, without noise, so they vary less than the training data. With few features the
    code may be ignored, and all rows of a class are equal; a far smaller `kl_weight` prevents this.

    Args:
        sampling_strategy: which classes to fill and to what size, as for all samplers of imbalanced-learn.
        random_state: seed of all random numbers.
        image_shape: (C, H, W) of the image that a row is; None for feature vectors.
        steps: optimizer steps of both networks together.
        batch_size: rows per step.
        learning_rate: Adam's.
        kl_weight: of the divergence of codes relative to the reconstruction, beta of a beta-VAE.

    Attributes:
        sampling_strategy_: how many rows are made, by class.
        n_features_in_: features seen by `fit_resample`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **GeneratorSampler._parameter_constraints,
        "kl_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        sampling_strategy: Any = "auto",
        random_state: Any = None,
        image_shape: tuple[int, int, int] | None = None,
        steps: int = 2000,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.random_state = random_state
        self.image_shape = image_shape
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.kl_weight = kl_weight

    def _config(self, batch_size: int) -> GeneratorConfig:
        return GeneratorConfig(
            architecture="cvae", beta1=0.9, kl_weight=self.kl_weight, **self._common(batch_size)
        )
