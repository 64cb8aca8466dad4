"""The rebalancing methods by name, and the configuration of one. Shape suffix: K classes."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from lt_rebalance.ground.own_file import check_sha256, get_own, is_at_hand, is_own, resolve
from lt_rebalance.ground.plain import (
    LATER,
    config_from_dict,
    field_types,
    parse_value,
    require_numbers,
)
from lt_rebalance.methods.augmentation import AUGMENTATION
from lt_rebalance.methods.balanced_softmax import BALANCED_SOFTMAX
from lt_rebalance.methods.cgan import CGAN
from lt_rebalance.methods.checking import check_plan
from lt_rebalance.methods.class_balanced import CLASS_BALANCED
from lt_rebalance.methods.class_balanced_focal import CLASS_BALANCED_FOCAL
from lt_rebalance.methods.class_balanced_sampling import CLASS_BALANCED_SAMPLING
from lt_rebalance.methods.contract import Method, RebalancePlan
from lt_rebalance.methods.crt import CRT
from lt_rebalance.methods.cutmix import CUTMIX, CUTMIX_DRW
from lt_rebalance.methods.deep_smote import DEEP_SMOTE
from lt_rebalance.methods.focal import FOCAL
from lt_rebalance.methods.imbalanced_learn import find_sampler, is_sampler, numbers_as_words
from lt_rebalance.methods.knobs import KNOBS, check_knobs, list_knobs
from lt_rebalance.methods.ldam import COSINE, LDAM, LDAM_DRW
from lt_rebalance.methods.logit_adjusted_loss import LOGIT_ADJUSTED_LOSS
from lt_rebalance.methods.logit_adjustment import LOGIT_ADJUSTMENT
from lt_rebalance.methods.lws import LWS
from lt_rebalance.methods.mixup import MIXUP, MIXUP_DRW
from lt_rebalance.methods.nearest_class_mean import NEAREST_CLASS_MEAN
from lt_rebalance.methods.none import NONE
from lt_rebalance.methods.oversample import OVERSAMPLE
from lt_rebalance.methods.progressive_sampling import PROGRESSIVE_SAMPLING
from lt_rebalance.methods.remix import REMIX, REMIX_DRW
from lt_rebalance.methods.smote import ADASYN, BORDERLINE_SMOTE, SMOTE
from lt_rebalance.methods.sqrt_sampling import SQRT_SAMPLING
from lt_rebalance.methods.tau_norm import TAU_NORM
from lt_rebalance.methods.undersample import UNDERSAMPLE
from lt_rebalance.methods.weighted_cross_entropy import WEIGHTED_CROSS_ENTROPY


def get_method(name: str) -> Method:
    """Return a method by name: in METHODS, in a user's file that is loaded, or in imbalanced-learn.

    Raises:
        ValueError: unknown name.
    """
    if is_own(name):
        method: Method = get_own(name, Method)
        return method
    if is_sampler(name):
        return find_sampler(name)
    if name not in METHODS:
        raise ValueError(
            f"unknown method {name!r}; known: {', '.join(METHODS)}, or PATH.py:NAME, or a sampler of "
            "imbalanced-learn, as imblearn.over_sampling.SVMSMOTE"
        )
    return METHODS[name]


def split_options(asked: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options in a user's text for a method: "ldam:max_margin=0.3,scale=20".

    Raises:
        ValueError: an option without a value, or one that is given twice.
    """
    name, separator, text = asked.rpartition(":")
    if not separator or ("=" not in text and name.endswith(".py")):
        return asked, {}
    options: dict[str, Any] = {}
    for part in text.split(","):
        option, value = (each.strip() for each in part.partition("=")[::2])
        if not option or not value:
            raise ValueError(f"options of a method are NAME:OPTION=VALUE,OPTION=VALUE, got {asked!r}")
        if option in options:
            raise ValueError(f"an option of a method is given once, got {option} twice in {asked!r}")
        options[option] = parse_value(value)
    return name, options


def resolve_method(asked: str) -> str:
    """Return the text for a method with its options, a user's method by its name here."""
    name, options = split_options(asked)
    return resolve(name) + asked[len(name) :] if options else resolve(asked)


def check_draw(name: str, draw: str | None) -> None:
    """Raise a ValueError unless the method is known and offers the draw (None if it offers none)."""
    draws = get_method(name).draws
    if draw not in (draws or (None,)):
        raise ValueError(f"unknown draw {draw!r} of method {name!r}; known: {', '.join(draws) or 'none'}")


def fill_in_options(name: str, options: Any) -> Any:  # Any: a dataclass of the method's own, or its fields
    """Return the options of a method as its dataclass: the given ones, and its defaults for the others.

    Raises:
        ValueError: options that the method does not have, or values that it refuses.
    """
    declared = get_method(name).options
    if declared is None:
        if options is not None:
            others = "".join(map(name_holders, options if isinstance(options, Mapping) else ()))
            knobs = ", ".join(list_knobs(get_method(name)))
            but = f" but {knobs}" if knobs else ""
            raise ValueError(f"method {name!r} has no options{but}, got {options!r}{others}")
        return None
    if isinstance(options, declared):
        return options
    given = {} if options is None else options
    if is_sampler(name) and isinstance(given, Mapping):
        given = numbers_as_words(declared, given)
    for each in given if isinstance(given, Mapping) else ():
        if each not in field_types(declared):
            known = ", ".join((*field_types(declared), *list_knobs(get_method(name))))
            raise ValueError(f"method {name!r} has no option {each!r}; known: {known}{name_holders(each)}")
    for each, kind in field_types(declared).items():
        accepted = (int, float) if kind is float else (kind,)
        value = given.get(each) if isinstance(given, Mapping) else None
        if value is not None and (
            not isinstance(value, accepted) or isinstance(value, bool) > (kind is bool)
        ):
            raise ValueError(f"method.options.{each} must be a value of type {kind.__name__}, got {value!r}")
        if kind is float and isinstance(value, int):  # so that it has one name
            given = {**given, each: float(value)}
    filled: Any = config_from_dict(declared, given)
    require_numbers(filled)
    return filled


def part_options(name: str, asked: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the given options split into the method's own and the knobs of synthetic images."""
    declared = get_method(name).options
    own = () if declared is None else field_types(declared)
    known = [knob for knob in list_knobs(get_method(name)) if knob not in own]
    knobs = {option: value for option, value in asked.items() if option in known}
    return {option: value for option, value in asked.items() if option not in knobs}, knobs


def list_options(name: str) -> tuple[str, ...]:
    """Return the names of all options of a method: its own, and the knobs of synthetic images."""
    method = get_method(name)
    own = () if method.options is None else tuple(field_types(method.options))
    return (*own, *(knob for knob in list_knobs(method) if knob not in own))


def name_holders(option: str) -> str:
    """Return the methods that have an option, as the end of an error message; empty if there are none."""
    holders = [name for name in METHODS if option in list_options(name)]
    return f"; {option} is an option of {', '.join(holders)}" if holders else ""


def plan_rebalancing(
    name: str,
    draw: str | None,
    counts_K: Sequence[int],
    rng: np.random.Generator,
    fill_fraction: float = 1.0,
    options: Any = None,  # as `fill_in_options`
) -> RebalancePlan:
    """Plan one method on class counts.

    Args:
        name: a method in `METHODS`.
        draw: one of the method's draws; None for a method without any.
        counts_K: real images of each class, each at least 1.
        rng: the stream "resampling" of the seed.
        fill_fraction: share of the synthetic images to make, rounded to the nearest number in each class.
        options: the method's own, or fields of them; its defaults for all others.

    Raises:
        ValueError: unknown method or draw, a share or options that it does not have, or an empty class.
    """
    check_draw(name, draw)
    check_knobs(name, get_method(name), {"fill_fraction": fill_fraction})
    if min(counts_K) < 1:
        raise ValueError(f"every class needs at least one image, got counts {list(counts_K)}")
    own = fill_in_options(name, options)
    method = get_method(name)
    plan = check_plan(method.plan, method.plan(counts_K, draw, rng, own), counts_K)
    if any(plan.num_synthetic_K) and method.synthesize is None and not method.needs_generator:
        raise ValueError(
            f"the plan of method {name!r} asks for synthetic images, and nothing makes them; give the method "
            "a synthesize, or needs_generator=True"
        )
    num_synthetic_K = tuple(round(fill_fraction * count) for count in plan.num_synthetic_K)
    return replace(plan, num_synthetic_K=num_synthetic_K)


METHODS: dict[str, Method] = {
    "none": NONE,
    "undersample": UNDERSAMPLE,
    "oversample": OVERSAMPLE,
    "cgan": CGAN,
    "balanced_softmax": BALANCED_SOFTMAX,
    "sqrt_sampling": SQRT_SAMPLING,
    "mixup": MIXUP,
    "logit_adjustment": LOGIT_ADJUSTMENT,
    "crt": CRT,
    "weighted_cross_entropy": WEIGHTED_CROSS_ENTROPY,
    "class_balanced": CLASS_BALANCED,
    "focal": FOCAL,
    "class_balanced_focal": CLASS_BALANCED_FOCAL,
    "logit_adjusted_loss": LOGIT_ADJUSTED_LOSS,
    "cosine": COSINE,
    "ldam": LDAM,
    "ldam_drw": LDAM_DRW,
    "class_balanced_sampling": CLASS_BALANCED_SAMPLING,
    "progressive_sampling": PROGRESSIVE_SAMPLING,
    "mixup_drw": MIXUP_DRW,
    "cutmix": CUTMIX,
    "cutmix_drw": CUTMIX_DRW,
    "remix": REMIX,
    "remix_drw": REMIX_DRW,
    "lws": LWS,
    "tau_norm": TAU_NORM,
    "nearest_class_mean": NEAREST_CLASS_MEAN,
    "augmentation": AUGMENTATION,
    "smote": SMOTE,
    "borderline_smote": BORDERLINE_SMOTE,
    "adasyn": ADASYN,
    "deep_smote": DEEP_SMOTE,
}


class _Described(dict[str, Any]):
    """Options of a method whose file is not loaded, as described; hashable like a dataclass."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """A rebalancing method and how it chooses images."""

    name: str
    """a name in METHODS, of a method in a user's file, or of a sampler of imbalanced-learn"""
    draw: str | None
    """one of the method's draws; None for a method without any"""
    fill_fraction: float = field(default=1.0, metadata=LATER)
    """share of each class's gap to the largest that synthetic images fill; 1 for a method without them"""
    synthetic_weight: float = field(default=KNOBS["synthetic_weight"], metadata=LATER)
    """weight of a synthetic image in the loss, from 0 to 1; a real image has weight 1"""
    filter: str = field(default=KNOBS["filter"], metadata=LATER)
    """filter of generated images: "none" keeps all; "classifier_agrees" keeps images whose class a classifier
    trained on the unchanged real images predicts"""
    filter_attempts: int = field(default=KNOBS["filter_attempts"], metadata=LATER)
    """most draws of an image until the filter keeps one; after that the draw with the highest probability of
    its class is kept"""
    options: Any = field(default=None, metadata=LATER)
    """the method's own, given as a mapping or as its dataclass, and stored as that; None if it has none"""
    file_sha256: str | None = field(default=None, metadata=LATER)
    """of the user's file with the method; follows from the name if that file is loaded"""

    def __post_init__(self) -> None:
        require_numbers(self)
        object.__setattr__(self, "file_sha256", check_sha256(self.name, self.file_sha256))
        if not is_at_hand(self.name):
            # A description of what was run; to be used, it needs the file.
            if self.options is not None:
                object.__setattr__(self, "options", _Described(self.options))
            return
        check_draw(self.name, self.draw)
        check_knobs(self.name, get_method(self.name), {each: getattr(self, each) for each in KNOBS})
        object.__setattr__(self, "options", fill_in_options(self.name, self.options))

    @property
    def needs_first(self) -> bool:
        """Whether another training comes first: the first of two, or that of the filter's network."""
        return self.filter != "none" or (is_at_hand(self.name) and get_method(self.name).then is not None)

    def require_acting(self, num_classes: int, num_steps: int, steps_per_pass: int) -> None:
        """Raise a ValueError if a method is deferred beyond a training, or its sampling changes in no pass.

        The chances of classes are set when a pass begins: few passes may not show a change.
        """
        deferred = getattr(self.options, "deferred", 0)
        if num_steps and deferred > (latest := (num_steps - 1) / num_steps):
            raise ValueError(
                f"{self.label} begins after the last of {num_steps:,} steps; set deferred to at most "
                f"{int(1000 * latest) / 1000:g}, or leave it out"
            )
        order = get_method(self.name).order if is_at_hand(self.name) else None
        if order is None or not num_steps:
            return
        counts_K, options = np.arange(num_classes, 0, -1), self.options

        def is_changed(step: int) -> bool:
            first_K, chances_K = (order(counts_K, each / num_steps, options) for each in (0, step))
            return not np.array_equal(first_K / first_K.sum(), chances_K / chances_K.sum())

        starts = range(0, num_steps, steps_per_pass)
        tried = [*range(0, num_steps, max(1, num_steps // 1000)), num_steps - 1]
        if any(map(is_changed, reversed(starts))) or not any(map(is_changed, tried)):
            return
        last = starts[-1] / num_steps
        earlier = f"set deferred to at most {int(1000 * last) / 1000:g}, " * hasattr(options, "deferred")
        raise ValueError(
            "sampling that changes during a training must have changed when its last pass begins, got "
            f"{self.label} for {num_steps:,} steps in passes of {steps_per_pass:,}, the last from "
            f"{last:.3g} of the budget on; {earlier}take more steps or larger batches, or leave it out"
        )

    @property
    def label(self) -> str:
        """Its name in tables, which is also how a user writes it."""
        return f"{self.name}{self.settings_label}"

    @property
    def settings_label(self) -> str:
        """Its options that differ from the defaults, as a user writes them: ":tau=2.0", or nothing."""
        own = fields(self.options) if dataclasses.is_dataclass(self.options) else ()
        values = [(each.name, getattr(self.options, each.name), each.default) for each in own]
        values += [(knob, getattr(self, knob), default) for knob, default in KNOBS.items()]
        others = [f"{name}={value}" for name, value, default in values if value != default]
        return f":{','.join(others)}" if others else ""
