"""Search spaces: the settings that a search of a component may change."""

from collections.abc import Mapping

from lt_rebalance.ground.own_file import is_at_hand
from lt_rebalance.methods.domains import Choice, Domain, Range, domains_of
from lt_rebalance.methods.registry import get_method
from lt_rebalance.studies.study import Cell

SearchSpace = Mapping[str, Domain]
"""by name of the setting"""

# Ranges by field. A batch never exceeds the protocols' own: at a budget in steps a larger one would be more
# work, not a better setting. Stored searches are compared by units as well: never reword one.
CLASSIFIER_SPACE: SearchSpace = {
    "learning_rate": Range(low=5e-5, high=1e-2, is_log=True, unit="Adam's step size"),
    "beta1": Range(low=0.5, high=0.99, unit="share of the mean gradient kept at a step"),
    "beta2": Choice(values=(0.9, 0.99, 0.999), unit="share of the mean squared gradient kept at a step"),
    "batch_size": Choice(values=(25, 50, 100), unit="images a step"),
}

GENERATOR_SPACE: SearchSpace = {
    "learning_rate": Range(low=2e-5, high=2e-3, is_log=True, unit="Adam's step size, for both networks"),
    "beta1": Range(low=0.0, high=0.95, unit="share of the mean gradient kept at a step"),
    "beta2": Choice(values=(0.9, 0.99, 0.999), unit="share of the mean squared gradient kept at a step"),
    "batch_size": Choice(values=(64, 128, 256), unit="real images a step"),
}

METHOD = "method"
"""the component of a search whose space is `method_space`"""
SEARCH_SPACES = {"classifier": CLASSIFIER_SPACE, "generator": GENERATOR_SPACE}

STEP_SHARES = (16, 4, 1)
"""a method with a shorter option is also tried at these parts of its budget"""


def method_space(cell: Cell) -> SearchSpace:
    """Return the search space of a method, by dotted field: learning rates and the method's options.

    If the method's file is not loaded, its options are unknown.
    """
    space: dict[str, Domain] = {"classifier.learning_rate": CLASSIFIER_SPACE["learning_rate"]}
    if cell.generator is not None:
        space["generator.learning_rate"] = GENERATOR_SPACE["learning_rate"]
    if not is_at_hand(cell.method.name):
        return space
    method = get_method(cell.method.name)
    steps = cell.classifier.budget.steps
    if method.may_train_less and steps is not None:
        shares = tuple(dict.fromkeys(max(1, steps // share) for share in STEP_SHARES))
        if len(shares) > 1:
            space["classifier.budget.steps"] = Choice(values=shares, unit="optimizer steps")
    return space | {f"{OPTIONS}{name}": domain for name, domain in domains_of(method.options).items()}


OPTIONS = "method.options."
"""prefix of the options of a method"""
