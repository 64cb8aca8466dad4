"""What a stage costs: arithmetic counted from its networks, throughput measured, time left estimated.

No torch, but where a network must be counted or a speed be measured.
"""

import statistics
from collections.abc import Mapping

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.networks.known_work import DISCRIMINATOR, ForwardWork, find_work
from lt_rebalance.store.records import Record
from lt_rebalance.studies.plan import upstream_key
from lt_rebalance.studies.stage import AnyStage, ClassifierStage
from lt_rebalance.studies.workload import stage_batching, stage_round_ends

# Multiples of a forward pass. Training a network: forward, and backward to inputs and to weights. A step of a
# CGAN passes real and fake images through the discriminator to train it, and fake ones once more, forward and
# backward to the inputs, to train the generator.
_TRAINING_PASSES = 3
_DISCRIMINATOR_PASSES = 2 * _TRAINING_PASSES + 2


def stage_flop(stage: AnyStage) -> float:
    """Return the floating-point operations of a stage, but for drawing synthetic images."""
    spec = get_dataset_spec(stage.data.dataset)
    round_ends = stage_round_ends(stage)
    flop = _training_flop_per_image(stage) * stage_batching(stage).images_seen(round_ends[-1])
    if isinstance(stage, ClassifierStage):
        num_tested = sum(spec.test_counts_K) + stage.data.validation_per_class * spec.num_classes
        flop += _classifier_work(stage.classifier.architecture, spec).flop * num_tested * len(round_ends)
    return flop


def _training_flop_per_image(stage: AnyStage) -> float:
    spec = get_dataset_spec(stage.data.dataset)
    if isinstance(stage, ClassifierStage):
        return _TRAINING_PASSES * _classifier_work(stage.classifier.architecture, spec).flop
    generator = _generator_work(stage.generator.architecture, spec)
    # Batch normalisation makes a step run the generator forward a second time.
    generator_passes = _TRAINING_PASSES + generator.has_batch_norm
    return generator_passes * generator.flop + _DISCRIMINATOR_PASSES * _discriminator_work(spec).flop


def _classifier_work(architecture: str, spec: DatasetSpec) -> ForwardWork:
    if (known := find_work(CLASSIFIERS[architecture], spec)) is not None:
        return known
    from lt_rebalance.stages.counting import count_classifier

    return count_classifier(architecture, spec)


def _generator_work(architecture: str, spec: DatasetSpec) -> ForwardWork:
    if (known := find_work(GENERATORS[architecture], spec)) is not None:
        return known
    from lt_rebalance.stages.counting import count_generator

    return count_generator(architecture, spec)


def _discriminator_work(spec: DatasetSpec) -> ForwardWork:
    if (known := find_work(DISCRIMINATOR, spec)) is not None:
        return known
    from lt_rebalance.stages.counting import count_discriminator

    return count_discriminator(spec)


class Throughput:
    """How fast stages of each kind train here, in FLOP/s, from what has been observed of them."""

    def __init__(self) -> None:
        self._observed: dict[str, dict[str, float]] = {}

    def observe(self, stage: AnyStage, share: float, train_s: float) -> None:
        """Learn that this share of a stage took so many seconds."""
        if share > 0 and train_s > 0:
            self._observed.setdefault(stage.kind, {})[stage.key] = share * stage_flop(stage) / train_s

    def observe_record(self, stage: AnyStage, record: Record) -> None:
        """Learn from a finished stage; one that diverged on the way says nothing."""
        if record.state == "complete":
            self.observe(stage, 1.0, record.timing.train_s)

    def calibrate(self, stage: AnyStage) -> None:
        """Measure a few training steps of a stage on made-up images, unless its kind is known already."""
        if stage.kind not in self._observed:
            self._observed[stage.kind] = {stage.key: _measure(stage)}

    def seconds(self, stage: AnyStage) -> float | None:
        """Return how long a stage will train, going by the other kind until its own has been observed.

        None while nothing at all is known.
        """
        observed = self._observed.get(stage.kind) or next(iter(self._observed.values()), None)
        return stage_flop(stage) / statistics.median(observed.values()) if observed else None


def _measure(stage: AnyStage) -> float:
    """Return the FLOP/s of a few training steps of a stage."""
    from lt_rebalance.stages.calibration import measure_image_s

    image_flop = _training_flop_per_image(stage)
    return image_flop / measure_image_s(stage, image_flop)


def estimate_remaining_s(
    pending: Mapping[str, AnyStage], throughput: Throughput, num_slots: int, done_shares: Mapping[str, float]
) -> float | None:
    """Return how long the pending stages take on so many slots, or None while that is not known.

    Args:
        done_shares: how much of a stage that is under way is done, by key; others have not begun.
    """
    seconds: dict[str, float] = {}
    for key, stage in pending.items():
        full_s = throughput.seconds(stage)
        if full_s is None:
            return None
        seconds[key] = full_s * (1 - done_shares.get(key, 0.0))
    chains = (seconds[key] + seconds.get(upstream_key(stage) or "", 0.0) for key, stage in pending.items())
    # Never less than the longest chain, however many slots there are.
    return max(sum(seconds.values()) / num_slots, max(chains, default=0.0))
