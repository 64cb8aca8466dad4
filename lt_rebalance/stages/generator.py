"""Generator stages: train a generator, measure it, keep its weights."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.generation.training import GeneratorLane, GeneratorTraining, build_generator_training
from lt_rebalance.ground.metrics import COLLAPSED_BELOW
from lt_rebalance.ground.seeding import torch_stream
from lt_rebalance.stages.base import StageRun
from lt_rebalance.stages.cgan_quality import (
    diversity,
    draw_grid,
    measure_quality,
    sample_grid,
)
from lt_rebalance.stages.inputs import StageInputs
from lt_rebalance.studies.stage import GeneratorStage
from lt_rebalance.training.stacks import Fusion


class GeneratorRun(StageRun[GeneratorStage, GeneratorLane]):
    """Train a generator, measure it, keep its weights and a grid of its samples."""

    def _build_training(self, fusion: Fusion) -> GeneratorTraining:
        first = self.stages[0]
        return build_generator_training(
            first.generator,
            self._reader.spec,
            self._device,
            first.execution.precision,
            [stage.seed for stage in self.stages],
            [inputs.training_set for inputs in self._inputs],
            fusion,
        )

    def preview(self, index: int) -> tuple[NDArray[np.uint8], list[float | None]]:
        """Return `samples_KSCHW` of a lane's current generator, and the diversity of each class."""
        generator = self.lanes[index].generator
        noise_stream = torch_stream(self.stages[index].seed, "diversity_noise", device=self._device)
        real_by_class = self._reader.real_by_class(self._inputs[index].subset)
        quality = measure_quality(generator, real_by_class, noise_stream, {"diversity": diversity})
        return draw_grid(generator, self._reader.spec.num_classes, self._device), quality["diversity"]

    def _results(self, stage: GeneratorStage, lane: GeneratorLane, inputs: StageInputs) -> dict[str, Any]:
        noise_stream = torch_stream(stage.seed, "diversity_noise", device=self._device)
        quality = measure_quality(lane.generator, self._reader.real_by_class(inputs.subset), noise_stream)
        grid = sample_grid(lane.generator, self._reader.real_by_class(inputs.subset))
        measured = [value for value in quality["diversity"] if value is not None]
        metrics = {name: value for name, value in lane.curves[-1].items() if name != "step"}
        metrics["num_collapsed_classes"] = float(sum(value < COLLAPSED_BELOW for value in measured))
        return {
            "metrics": metrics,
            "quality_per_class": quality,
            "artifacts": {
                "weights": self._write_weights(stage, lane.generator),
                "samples": self._write_array(stage, "samples", grid),
            },
        }
