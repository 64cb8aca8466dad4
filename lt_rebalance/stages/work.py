"""What each kind of stage computes and keeps: arithmetic and parameters of its networks, bytes of its arrays.

No torch, but where a network must be counted.
"""

import functools
import math

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.networks.known_work import DISCRIMINATOR, ForwardWork, find_work
from lt_rebalance.studies.stage import ClassifierStage, GeneratorStage

# Multiples of a forward pass. Training a network: forward, and backward to inputs and to weights. A step of a
# CGAN passes real and fake images through the discriminator to train it, and fake ones once more, forward and
# backward to the inputs, to train the generator.
_TRAINING_PASSES = 3
_DISCRIMINATOR_PASSES = 2 * _TRAINING_PASSES + 2
_BYTES_PER_TESTED = 12
"""of an image: its prediction, and its cell of the confusion matrix"""


def classifier_image_flop(stage: ClassifierStage) -> float:
    """Return the arithmetic of an image in training."""
    return _TRAINING_PASSES * _classifier_work(stage).flop


def measuring_flop(stage: ClassifierStage) -> float:
    """Return the arithmetic of measuring a classifier once, on its test and its validation set."""
    spec = get_dataset_spec(stage.data.dataset)
    num_tested = sum(spec.test_counts_K) + stage.data.validation_per_class * spec.num_classes
    if stage.data.validation is not None:
        num_tested += sum(spec.validation_counts_K or ())
    return _classifier_work(stage).flop * num_tested


def tested_bytes(stage: ClassifierStage) -> int:
    """Return what a result keeps of the images that it is tested on."""
    return _BYTES_PER_TESTED * sum(get_dataset_spec(stage.data.dataset).test_counts_K)


def count_classifier(stage: ClassifierStage) -> int:
    """Return the parameters of the classifier of a stage."""
    return _count_classifier(stage.classifier.architecture, get_dataset_spec(stage.data.dataset))


def kept_bytes(stage: ClassifierStage) -> int:
    """Return what a classifier in training keeps of an image for its backward pass, in float32."""
    from lt_rebalance.stages import counting

    return counting.count_kept(stage.classifier.architecture, get_dataset_spec(stage.data.dataset))


def generator_image_flop(stage: GeneratorStage) -> float:
    """Return the arithmetic of an image in training."""
    spec = get_dataset_spec(stage.data.dataset)
    generator = _generator_work(stage)
    # Batch normalisation makes a step run the generator forward a second time.
    generator_passes = _TRAINING_PASSES + generator.has_batch_norm
    return generator_passes * generator.flop + _DISCRIMINATOR_PASSES * _discriminator_work(spec).flop


def sheet_bytes(stage: GeneratorStage) -> int:
    """Return what a result keeps of images: three rows of them for each class."""
    from lt_rebalance.stages.cgan_quality import SHEET_IMAGES

    spec = get_dataset_spec(stage.data.dataset)
    return 3 * SHEET_IMAGES * math.prod(spec.image_shape) * spec.num_classes


def count_generator(stage: GeneratorStage) -> int:
    """Return the parameters of the generator of a stage."""
    return _count_generator(stage.generator.architecture, get_dataset_spec(stage.data.dataset))


def count_cgan(stage: GeneratorStage) -> int:
    """Return the parameters of the generator and the discriminator of a stage."""
    return count_generator(stage) + _count_discriminator(get_dataset_spec(stage.data.dataset))


def _classifier_work(stage: ClassifierStage) -> ForwardWork:
    architecture, spec = stage.classifier.architecture, get_dataset_spec(stage.data.dataset)
    if (known := find_work(CLASSIFIERS.get(architecture, ""), spec)) is not None:
        return known
    from lt_rebalance.stages import counting

    return counting.count_classifier(architecture, spec)


def _generator_work(stage: GeneratorStage) -> ForwardWork:
    architecture, spec = stage.generator.architecture, get_dataset_spec(stage.data.dataset)
    if (known := find_work(GENERATORS.get(architecture, ""), spec)) is not None:
        return known
    from lt_rebalance.stages import counting

    return counting.count_generator(architecture, spec)


def _discriminator_work(spec: DatasetSpec) -> ForwardWork:
    if (known := find_work(DISCRIMINATOR, spec)) is not None:
        return known
    from lt_rebalance.stages import counting

    return counting.count_discriminator(spec)


@functools.cache
def _count_classifier(name: str, spec: DatasetSpec) -> int:
    from lt_rebalance.networks.classifiers.registry import build_classifier
    from lt_rebalance.stages.counting import count_parameters

    return count_parameters(lambda: build_classifier(name, spec.num_classes, spec.image_shape))


@functools.cache
def _count_generator(name: str, spec: DatasetSpec) -> int:
    from lt_rebalance.networks.generators.registry import build_generator
    from lt_rebalance.stages.counting import count_parameters

    return count_parameters(lambda: build_generator(name, spec.num_classes, spec.image_shape))


@functools.cache
def _count_discriminator(spec: DatasetSpec) -> int:
    from lt_rebalance.networks.discriminator import Discriminator
    from lt_rebalance.stages.counting import count_parameters

    return count_parameters(lambda: Discriminator(spec.num_classes, spec.image_shape))
