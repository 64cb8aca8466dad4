"""Generator stages: train a conditional GAN, measure it, keep its weights."""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.metrics import COLLAPSED_BELOW
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.networks.discriminator import Discriminator
from lt_rebalance.networks.generators.generator import Generator
from lt_rebalance.networks.generators.registry import build_generator
from lt_rebalance.stages.base import StageRun
from lt_rebalance.stages.counting import TRAINING_PASSES, count_forward_flop, count_parameters
from lt_rebalance.stages.inputs import StageInputs
from lt_rebalance.studies.stage import GeneratorStage
from lt_rebalance.training.batching import example_discriminator, example_generator
from lt_rebalance.training.cgan import CGANLane, CGANTraining
from lt_rebalance.training.cgan_quality import (
    SHEET_IMAGES,
    diversity,
    draw_sheet,
    measure_quality,
    sample_sheet,
)
from lt_rebalance.training.stacks import Fusion

# Multiples of a forward pass: a step passes real and fake images through the discriminator to train it, and
# fake ones once more, forward and backward to the inputs, to train the generator.
_DISCRIMINATOR_PASSES = 2 * TRAINING_PASSES + 2


class GeneratorRun(StageRun[GeneratorStage, CGANLane]):
    """Train a conditional GAN, measure it, keep the generator's weights and a sheet of its samples."""

    def _build_training(self, fusion: Fusion) -> CGANTraining:
        first = self.stages[0]
        return CGANTraining(
            first.generator,
            self._reader.spec,
            self._device,
            first.execution.precision,
            [stage.seed for stage in self.stages],
            [inputs.training_set for inputs in self._inputs],
            fusion,
        )

    def preview(self, index: int) -> tuple[NDArray[np.uint8], list[float | None]]:
        """Return `samples_KSCHW` of a lane's generator as it stands, and the diversity of each class."""
        generator = self.lanes[index].generator
        noise_stream = torch_stream(self.stages[index].seed, "diversity_noise", device=self._device)
        real_by_class = self._reader.real_by_class(self._inputs[index].subset)
        quality = measure_quality(generator, real_by_class, noise_stream, {"diversity": diversity})
        return draw_sheet(generator, self._reader.spec.num_classes, self._device), quality["diversity"]

    def _results(self, stage: GeneratorStage, lane: CGANLane, inputs: StageInputs) -> dict[str, Any]:
        noise_stream = torch_stream(stage.seed, "diversity_noise", device=self._device)
        real_by_class = self._reader.real_by_class(inputs.subset)
        quality = measure_quality(lane.generator, real_by_class, noise_stream)
        measured = [value for value in quality["diversity"] if value is not None]
        metrics = {name: value for name, value in lane.curves[-1].items() if name != "step"}
        metrics["num_collapsed_classes"] = float(sum(value < COLLAPSED_BELOW for value in measured))
        return {
            "metrics": metrics,
            "quality_per_class": quality,
            "artifacts": {
                "weights": self._write_weights(stage, lane.generator),
                "samples": self._write_array(stage, "samples", sample_sheet(lane.generator, real_by_class)),
            },
        }


def generator_image_flop(stage: GeneratorStage) -> float:
    """Return the arithmetic of an image in training."""
    spec = get_dataset_spec(stage.data.dataset)
    generator_flop, has_batch_norm = _generator_flop(stage.generator.architecture, spec)
    # Batch normalisation makes a step run the generator forward a second time.
    generator_passes = TRAINING_PASSES + has_batch_norm
    return generator_passes * generator_flop + _DISCRIMINATOR_PASSES * _discriminator_flop(spec)


def sheet_bytes(stage: GeneratorStage) -> int:
    """Return what a result keeps of images: three rows of them for each class."""
    spec = get_dataset_spec(stage.data.dataset)
    return 3 * SHEET_IMAGES * math.prod(spec.image_shape) * spec.num_classes


def count_generator(stage: GeneratorStage) -> int:
    """Return the parameters of the generator of a stage."""
    return _count_generator(stage.generator.architecture, get_dataset_spec(stage.data.dataset))


def count_cgan(stage: GeneratorStage) -> int:
    """Return the parameters of the generator and the discriminator of a stage."""
    return count_generator(stage) + _count_discriminator(get_dataset_spec(stage.data.dataset))


@functools.cache
def _generator_flop(name: str, spec: DatasetSpec) -> tuple[float, bool]:
    """Return the arithmetic of a forward pass, and whether the generator has batch normalisation."""
    generator, inputs = example_generator(name, spec)
    assert isinstance(generator, Generator)
    return count_forward_flop(generator, *inputs), generator.has_batch_norm


@functools.cache
def _discriminator_flop(spec: DatasetSpec) -> float:
    network, inputs = example_discriminator(spec)
    return count_forward_flop(network, *inputs)


@functools.cache
def _count_generator(name: str, spec: DatasetSpec) -> int:
    return count_parameters(lambda: build_generator(name, spec.num_classes, spec.image_shape))


@functools.cache
def _count_discriminator(spec: DatasetSpec) -> int:
    return count_parameters(lambda: Discriminator(spec.num_classes, spec.image_shape))
