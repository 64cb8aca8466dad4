"""Say what of a configuration changes nothing."""

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.data.long_tail import DataConfig, kept_counts
from lt_rebalance.ground.imbalance import say_data
from lt_rebalance.ground.own_file import is_own
from lt_rebalance.methods.contract import plan_all
from lt_rebalance.methods.registry import MethodConfig, get_method


def describe_idle(config: MethodConfig, data: DataConfig, loss: str) -> str:
    """Return in words what changes nothing: the loss of a classifier, or its method; empty if both act.

    Args:
        loss: as `ClassifierConfig.loss`.
    """
    method = get_method(config.name)
    if method.loss is not None and loss != "cross_entropy":
        return f"classifier.loss {loss} changes nothing for {config.label}, which has a loss of its own"
    available_K = [n - data.validation_per_class for n in get_dataset_spec(data.dataset).train_counts_K]
    counts_K = kept_counts(available_K, data.cut, data.class_order, 0)
    # A plan of a user may do anything with equal classes.
    if method.plan is not plan_all and not is_own(config.name) and min(counts_K) == max(counts_K):
        return (
            f"{config.label} has nothing to balance: of {data.dataset}, {say_data(data.label)}, every class "
            f"has {counts_K[0]:,} images"
        )
    return ""
