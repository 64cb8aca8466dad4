"""The protocols: `paper`, `sound` (good practice) and `cifar_lt` (the field's)."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import OWN_SPLIT, DataConfig, brings_validation, parse_c, parse_ratio
from lt_rebalance.ground.imbalance import CUT_PROFILES
from lt_rebalance.ground.own_file import is_own
from lt_rebalance.ground.plain import require_known
from lt_rebalance.methods.registry import MethodConfig, get_method, part_options, split_options
from lt_rebalance.networks.generators.registry import GENERATORS, find_trained
from lt_rebalance.studies.study import Cell
from lt_rebalance.training.configs import Budget, ClassifierConfig, GeneratorConfig

NATURAL = "natural"
"""name on the axes of a training set with every image, under every method"""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice on which the paper's text, its code and good practice differ, by name.

    Defaults are the values on which all three agree.
    """

    name: str
    """its name in tables"""
    loss: str
    evaluation_mode: str
    selection: str
    classifier_budget: Budget
    oversampling: str
    undersampling: str
    subset_draw: str
    class_order: str
    generator_training_method: str
    """method that makes the training set of the CGAN"""
    generator_budget: Budget
    classifier_architecture: str = "paper_cnn"
    classifier_batch_size: int = 100
    classifier_learning_rate: float = 5e-4
    classifier_beta1: float = 0.9
    classifier_beta2: float = 0.999
    generator_batch_size: int = 256
    generator_learning_rate: float = 2e-4
    generator_beta1: float = 0.9
    generator_beta2: float = 0.999
    takes_generator_settings: bool = True
    """whether Adam follows the authors of an architecture, if they recommend values, instead of the above"""
    validation_per_class: int = 0
    classifier_recipe: tuple[tuple[str, Any], ...] = ()
    """further fields of ClassifierConfig, by name; a flip is left out if the data set must not be flipped"""

    def method_config(self, asked: str) -> MethodConfig:
        """Return a method, given in the form of `split_options`.

        Its draw is that of this protocol, else its first, if it has any.
        """
        name, asked_options = split_options(asked)
        own, knobs = part_options(name, asked_options)
        draws = {"oversample": self.oversampling, "undersample": self.undersampling}
        first = next(iter(get_method(name).draws), None)
        return MethodConfig(name=name, draw=draws.get(name, first), options=own or None, **knobs)


def get_protocol(name: str) -> Protocol:
    """Return a protocol by name; ValueError for an unknown one."""
    require_known("protocol", name, tuple(PROTOCOLS))
    return PROTOCOLS[name]


def read_level(level: str | None) -> dict[str, str | None]:
    """Return `c`, `profile` and `ratio` of a `DataConfig` for a level of the axes.

    Args:
        level: a C such as "7/9"; a profile with its ratio, "exp 100"; NATURAL or None, every image.

    Raises:
        ValueError: C outside (0, 1), or an invalid ratio.
    """
    level = None if level == NATURAL else level
    profile, _, ratio = (level or "").partition(" ")
    if profile in CUT_PROFILES:
        return {"c": None, "profile": profile, "ratio": str(parse_ratio(ratio))}
    return {"c": None if level is None else str(parse_c(level)), "profile": None, "ratio": None}


def make_cell(protocol: Protocol, *, dataset: str, c: str | None, method: str, generator: str | None) -> Cell:
    """Return the cell of one protocol at one point of the axes; `c` as `read_level` takes it.

    Raises:
        ValueError: unknown names, C outside (0, 1), or an incompatible method and generator.
    """
    generator_config, level = None, read_level(c)
    is_cut = any(level.values())
    data: dict[str, Any] = {**_choose_validation(protocol, dataset), **level}
    if generator is not None:
        adam: dict[str, Any] = {
            "learning_rate": protocol.generator_learning_rate,
            "beta1": protocol.generator_beta1,
            "beta2": protocol.generator_beta2,
        }
        if protocol.takes_generator_settings:
            adam |= find_trained(generator).settings
        generator_config = GeneratorConfig(
            architecture=generator,
            training_method=protocol.method_config(protocol.generator_training_method),
            budget=protocol.generator_budget,
            batch_size=protocol.generator_batch_size,
            **adam,
        )
    return Cell(
        protocol=protocol.name,
        data=DataConfig(
            dataset=dataset,
            subset_draw=protocol.subset_draw if is_cut else None,
            class_order=protocol.class_order if is_cut else None,
            **data,
        ),
        method=protocol.method_config(method),
        generator=generator_config,
        classifier=ClassifierConfig(
            architecture=protocol.classifier_architecture,
            loss=protocol.loss,
            budget=protocol.classifier_budget,
            batch_size=protocol.classifier_batch_size,
            learning_rate=protocol.classifier_learning_rate,
            beta1=protocol.classifier_beta1,
            beta2=protocol.classifier_beta2,
            evaluation_mode=protocol.evaluation_mode,
            selection=protocol.selection,
            **_fit_recipe(protocol, dataset),
        ),
    )


def _choose_validation(protocol: Protocol, dataset: str) -> dict[str, Any]:
    """Return the validation option of a protocol with a validation set: the data set's own, if any."""
    if protocol.validation_per_class and brings_validation(dataset):
        return {"validation_per_class": 0, "validation": OWN_SPLIT}
    return {"validation_per_class": protocol.validation_per_class}


def _fit_recipe(protocol: Protocol, dataset: str) -> dict[str, Any]:
    """Return the further classifier fields of a protocol, without a flip that a data set does not allow."""
    recipe = dict(protocol.classifier_recipe)
    names = recipe.get("augmentation", "none").split("+")
    if "flip" in names and not get_dataset_spec(dataset).may_flip:
        recipe["augmentation"] = "+".join(name for name in names if name != "flip") or "none"
    return recipe


def grid(
    protocols: Sequence[Protocol],
    *,
    dataset: str,
    cs: Sequence[str | None],
    methods: Sequence[str],
    generators: Sequence[str],
) -> tuple[Cell, ...]:
    """Return the cells of the product of the axes, without duplicates and meaningless combinations.

    Generators multiply only the methods that need one. None among `cs` is the whole set as a reference,
    on a balanced set the ceiling, under the method "none" alone; NATURAL is the same set under every method.

    Raises:
        ValueError: unknown names, values out of range, or a method without the generator that it needs.
    """
    for generator in generators:
        if not is_own(generator):
            require_known("generator", generator, tuple(GENERATORS))
    needs = {method: get_method(split_options(method)[0]).needs_generator for method in methods}
    for method in methods:
        if needs[method] and not generators:
            raise ValueError(f"method {method!r} needs at least one generator, got none")
    cells = {
        make_cell(protocol, dataset=dataset, c=c, method=method, generator=generator): None
        for protocol in protocols
        for c in cs
        for method in (methods if c is not None else ["none"])
        for generator in (generators if needs.get(method) else [None])
    }
    return tuple(cells)


def step_budget(steps: int, max_rounds: int = 30) -> Budget:
    """Return a budget in steps with rounds of at least 100 steps, and at most this many rounds."""
    return Budget(steps=steps, rounds=max(1, min(max_rounds, steps // 100)))


# Good practice: logits in the loss, evaluation mode, random draws per seed, equal steps.
_SOUND = Protocol(
    name="sound",
    loss="cross_entropy",
    evaluation_mode="running_statistics",
    selection="last",
    classifier_budget=step_budget(18_000),
    oversampling="random",
    undersampling="random",
    subset_draw="per_seed",
    class_order="label",
    generator_training_method="oversample",
    generator_budget=step_budget(23_500, max_rounds=100),
)

PROTOCOLS = {
    # The published code. It trained CGANs for 100 epochs and used the weights saved after 96, which later
    # steps cannot change: 96 epochs are trained.
    "paper": Protocol(
        name="paper",
        loss="double_softmax",
        evaluation_mode="batch_statistics",
        selection="last",
        classifier_budget=Budget(epochs=30),
        oversampling="cyclic",
        undersampling="first",
        subset_draw="paper",
        class_order="label",
        generator_training_method="oversample",
        generator_budget=Budget(epochs=96),
        takes_generator_settings=False,
    ),
    "sound": _SOUND,
    # The field's comparison of long-tail methods on CIFAR-LT: the defaults of cifar_train.py of Cao et al.
    # 2019 (arXiv 1906.07413, github.com/kaidic/LDAM-DRW, commit 65e2597): no Nesterov, 1/100 of the rate
    # after 160 of 200 epochs and 1/10,000 after 180. Deviations: the rate rises by step, where theirs rises
    # by epoch over the same 5; images are not standardised by channel; initial weights are torch's own; the
    # last epoch is reported, where theirs prints the best on the test set; a weighted loss is not divided by
    # the weights of its batch (docs/settings.md). `--set classifier.weight_decay=5e-4` is the other weight
    # decay in use.
    "cifar_lt": dataclasses.replace(
        _SOUND,
        name="cifar_lt",
        classifier_budget=Budget(epochs=200),
        classifier_architecture="resnet32",
        classifier_batch_size=128,
        classifier_learning_rate=0.1,
        classifier_recipe=(
            ("optimizer", "sgd"),
            ("momentum", 0.9),
            ("weight_decay", 2e-4),
            ("schedule", "step"),
            ("warm_up", 0.025),
            ("milestones", "0.8+0.9"),
            ("decay", 0.01),
            ("augmentation", "crop+flip"),
        ),
    ),
}

ADAM_PROTOCOLS = {name: each for name, each in PROTOCOLS.items() if not each.classifier_recipe}
"""protocols that a search may start from: search spaces are those of Adam"""
