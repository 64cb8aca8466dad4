"""Typed, frozen configuration of data, methods, trainings and execution, checked on creation."""

import dataclasses
from dataclasses import dataclass, field

from lt_rebalance.ground.option_types import MOST_REPEATS
from lt_rebalance.ground.own_file import check_sha256, is_at_hand, is_own
from lt_rebalance.ground.plain import LATER, require_known, require_numbers, require_positive
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.methods.registry import MethodConfig, get_method
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.generators.registry import GENERATORS, find_trained
from lt_rebalance.training.recipe import Recipe, check_recipe

DEVICES = ("cpu", "cuda")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
EVALUATION_MODES = ("running_statistics", "batch_statistics")
SELECTIONS = ("last", "best_validation", "oracle_best_test")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train: passes through the training set, or a number of steps whatever its size."""

    epochs: int | None = None
    """passes through the training set; each is a round, with a test at its end"""
    steps: int | None = None
    """optimizer steps; 0 if a trained network is measured unchanged"""
    rounds: int | None = None
    """tests spread evenly over a budget in steps; None for a budget in epochs"""

    def __post_init__(self) -> None:
        require_numbers(self)
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"a budget is in epochs or in steps, got epochs={self.epochs} steps={self.steps}"
            )
        if (self.steps is None) != (self.rounds is None):
            raise ValueError("rounds belong to a budget in steps, and such a budget needs them")
        require_positive(epochs=self.epochs, steps=self.steps or None, rounds=self.rounds)
        for name, count in {"epochs": self.epochs, "rounds": self.rounds}.items():
            if count is not None and count > MOST_REPEATS:
                raise ValueError(f"{name} must be at most {MOST_REPEATS:,}, got {count}")
        if self.steps is not None and self.rounds is not None and self.rounds > max(1, self.steps):
            raise ValueError(f"rounds must be at most steps, got {self.rounds} rounds in {self.steps} steps")

    def round_ends(self, steps_per_pass: int) -> list[int]:
        """Return the step at which each round ends, given the steps of a pass through the training set."""
        if self.epochs is not None:
            return [steps_per_pass * (index + 1) for index in range(self.epochs)]
        assert self.steps is not None and self.rounds is not None
        return [self.steps * (index + 1) // self.rounds for index in range(self.rounds)]

    def shorten(self, share: float) -> "Budget":
        """Return a share of the budget, at least a step and a round."""
        if self.epochs is not None:
            return Budget(epochs=max(1, round(share * self.epochs)))
        assert self.steps is not None and self.rounds is not None
        steps = max(1, round(share * self.steps))
        return Budget(steps=steps, rounds=min(steps, max(1, round(share * self.rounds))))

    def __str__(self) -> str:
        return f"{self.epochs} epochs" if self.epochs is not None else f"{self.steps} steps"


NO_STEPS = Budget(steps=0, rounds=1)


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A conditional GAN and its training."""

    architecture: str
    """a name in GENERATORS, or of a builder in a user's file"""
    training_method: MethodConfig
    """how the training set of the CGAN itself is rebalanced; must not need a generator"""
    budget: Budget
    batch_size: int
    learning_rate: float
    """Adam's, for both networks"""
    beta1: float
    beta2: float
    file_sha256: str | None = field(default=None, metadata=LATER)
    """of the user's file with the architecture; follows from its name if that file is loaded"""
    diffaugment: bool = field(default=False, metadata=LATER)
    """whether real and fake images are augmented alike for the discriminator (Zhao et al. 2020)"""
    kl_weight: float = field(default=1.0, metadata=LATER)
    """of an autoencoder: the weight of the divergence of its codes relative to the reconstruction, beta of a
    beta-VAE"""

    def __post_init__(self) -> None:
        require_numbers(self)
        object.__setattr__(self, "file_sha256", check_sha256(self.architecture, self.file_sha256))
        if not is_own(self.architecture):
            require_known("generator", self.architecture, tuple(GENERATORS))
        if self.diffaugment and not find_trained(self.architecture).has_discriminator:
            raise ValueError(
                f"diffaugment changes what a discriminator sees, and {self.architecture} is trained without "
                "one; leave it at false"
            )
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight must be at least 0, got {self.kl_weight}")
        if self.kl_weight != 1 and find_trained(self.architecture).has_discriminator:
            raise ValueError(
                f"kl_weight is of an autoencoder, and {self.architecture} is trained with a discriminator; "
                f"leave it at 1, got {self.kl_weight}"
            )
        _check_training_method(self.training_method.name)
        _check_optimization(self.batch_size, self.learning_rate, self.beta1, self.beta2)


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(Recipe):
    """A classifier, its training and its test."""

    architecture: str
    """a name in CLASSIFIERS, or of a builder in a user's file"""
    loss: str
    """a name in LOSSES"""
    budget: Budget
    batch_size: int
    evaluation_mode: str
    """"running_statistics": evaluation mode; "batch_statistics": batch normalisation as in training"""
    selection: str
    """which round is reported: "last", "best_validation", or "oracle_best_test", which uses the test set"""
    file_sha256: str | None = field(default=None, metadata=LATER)
    """of the user's file with the architecture; follows from its name if that file is loaded"""

    def __post_init__(self) -> None:
        require_numbers(self)
        object.__setattr__(self, "file_sha256", check_sha256(self.architecture, self.file_sha256))
        check_recipe(self)
        if not is_own(self.architecture):
            require_known("classifier", self.architecture, tuple(CLASSIFIERS))
        require_known("loss", self.loss, tuple(LOSSES))
        require_known("evaluation mode", self.evaluation_mode, EVALUATION_MODES)
        require_known("selection", self.selection, SELECTIONS)
        _check_optimization(self.batch_size, self.learning_rate, self.beta1, self.beta2)

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether a test normalises by the images of its batches, and so leaves their statistics behind."""
        return self.evaluation_mode == "batch_statistics"

    def unmeasured(self) -> "ClassifierConfig":
        """Return the same training of a network that is not measured: its end, as it was trained."""
        return dataclasses.replace(self, selection="last", evaluation_mode="running_statistics")


def _check_training_method(name: str) -> None:
    if not is_at_hand(name):
        return
    method = get_method(name)
    if method.makes_images:
        raise ValueError(f"a CGAN cannot learn from a set made by method {name!r}")
    if not method.only_plans:
        raise ValueError(
            f"method {name!r} acts on the training of a classifier; a CGAN learns from a set that a method "
            "plans"
        )


def _check_optimization(batch_size: int, learning_rate: float, beta1: float, beta2: float) -> None:
    require_positive(batch_size=batch_size, learning_rate=learning_rate)
    for name, beta in {"beta1": beta1, "beta2": beta2}.items():
        if not 0 <= beta < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {beta}")


@dataclass(frozen=True, kw_only=True)
class Execution:
    """The arithmetic of a training; results of different executions agree only within rounding."""

    device: str
    """"cpu" or "cuda\""""
    precision: str
    """of products in forward and backward passes and of what layers return, logits of a test included;
    weights are always float32"""
    num_threads: int
    """CPU threads of one training"""
    torch_version: str

    def __post_init__(self) -> None:
        require_numbers(self)
        require_known("device", self.device, DEVICES)
        require_known("precision", self.precision, PRECISIONS)
        if self.precision == "tensorfloat32" and self.device != "cuda":
            raise ValueError(f"precision tensorfloat32 is arithmetic of a GPU, got device {self.device!r}")
        require_positive(num_threads=self.num_threads)
