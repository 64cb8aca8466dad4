"""The work of each kind of stage: arithmetic and parameters of its networks, bytes of its arrays.

Torch is imported only to count a network.
"""

import math

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS, Trained, find_trained
from lt_rebalance.networks.known_costs import NetworkCost, find_cost
from lt_rebalance.studies.stage import ClassifierStage, GeneratorStage

_TRAINING_PASSES = 3
"""cost of a training step of a classifier, in forward passes: forward, and backward to inputs and to
weights"""
_BYTES_PER_TESTED = 12
"""bytes per image: its prediction, and its cell of the confusion matrix"""


def classifier_image_flop(stage: ClassifierStage) -> float:
    """Return the arithmetic of an image in training."""
    return _TRAINING_PASSES * _classifier_cost(stage).flop


def measuring_flop(stage: ClassifierStage) -> float:
    """Return the arithmetic of measuring a classifier once, on its test and its validation set."""
    spec = get_dataset_spec(stage.data.dataset)
    num_tested = sum(spec.test_counts_K) + stage.data.validation_per_class * spec.num_classes
    if stage.data.validation is not None:
        num_tested += sum(spec.validation_counts_K or ())
    return _classifier_cost(stage).flop * num_tested


def tested_bytes(stage: ClassifierStage) -> int:
    """Return the bytes that a result keeps of its test images."""
    return _BYTES_PER_TESTED * sum(get_dataset_spec(stage.data.dataset).test_counts_K)


def count_classifier(stage: ClassifierStage) -> int:
    """Return the parameters of the classifier of a stage."""
    return _classifier_cost(stage).num_parameters


def kept_bytes(stage: ClassifierStage | GeneratorStage) -> int:
    """Return the bytes that networks in training keep of an image for backward passes, in float32."""
    if isinstance(stage, GeneratorStage):
        # The partner sees fake and real items together.
        partner = _partner_cost(_trained(stage).partner, get_dataset_spec(stage.data.dataset))
        return _generator_cost(stage).kept_bytes + 2 * partner.kept_bytes
    return _classifier_cost(stage).kept_bytes


def generator_image_flop(stage: GeneratorStage) -> float:
    """Return the arithmetic of an image in training."""
    spec = get_dataset_spec(stage.data.dataset)
    generator, trained = _generator_cost(stage), _trained(stage)
    generator_passes = trained.generator_passes + trained.repeated_passes * generator.has_batch_norm
    partner = _partner_cost(trained.partner, spec)
    return generator_passes * generator.flop + trained.partner_passes * partner.flop


def grid_bytes(stage: GeneratorStage) -> int:
    """Return the bytes of a result's images: three rows for each class."""
    from lt_rebalance.stages.cgan_quality import GRID_IMAGES

    spec = get_dataset_spec(stage.data.dataset)
    return 3 * GRID_IMAGES * math.prod(spec.image_shape) * spec.num_classes


def count_generator(stage: GeneratorStage) -> int:
    """Return the parameters of the generator of a stage."""
    return _generator_cost(stage).num_parameters


def count_generator_training(stage: GeneratorStage) -> int:
    """Return the parameters of the generator of a stage and of its partner."""
    spec = get_dataset_spec(stage.data.dataset)
    return count_generator(stage) + _partner_cost(_trained(stage).partner, spec).num_parameters


def _trained(stage: GeneratorStage) -> Trained:
    return find_trained(stage.generator.architecture)


def _classifier_cost(stage: ClassifierStage) -> NetworkCost:
    architecture, spec = stage.classifier.architecture, get_dataset_spec(stage.data.dataset)
    if (known := find_cost(CLASSIFIERS.get(architecture, ""), spec)) is not None:
        return known
    from lt_rebalance.stages import counting

    return counting.count_classifier(architecture, spec)


def _generator_cost(stage: GeneratorStage) -> NetworkCost:
    architecture, spec = stage.generator.architecture, get_dataset_spec(stage.data.dataset)
    if (known := find_cost(GENERATORS.get(architecture, ""), spec)) is not None:
        return known
    from lt_rebalance.stages import counting

    return counting.count_generator(architecture, spec)


def _partner_cost(place: str, spec: DatasetSpec) -> NetworkCost:
    if (known := find_cost(place, spec)) is not None:
        return known
    from lt_rebalance.stages import counting

    return counting.count_partner(place, spec)
