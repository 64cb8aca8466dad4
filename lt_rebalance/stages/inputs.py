"""Assemble the training and test data of a stage: data set, subset, rebalancing, synthetic images.

Shape suffixes: P images in a pool, S synthetic images, N items or images, C H W image, K classes.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.long_tail import OWN_SPLIT, Subset
from lt_rebalance.data.spec import Dataset, DatasetSpec
from lt_rebalance.generation.filtering import draw_filtered
from lt_rebalance.generation.images import sample_images
from lt_rebalance.ground.seeding import numpy_stream, torch_stream
from lt_rebalance.images.apart import require_apart
from lt_rebalance.images.load import load_at_hand
from lt_rebalance.methods.checking import synthesize_checked
from lt_rebalance.methods.contract import RebalancePlan
from lt_rebalance.methods.registry import get_method, plan_rebalancing
from lt_rebalance.networks.classifiers.registry import build_classifier
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import Record
from lt_rebalance.studies.stage import AnyStage, ClassifierStage, GeneratorStage
from lt_rebalance.training.classifier import EvaluationSet
from lt_rebalance.training.lane import TrainingSet, to_floats


@functools.lru_cache(maxsize=2)
def load_dataset_once(name: str, data_dir: str | None) -> Dataset:
    """Load a data set, once per process; a DataError if it is missing or damaged here."""
    return load_at_hand(name) if is_own_name(name) else load_dataset(name, data_dir)


@dataclass(frozen=True, kw_only=True)
class StageInputs:
    """The training and test data of one seed, on the device."""

    subset: Subset
    plan: RebalancePlan
    training_set: TrainingSet
    validation_set: EvaluationSet | None
    quality_per_class: Mapping[str, list[float | None]]
    """quality of the generator of the synthetic images, and rates of their filter; empty without a
    generator"""
    first_weights: Mapping[str, Tensor] | None
    """weights from which a second training starts; None for a first"""


class InputReader:
    """Reads the inputs of stages on one data set, for one device."""

    def __init__(self, dataset: str, data_dir: str | None, store: Store, device: torch.device) -> None:
        """Load the data set, once per process.

        Raises:
            DataError: the data set is missing or damaged.
        """
        self.spec: DatasetSpec = get_dataset_spec(dataset)
        self._dataset = load_dataset_once(dataset, data_dir)
        self._store = store
        self._device = device

    @functools.cached_property
    def _pool(self) -> tuple[Tensor, Tensor]:
        """`images_PCHW`, uint8, and `labels_P` of the training split, which all lanes share."""
        return self._send(self._dataset.train_images_NCHW), self._send(self._dataset.train_labels_N)

    def _send(self, array: NDArray[Any]) -> Tensor:
        """Return an array on the device; on a CPU it is not copied."""
        return torch.from_numpy(array).to(self._device)

    def read(self, stage: AnyStage) -> StageInputs:
        """Return the inputs of a stage.

        Raises:
            StoreError: a stage that it builds on has no usable result.
            DataError: images that are set aside equal some to learn from.
        """
        dataset = self._dataset
        subset = stage.data.draw(dataset.train_labels_N, dataset.train_groups_N, stage.data_seed)
        require_apart(stage.data.dataset, subset, dataset.train_images_NCHW)
        method = stage.training_method
        rng = numpy_stream(stage.seed, "resampling")
        plan = plan_rebalancing(
            method.name, method.draw, subset.counts_K, rng, method.fill_fraction, method.options
        )
        synthetic_SCHW: Tensor | None = None
        quality: Mapping[str, list[float | None]] = {}
        if isinstance(stage, ClassifierStage) and stage.generator_stage is not None:
            synthetic_SCHW, quality = self._synthesize(stage, stage.generator_stage, plan)
        elif isinstance(stage, ClassifierStage) and get_method(method.name).synthesize is not None:
            synthetic_SCHW = self._have_made(stage, subset, plan)
        return StageInputs(
            subset=subset,
            plan=plan,
            training_set=self._training_set(subset, plan, synthetic_SCHW),
            validation_set=self._validation_set(stage, subset),
            quality_per_class=quality,
            first_weights=self._read_first(stage),
        )

    def real_by_class(self, subset: Subset) -> Iterator[Tensor]:
        """Yield K tensors (N, C, H, W), the subset's images in [-1, 1], in their drawn order."""
        images_PCHW, _ = self._pool
        return (to_floats(images_PCHW[self._send(indices)]) for indices in subset.indices_by_class)

    @functools.cached_property
    def test_set(self) -> EvaluationSet:
        """The whole test split."""
        dataset = self._dataset
        return EvaluationSet(
            images_PCHW=self._send(dataset.test_images_NCHW), labels_N=self._send(dataset.test_labels_N)
        )

    def _training_set(
        self, subset: Subset, plan: RebalancePlan, synthetic_SCHW: Tensor | None
    ) -> TrainingSet:
        """List the items of the pool, class by class, followed by synthetic ones, class by class."""
        images_PCHW, labels_P = self._pool
        chosen = zip(subset.indices_by_class, plan.positions_by_class, strict=True)
        items = [indices[positions] for indices, positions in chosen]
        if synthetic_SCHW is None or len(synthetic_SCHW) == 0:
            synthetic_SCHW = None
        else:
            items.append(np.arange(len(images_PCHW), len(images_PCHW) + len(synthetic_SCHW)))
            labels_P = torch.cat([labels_P, self._send(_labels_by_class(plan.num_synthetic_K))])
        return TrainingSet(
            images_PCHW=images_PCHW,
            labels_P=labels_P,
            items_N=self._send(np.concatenate(items)),
            synthetic_SCHW=synthetic_SCHW,
        )

    @functools.cached_property
    def _own_validation_set(self) -> EvaluationSet | None:
        images, labels = self._dataset.validation_images_NCHW, self._dataset.validation_labels_N
        if images is None or labels is None:
            return None
        return EvaluationSet(images_PCHW=self._send(images), labels_N=self._send(labels))

    def _validation_set(self, stage: AnyStage, subset: Subset) -> EvaluationSet | None:
        if stage.data.validation == OWN_SPLIT and self._own_validation_set is not None:
            return self._own_validation_set
        indices = subset.validation_indices
        if len(indices) == 0:
            return None
        images_PCHW, labels_P = self._pool
        positions_N = self._send(indices)
        return EvaluationSet(images_PCHW=images_PCHW, labels_N=labels_P[positions_N], positions_N=positions_N)

    def _synthesize(
        self, stage: ClassifierStage, made_by: GeneratorStage, plan: RebalancePlan
    ) -> tuple[Tensor, Mapping[str, list[float | None]]]:
        """Return `synthetic_SCHW` in [-1, 1], class by class, and the quality of their generator."""
        architecture = made_by.generator.architecture
        with torch.random.fork_rng(devices=[]):  # constructors draw from the global stream
            generator = build_generator(architecture, self.spec.num_classes, self.spec.image_shape)
        record = self._load_weights(made_by, generator, architecture)
        generator.to(self._device)
        labels_S = torch.from_numpy(_labels_by_class(plan.num_synthetic_K)).to(self._device)
        noise_stream = torch_stream(made_by.seed, "sampling_noise", device=self._device)

        def draw(labels_N: Tensor) -> Tensor:
            return sample_images(generator, labels_N, noise_stream)

        if stage.method.filter == "none" or len(labels_S) == 0:
            return draw(labels_S), record.quality_per_class
        assert stage.first_stage is not None
        network = self._load_classifier(stage.first_stage).to(self._device)
        attempts = stage.method.filter_attempts
        synthetic_SCHW, found = draw_filtered(draw, network, labels_S, attempts, self.spec.num_classes)
        return synthetic_SCHW, {**record.quality_per_class, **found}

    def _have_made(self, stage: ClassifierStage, subset: Subset, plan: RebalancePlan) -> Tensor:
        """Return `synthetic_SCHW` in [-1, 1], class by class, that the method itself makes of real images."""
        name, options = stage.method.name, stage.method.options
        synthesize = get_method(name).synthesize
        chosen = zip(subset.indices_by_class, plan.positions_by_class, strict=True)
        real = [
            to_floats(torch.from_numpy(self._dataset.train_images_NCHW[indices[positions]])).numpy()
            for indices, positions in chosen
        ]
        rng = numpy_stream(stage.seed, f"{name}/synthesis")
        return self._send(synthesize_checked(synthesize, real, plan.num_synthetic_K, rng, options))

    def _read_first(self, stage: AnyStage) -> Mapping[str, Tensor] | None:
        """Return the weights from which a second training starts, on the CPU."""
        if not isinstance(stage, ClassifierStage) or stage.first_stage is None:
            return None
        if stage.method.filter != "none" and get_method(stage.method.name).then is None:
            return None
        return self._load_classifier(stage.first_stage).state_dict()

    def _load_classifier(self, stage: ClassifierStage) -> nn.Module:
        """Return the network that a finished stage has kept, on the CPU."""
        architecture = stage.classifier.architecture
        with torch.random.fork_rng(devices=[]):
            network = build_classifier(architecture, self.spec.num_classes, self.spec.image_shape)
        self._load_weights(stage, network, architecture)
        return network

    def _load_weights(self, stage: AnyStage, network: nn.Module, architecture: str) -> Record:
        """Load into a network the weights of a finished stage; return the record of that stage."""
        record = self._store.load_record(stage.key)
        if record is None or record.state != "complete":
            state = "missing" if record is None else record.state
            raise StoreError(f"{self._store.location}: {stage.kind} stage {stage.key} is {state}")
        content = self._store.load_artifact(record, "weights")
        try:
            network.load_state_dict(safetensors.torch.load(content))
        except Exception as error:  # of whatever kind: these are not weights of such a network
            reason = f"it holds no weights of {architecture}: {type(error).__name__}: {error}"
            raise self._store.reject_artifact(record, "weights", reason) from None
        return record


def _labels_by_class(counts_K: list[int] | tuple[int, ...]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts_K)), counts_K)
