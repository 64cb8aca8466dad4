"""A generator as an over-sampler of imbalanced-learn: `fit_resample` on arrays or frames.

Suffixes: N rows, F features, S synthetic rows, C H W image.
"""

import math
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from imblearn.over_sampling.base import BaseOverSampler
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.generation.images import sample_images
from lt_rebalance.generation.training import build_generator_training
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.methods.registry import MethodConfig
from lt_rebalance.networks.generators.generator import Generator
from lt_rebalance.training.configs import Budget, GeneratorConfig
from lt_rebalance.training.lane import TrainingSet

ABOVE_ZERO = Interval(Integral, 1, None, closed="left")


class GeneratorSampler(BaseOverSampler):  # type: ignore[misc]  # imbalanced-learn has no types
    """Fill classes with rows from a generator trained on all classes.

    A subclass has a constructor, whose parameters imbalanced-learn reads, and `_config`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseOverSampler._parameter_constraints,
        "image_shape": [tuple, list, None],
        "steps": [ABOVE_ZERO],
        "batch_size": [ABOVE_ZERO],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    @abstractmethod
    def _config(self, batch_size: int) -> GeneratorConfig:
        """Return the generator and its training, in batches of this size."""

    def _common(self, batch_size: int) -> dict[str, Any]:
        """Return the common fields of the configurations of generators."""
        return {
            "training_method": MethodConfig(name="oversample", draw="random"),
            "budget": Budget(steps=self.steps, rounds=1),
            "batch_size": batch_size,
            "learning_rate": self.learning_rate,
            "beta2": 0.999,
        }

    def fit_resample(self, X: Any, y: Any, **params: Any) -> tuple[Any, Any]:
        """Return the data with the rows that were made; columns of whole numbers and truth values stay so."""
        kinds = [getattr(each, "kind", "O") for each in X.dtypes] if hasattr(X, "dtypes") else []
        self._whole_F = np.array([kind in "iub" for kind in kinds], dtype=bool)
        resampled: tuple[Any, Any] = super().fit_resample(X, y, **params)
        return resampled

    def _fit_resample(self, X: Any, y: NDArray[Any], **_: Any) -> tuple[Any, NDArray[Any]]:
        wanted = {label: num for label, num in self.sampling_strategy_.items() if num}
        if not wanted:
            return X.copy(), y.copy()
        rows_NF = X.toarray() if sparse.issparse(X) else np.asarray(X)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        classes, labels_N = np.unique(y, return_inverse=True)
        made_labels_S = np.concatenate(
            [np.full(num, np.searchsorted(classes, label)) for label, num in wanted.items()]
        )
        made_SF = self._make(rows_NF.astype(np.float64), labels_N, made_labels_S, seed)
        # A frame of several types arrives as floats.
        is_whole = rows_NF.dtype.kind in "iub" or (self._whole_F if len(self._whole_F) else False)
        made_SF = np.where(is_whole, np.rint(made_SF), made_SF)
        made_SF = made_SF.astype(rows_NF.dtype)
        if sparse.issparse(X):  # of the class of X: matrices and arrays multiply differently
            stacked = sparse.vstack([X, type(X)(made_SF)], format=X.format)
        else:
            stacked = np.vstack([X, made_SF])
        return stacked, np.concatenate([y, classes[made_labels_S]])

    def _make(
        self,
        rows_NF: NDArray[np.float64],
        labels_N: NDArray[np.int64],
        made_labels_S: NDArray[np.int64],
        seed: int,
    ) -> NDArray[np.float64]:
        """Return rows of these classes."""
        shape = (1, 1, rows_NF.shape[1]) if self.image_shape is None else tuple(self.image_shape)
        are_sides = all(isinstance(side, int | np.integer) and side >= 1 for side in shape)
        if len(shape) != 3 or not are_sides or math.prod(shape) != rows_NF.shape[1]:
            raise ValueError(
                f"image_shape must be whole numbers (C, H, W) with a product of {rows_NF.shape[1]}, the "
                f"features of a row, got {self.image_shape}"
            )
        axis = 0 if self.image_shape is None else None
        low, high = rows_NF.min(axis=axis), rows_NF.max(axis=axis)
        half = np.where(high > low, (high - low) / 2, 1.0)
        scaled_NF = ((rows_NF - low) / half - 1).astype(np.float32)
        generator = self._train(scaled_NF.reshape(-1, *shape), labels_N, seed)
        made_SCHW = sample_images(
            generator, torch.from_numpy(made_labels_S), torch_stream(seed, "sampling_noise")
        )
        made_SF = made_SCHW.numpy().reshape(len(made_labels_S), -1).astype(np.float64)
        unscaled_SF: NDArray[np.float64] = np.clip((made_SF + 1) * half + low, low, high)
        return unscaled_SF

    def _train(self, images_NCHW: NDArray[np.float32], labels_N: NDArray[np.int64], seed: int) -> Generator:
        counts_K = np.bincount(labels_N)
        config = self._config(min(self.batch_size, int(counts_K.max()) * len(counts_K)))
        spec = DatasetSpec(
            name="rows",
            num_classes=len(counts_K),
            image_shape=images_NCHW.shape[1:],
            class_names=tuple(map(str, range(len(counts_K)))),
            train_counts_K=tuple(counts_K.tolist()),
            test_counts_K=tuple(counts_K.tolist()),
            licence="the user's own",
            content_sha256="0" * 64,
        )
        rng = np.random.default_rng(seed)
        items = []
        for label, count in enumerate(counts_K.tolist()):
            places = np.flatnonzero(labels_N == label)
            items += [places, rng.choice(places, counts_K.max() - count)]
        training_set = TrainingSet(
            images_PCHW=torch.from_numpy(images_NCHW),
            labels_P=torch.from_numpy(labels_N.astype(np.int64)),
            items_N=torch.from_numpy(np.concatenate(items).astype(np.int64)),
        )
        training = build_generator_training(
            config, spec, torch.device("cpu"), "float32", [seed], [training_set]
        )
        while training.run_round():
            pass
        (lane,) = training.lanes
        if lane.is_diverged:
            raise ValueError(
                f"losses must stay finite, and {config.architecture} diverged at a learning "
                f"rate of {self.learning_rate:g}; give it a smaller one"
            )
        return lane.generator
