"""Check what the moments of a method return.

Shape suffixes: L lanes, B items of a batch, C H W image, K classes, P labels of a mixed item.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.own_file import WrongReturnError
from lt_rebalance.methods.contract import Mixed, RebalancePlan

if TYPE_CHECKING:
    from torch import nn

_NEARLY_1 = 1 + 1e-5
"""tolerance for rounding beyond the range"""


def check_plan(
    function: Any, plan: Any, counts_K: Sequence[int]
) -> RebalancePlan:  # Any: what a user's code returns
    """Return the plan that a method made of these class counts.

    Raises:
        WrongReturnError: it is not a plan, or names items that do not exist.
    """
    if not isinstance(plan, RebalancePlan):
        raise WrongReturnError(function, f"plan must return a RebalancePlan, got {say_value(plan)}")
    if not all(isinstance(each, tuple | list) for each in (plan.positions_by_class, plan.num_synthetic_K)):
        got = f"{say_value(plan.positions_by_class)} and {say_value(plan.num_synthetic_K)}"
        raise WrongReturnError(function, f"plan must return tuples with a value for each class, got {got}")
    if not len(plan.positions_by_class) == len(plan.num_synthetic_K) == len(counts_K):
        raise WrongReturnError(
            function,
            f"plan must plan for each of {len(counts_K)} classes, got positions for "
            f"{len(plan.positions_by_class)} and synthetic images for {len(plan.num_synthetic_K)}",
        )
    for label, (positions, count) in enumerate(zip(plan.positions_by_class, counts_K, strict=True)):
        array = np.asarray(positions)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise WrongReturnError(function, f"plan: positions of class {label} must be whole numbers")
        if array.size and not 0 <= array.min() <= array.max() < count:
            raise WrongReturnError(
                function,
                f"plan: positions of class {label} must be at least 0 and below {count}, "
                f"got {array.min()} to {array.max()}",
            )
    if any(not isinstance(count, int | np.integer) or count < 0 for count in plan.num_synthetic_K):
        raise WrongReturnError(
            function, f"plan must plan whole numbers of synthetic images, got {plan.num_synthetic_K}"
        )
    if not sum(plan.counts_K):
        raise WrongReturnError(function, "plan must leave something to train on, got no item of any class")
    return plan


def synthesize_checked(
    function: Any,  # Any: as above
    images_by_class: Sequence[NDArray[np.float32]],
    num_synthetic_K: Sequence[int],
    rng: np.random.Generator,
    options: Any,
) -> NDArray[np.float32]:
    """Return what `synthesize` makes.

    Raises:
        WrongReturnError: it does not have the right number of images, finite and from -1 to 1.
    """
    made = function(images_by_class, num_synthetic_K, rng, options)
    shape = (sum(num_synthetic_K), *images_by_class[0].shape[1:])
    rule = f"synthesize must return synthetic_SCHW, an array of {shape} of float32 from -1 to 1"
    if not isinstance(made, np.ndarray) or made.shape != shape or made.dtype != np.float32:
        raise WrongReturnError(function, f"{rule}, got {say_value(made)}")
    if made.size and not (np.isfinite(made).all() and made.min() >= -_NEARLY_1 and made.max() <= _NEARLY_1):
        raise WrongReturnError(function, f"{rule}, got values from {made.min()} to {made.max()}")
    return made


def check_chances(function: Any, chances_K: Any, num_classes: int) -> NDArray[np.float64]:  # Any: as above
    """Return what `order` made of the counts of `num_classes` classes.

    Raises:
        WrongReturnError: it is not one chance per class, finite, at least 0 and not all 0.
    """
    rule = f"order must return chances_K, {num_classes} finite numbers of at least 0, not all 0, as an array"
    if not isinstance(chances_K, np.ndarray) or chances_K.shape != (num_classes,):
        raise WrongReturnError(function, f"{rule}, got {say_value(chances_K)}")
    if chances_K.dtype.kind not in "iuf":
        raise WrongReturnError(function, f"{rule}, got numbers of type {chances_K.dtype}")
    if not np.isfinite(chances_K).all() or chances_K.min() < 0 or not chances_K.any():
        raise WrongReturnError(function, f"{rule}, got {chances_K.tolist()}")
    return chances_K


def check_drawn(function: Any, drawn: Any, num_items: int) -> tuple[NDArray[Any], ...]:  # Any: as above
    """Return what `mix.draw` drew for a batch of `num_items` items.

    Raises:
        WrongReturnError: it is not a tuple of arrays of numbers with a first axis of that length.
    """
    rule = f"mix.draw must return a tuple of arrays of numbers with a first axis of {num_items} items"
    if not isinstance(drawn, tuple):
        raise WrongReturnError(function, f"{rule}, got {say_value(drawn)}")
    for each in drawn:
        is_array = isinstance(each, np.ndarray) and each.dtype.kind in "iufb"
        if not is_array or each.shape[:1] != (num_items,):
            raise WrongReturnError(function, f"{rule}, got {say_value(each)} in it")
    return drawn


def check_tensor(function: Any, words: str, tensor: Any, shape: Sequence[int]) -> None:  # Any: as above
    """Raise a WrongReturnError unless a value is a tensor of floats of this shape.

    Args:
        words: the rule, such as "loss must return losses_LB".
    """
    is_float = getattr(tensor, "is_floating_point", lambda: False)()
    if not is_float or tuple(tensor.shape) != tuple(shape):
        got = say_value(tensor)
        raise WrongReturnError(function, f"{words} of shape {tuple(shape)} in floating point, got {got}")


def check_mixed(function: Any, mixed: Any, images_shape: Sequence[int]) -> Mixed:  # Any: as above
    """Return what `mix.apply` made of images_LBCHW.

    Raises:
        WrongReturnError: it is not a Mixed, or its tensors do not fit the images.
    """
    words = "mix.apply must return a Mixed with"
    if not isinstance(mixed, Mixed):
        raise WrongReturnError(function, f"mix.apply must return a Mixed, got {say_value(mixed)}")
    check_tensor(function, f"{words} images_LBCHW", mixed.images_LBCHW, images_shape)
    labels_LBP, num_axes = mixed.labels_LBP, len(images_shape[:2])
    if str(getattr(labels_LBP, "dtype", "")) != "torch.int64" or (
        labels_LBP.ndim != num_axes + 1 or tuple(labels_LBP.shape[:-1]) != tuple(images_shape[:2])
    ):
        shape = ", ".join(map(str, images_shape[:2]))
        got = say_value(labels_LBP)
        raise WrongReturnError(function, f"{words} labels_LBP of shape ({shape}, P) as int64, got {got}")
    check_tensor(function, f"{words} weights_LBP", mixed.weights_LBP, labels_LBP.shape)
    return mixed


def check_head(function: Any, layer: Any) -> "nn.Module":  # Any: as above
    """Return the layer that `head` makes.

    Raises:
        WrongReturnError: it is not a module.
    """
    from torch import nn

    if not isinstance(layer, nn.Module):
        raise WrongReturnError(function, f"head must return a torch.nn.Module, got {say_value(layer)}")
    return layer


def check_share(function: Any, share: Any) -> float:  # Any: as above
    """Return what `then.budget_share` says.

    Raises:
        WrongReturnError: it is not a number above 0 and at most 1.
    """
    is_number = isinstance(share, int | float) and not isinstance(share, bool)
    if not is_number or not 0 < share <= 1:
        words = "then.budget_share must return a number above 0 and at most 1"
        raise WrongReturnError(function, f"{words}, got {say_value(share)}")
    return float(share)


def say_value(value: Any) -> str:  # Any: as above
    """Return a value in a few words: a shape, a number, a type."""
    if isinstance(value, int | float | str | None):
        return repr(value)
    if (shape := getattr(value, "shape", None)) is not None:
        return f"{tuple(shape)} of {value.dtype}" if hasattr(value, "dtype") else f"{tuple(shape)}"
    return f"one of type {type(value).__name__}"
