"""Recipes of training: optimizer, schedule and augmentation; without torch."""

import math
from dataclasses import dataclass, field

from lt_rebalance.ground.plain import LATER, require_known

OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "step", "cosine")
AUGMENTATIONS = ("crop", "flip", "randaugment", "cutout")
"""in the order in which they are applied"""
ADAM_BETAS = (0.9, 0.999)
DECAY = 0.1
NUM_OPERATIONS, MAGNITUDE = 2, 9
RANDAUGMENT = (("num_operations", NUM_OPERATIONS, 1, 14), ("magnitude", MAGNITUDE, 0, 30))
"""its hyperparameters: default, lowest and highest"""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a classifier is trained, as part of its configuration."""

    learning_rate: float
    """of the optimizer; if it is scheduled, the highest"""
    beta1: float
    beta2: float
    optimizer: str = field(default="adam", metadata=LATER)
    """"adam" or "sgd\""""
    momentum: float = field(default=0.0, metadata=LATER)
    """of SGD"""
    nesterov: bool = field(default=False, metadata=LATER)
    """whether SGD uses Nesterov momentum"""
    weight_decay: float = field(default=0.0, metadata=LATER)
    """multiplied by a parameter and added to its gradient, for all parameters and both optimizers"""
    schedule: str = field(default="constant", metadata=LATER)
    """of the learning rate: "constant", "step" or "cosine"; `recipe.learning_rate` tells it from the step"""
    warm_up: float = field(default=0.0, metadata=LATER)
    """share of the budget in which the learning rate rises linearly"""
    milestones: str | None = field(default=None, metadata=LATER)
    """of schedule "step": shares of the budget, such as "0.8+0.9", at which the learning rate falls"""
    decay: float = field(default=DECAY, metadata=LATER)
    """of schedule "step": factor of the learning rate at each milestone"""
    augmentation: str = field(default="none", metadata=LATER)
    """augmentation of training images, such as "crop+flip+randaugment+cutout", in this order"""
    num_operations: int = field(default=NUM_OPERATIONS, metadata=LATER)
    """of RandAugment on an image"""
    magnitude: int = field(default=MAGNITUDE, metadata=LATER)
    """of all operations of RandAugment, 0 to 30"""


def check_recipe(recipe: Recipe) -> None:
    """Raise a ValueError if values are out of range or incompatible."""
    require_known("optimizer", recipe.optimizer, OPTIMIZERS)
    require_known("schedule", recipe.schedule, SCHEDULES)
    for name in ("momentum", "warm_up"):
        if not 0 <= getattr(recipe, name) < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(recipe, name)}")
    if recipe.weight_decay < 0:
        raise ValueError(f"weight_decay must be at least 0, got {recipe.weight_decay}")
    if recipe.optimizer != "sgd" and (recipe.momentum or recipe.nesterov):
        raise ValueError(
            f"momentum and nesterov are settings of optimizer 'sgd', got {recipe.optimizer!r}, whose "
            "momentum is beta1"
        )
    if recipe.nesterov and not recipe.momentum:
        raise ValueError("nesterov needs a momentum above 0, got 0; set momentum too")
    if recipe.optimizer == "sgd" and (recipe.beta1, recipe.beta2) != ADAM_BETAS:
        raise ValueError(
            "beta1 and beta2 are Adam's and act on nothing with optimizer 'sgd'; leave them at "
            f"{ADAM_BETAS[0]} and {ADAM_BETAS[1]}, got {recipe.beta1} and {recipe.beta2}"
        )
    if (recipe.schedule == "step") != (recipe.milestones is not None):
        raise ValueError(
            f"schedule 'step' needs milestones such as \"0.8+0.9\", and no other takes them; got schedule "
            f"{recipe.schedule!r} with milestones {recipe.milestones!r}"
        )
    if recipe.schedule != "step" and recipe.decay != DECAY:
        raise ValueError(
            f"decay belongs to schedule 'step', got {recipe.schedule!r} with decay {recipe.decay}"
        )
    if not 0 < recipe.decay < 1:
        raise ValueError(f"decay must be above 0 and below 1, got {recipe.decay}")
    shares = read_milestones(recipe.milestones)
    if shares and shares[0] < recipe.warm_up:
        raise ValueError(f"warm_up must end before the first milestone, {shares[0]}, got {recipe.warm_up}")
    is_random = "randaugment" in read_augmentation(recipe.augmentation)
    for name, default, low, high in RANDAUGMENT:
        if not low <= (value := getattr(recipe, name)) <= high:
            raise ValueError(f"{name} must be {low} to {high}, got {value}")
        if value != default and not is_random:
            raise ValueError(
                f"{name} belongs to augmentation 'randaugment', got {value} with {recipe.augmentation!r}"
            )


def read_milestones(text: str | None) -> tuple[float, ...]:
    """Return the shares of the budget that "0.8+0.9" names; ValueError unless they rise between 0 and 1."""
    if text is None:
        return ()
    try:
        shares = tuple(float(part) for part in text.split("+"))
    except ValueError:
        shares = ()
    if not shares or not all(a < b for a, b in zip((0.0, *shares), (*shares, 1.0), strict=True)):
        raise ValueError(
            f'milestones are shares of the budget that rise between 0 and 1, such as "0.8+0.9", got {text!r}'
        )
    return shares


def read_augmentation(text: str) -> tuple[str, ...]:
    """Return the names in "crop+flip"; ValueError for an unknown one, or another order than they act in."""
    if text == "none":
        return ()
    names = tuple(text.split("+"))
    for name in names:
        require_known("augmentation", name, ("none", *AUGMENTATIONS))
    if names != tuple(name for name in AUGMENTATIONS if name in names):
        raise ValueError(
            f"augmentation names each once, in the order {'+'.join(AUGMENTATIONS)} in which they act, "
            f"got {text!r}"
        )
    return names


def is_scheduled(recipe: Recipe) -> bool:
    """Whether the learning rate changes during the training."""
    return recipe.schedule != "constant" or recipe.warm_up > 0


def learning_rate(recipe: Recipe, step: int, num_steps: int) -> float:
    """Return the learning rate of a step, counted from 0, of a training of `num_steps` steps.

    It rises linearly to its full value in the last step of the warm-up (Goyal et al. 2017, arXiv 1706.02677,
    section 2.2). Then it is multiplied by `decay` from each milestone on, or falls along half a cosine
    (Loshchilov, Hutter 2017, arXiv 1608.03983, equation 5, one period down to 0).
    """
    num_warm = round(recipe.warm_up * num_steps)
    if step < num_warm:
        return recipe.learning_rate * (step + 1) / num_warm
    factor = 1.0
    if recipe.schedule == "step":
        passed = [share for share in read_milestones(recipe.milestones) if step >= round(share * num_steps)]
        factor = recipe.decay ** len(passed)
    elif recipe.schedule == "cosine":
        factor = (1 + math.cos(math.pi * (step - num_warm) / (num_steps - num_warm))) / 2
    return recipe.learning_rate * factor
