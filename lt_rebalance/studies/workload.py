"""The work of a stage: its items and its batches; impossible stages are refused."""

import functools
from collections.abc import Iterable

from lt_rebalance.data.at_hand import is_own_name
from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import DataConfig, count_short, kept_counts
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.arrays import MAX_CLASSES
from lt_rebalance.ground.imbalance import say_data
from lt_rebalance.ground.own_file import find_place, is_at_hand, is_own
from lt_rebalance.ground.seeding import numpy_stream
from lt_rebalance.ground.text import count
from lt_rebalance.images.apart import require_set_aside_apart
from lt_rebalance.methods.registry import MethodConfig, plan_rebalancing
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.networks.known_costs import find_cost
from lt_rebalance.studies.stage import AnyStage, ClassifierStage, GeneratorStage
from lt_rebalance.training.batches import Batching
from lt_rebalance.training.configs import ClassifierConfig, GeneratorConfig


def training_config(stage: AnyStage) -> GeneratorConfig | ClassifierConfig:
    """Return the configuration of the model that a stage trains."""
    return stage.generator if isinstance(stage, GeneratorStage) else stage.classifier


def count_items(stage: AnyStage) -> int:
    """Return how many items a stage learns from, including synthetic ones.

    Raises:
        ValueError: some class has no images left.
    """
    return _count_items(stage.data, stage.training_method, counts_seed(stage))[0]


def count_synthetic(stage: AnyStage) -> int:
    """Return how many of the items of a stage are synthetic; errors as for `count_items`."""
    return _count_items(stage.data, stage.training_method, counts_seed(stage))[1]


def describe_short(data: DataConfig, seeds: Iterable[int]) -> str:
    """Return in words how many classes have fewer images than the cut requires; empty for none."""
    spec = get_dataset_spec(data.dataset)
    available_K = [number - data.validation_per_class for number in spec.train_counts_K]
    needed = seeds if data.class_order == "permuted" else [0]
    counts = (count_short(available_K, data.cut, data.class_order, seed) for seed in needed)
    num_short = max(counts, default=0)
    if num_short == 0:
        return ""
    return (
        f"{data.dataset}: {num_short} of {spec.num_classes} classes with fewer images than "
        f"{say_data(data.label)} requires, all of which are kept"
    )


def describe_batches(data: DataConfig, classifier: ClassifierConfig) -> str:
    """Say if scores depend on the order in which images are stored; empty if they do not.

    Validation sets and a user's splits are stored class by class, so that a batch of them has one class.
    """
    is_by_class = data.has_validation or is_own_name(data.dataset)
    if not classifier.uses_batch_statistics or not is_by_class:
        return ""
    return (
        f"{data.dataset}: its test or validation images are stored by class, and batches are tested with "
        "their own statistics, as the paper's code does, so that scores depend on the order; --set "
        "classifier.evaluation_mode=running_statistics or --protocol sound avoids it"
    )


def counts_seed(stage: AnyStage) -> int:
    """Return everything that the class counts of a stage derive from its seeds; 0 for nothing."""
    return stage.data_seed if stage.data.class_order == "permuted" else 0


def stage_batching(stage: AnyStage) -> Batching:
    """Return the batches of the items of a stage; `smallest` is 1 wherever it makes no difference.

    Raises:
        ValueError: as `count_items`, or its network cannot learn from batches this small.
    """
    config = training_config(stage)
    section = "generator" if isinstance(stage, GeneratorStage) else "classifier"
    num_items = count_items(stage)
    has_single = 1 in (num_items, config.batch_size, num_items % config.batch_size)
    # An unknown network may refuse images of this shape.
    smallest = smallest_batch(stage) if has_single or not _is_known(stage) else 1
    if min(num_items, config.batch_size) < smallest:
        raise ValueError(
            f"{config.architecture} normalises over a batch and cannot learn from fewer than {smallest} "
            f"items in a batch, got {count(num_items, 'item')} in batches of {config.batch_size}; set "
            f"{section}.batch_size to {smallest} or more and learn from at least {smallest} images, or take "
            f"another {section}"
        )
    return Batching(num_items=num_items, batch_size=config.batch_size, smallest=smallest)


def require_workable(stage: AnyStage) -> None:
    """Raise a ValueError that names a stage unless it, and all that it needs, can learn and be tested."""
    for upstream in stage.upstreams:
        require_workable(upstream)
    try:
        spec = get_dataset_spec(stage.data.dataset)
        _require_countable(spec)
        _require_own_method(stage)
        num_steps, steps_per_pass = stage_round_ends(stage)[-1], stage_batching(stage).steps_per_pass
        _require_own_network(stage)
        stage.training_method.require_acting(spec.num_classes, num_steps, steps_per_pass)
        require_set_aside_apart(stage.data, stage.data_seed)
        if isinstance(stage, ClassifierStage) and stage.classifier.uses_batch_statistics:
            _require_testable(stage)
    except ValueError as error:
        if find_place(error) is not None:
            raise  # the message has file and line
        raise ValueError(f"{stage}: {error}") from None


def _require_own_method(stage: AnyStage) -> None:
    """Try a user's method; registered methods are tried by their tests."""
    name = stage.training_method.name
    if not (is_own(name) and is_at_hand(name)):  # one that is not loaded can be described, but not trained
        return
    from lt_rebalance.studies.trying import require_method

    architecture = stage.classifier.architecture if isinstance(stage, ClassifierStage) else None
    require_method(stage.training_method, get_dataset_spec(stage.data.dataset), architecture)


def _require_own_network(stage: AnyStage) -> None:
    """Try a registered method on a user's network, which `stage_batching` has tried."""
    if not isinstance(stage, ClassifierStage) or is_own(stage.training_method.name):
        return
    architecture = stage.classifier.architecture
    if is_own(architecture) and is_at_hand(architecture):
        from lt_rebalance.studies.trying import require_last_layer

        require_last_layer(stage.training_method, get_dataset_spec(stage.data.dataset), architecture)


def _require_countable(spec: DatasetSpec) -> None:
    if spec.num_classes > MAX_CLASSES:
        raise ValueError(
            f"a data set may have up to {MAX_CLASSES:,} classes, as predictions are stored in 16 bits, got "
            f"{spec.num_classes:,} of {spec.name}; merge its rarest classes, or take another data set"
        )


def _require_testable(stage: ClassifierStage) -> None:
    num_tested = sum(get_dataset_spec(stage.data.dataset).test_counts_K)
    if num_tested == 1 and (smallest := smallest_batch(stage)) > 1:
        raise ValueError(
            f"{stage.classifier.architecture} normalises over a batch, and with classifier.evaluation_mode "
            f"batch_statistics it cannot be tested on fewer than {smallest} images, got {num_tested}; set it "
            "to running_statistics"
        )


def stage_round_ends(stage: AnyStage) -> list[int]:
    """Return the step at which each round of a stage ends; errors as `stage_batching`."""
    return training_config(stage).budget.round_ends(stage_batching(stage).steps_per_pass)


def _is_known(stage: AnyStage) -> bool:
    """Whether the model of a stage has been built for images of this shape before."""
    is_generator = isinstance(stage, GeneratorStage)
    registry = GENERATORS if is_generator else CLASSIFIERS
    place = registry.get(training_config(stage).architecture, "")  # a user's model is in none
    return find_cost(place, get_dataset_spec(stage.data.dataset)) is not None


def smallest_batch(stage: AnyStage) -> int:
    """Return the smallest batch that the model of a stage can train on, 1 or 2, found by trying."""
    # Here, not above: it needs torch, and few plans have a batch of one.
    from lt_rebalance.training.batching import smallest_classifier_batch, smallest_generator_batch

    spec = get_dataset_spec(stage.data.dataset)
    if isinstance(stage, GeneratorStage):
        return smallest_generator_batch(stage.generator.architecture, spec)
    return smallest_classifier_batch(stage.classifier.architecture, spec)


@functools.cache
def _count_items(data: DataConfig, method: MethodConfig, seed: int) -> tuple[int, int]:
    """Return the number of items, and of synthetic ones among them."""
    spec = get_dataset_spec(data.dataset)
    available_K = [number - data.validation_per_class for number in spec.train_counts_K]
    counts_K = kept_counts(available_K, data.cut, data.class_order, seed)
    rng = numpy_stream(seed, "resampling")
    plan = plan_rebalancing(method.name, method.draw, counts_K, rng, method.fill_fraction, method.options)
    return sum(plan.counts_K), sum(plan.num_synthetic_K)
