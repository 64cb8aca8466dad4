"""Checks of cRT: what is kept, what is trained again, from which weights, on which items."""

import numpy as np
import pytest
import torch

from lt_rebalance.methods.registry import METHODS, MethodConfig
from tests.methods.toy import configure, finish, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

LAST = ("14.weight", "14.bias")


def first_weights(seed: int = 0, **changes: object) -> dict[str, torch.Tensor]:
    training = finish(make_training(configure("none"), [seed], **changes))
    return {name: tensor.clone() for name, tensor in training.lanes[0].network.state_dict().items()}


def test_second_training_changes_the_last_layer_alone() -> None:
    weights = first_weights()
    (lane,) = finish(make_training(configure("crt"), first_weights=[weights])).lanes
    changed = [
        name for name, tensor in lane.network.state_dict().items() if not torch.equal(tensor, weights[name])
    ]
    assert sorted(changed) == sorted(LAST)  # statistics of batches stay too


def test_last_layer_begins_anew_as_a_function_of_the_seed() -> None:
    weights = first_weights()
    layers = [
        make_training(configure("crt"), [seed], first_weights=[weights]).lanes[0].network[14]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert not torch.equal(layers[0].weight, layers[2].weight)
    assert not torch.equal(layers[0].weight, weights["14.weight"])
    assert layers[0].weight.abs().max() <= 1 / np.sqrt(128)
    assert float(layers[0].weight.detach().std()) == pytest.approx(1 / np.sqrt(3 * 128), rel=0.1)


def test_classes_come_up_alike() -> None:
    (lane,) = make_training(configure("crt"), counts=[(64, 16, 4, 1)]).lanes
    items_N = torch.cat([lane.batches[step] for step in range(40 * lane.batches.batching.steps_per_pass)])
    drawn_K = np.bincount(lane.training_set.labels_P[items_N].numpy(), minlength=4)
    assert drawn_K.tolist() == pytest.approx([40 * 85 / 4] * 4, rel=0.15)


def test_features_are_normalised_in_training_as_they_are_in_the_test() -> None:
    """With statistics of batches in the test, the second training makes them too, and never uses the kept."""
    mode = {"evaluation_mode": "batch_statistics"}
    weights = first_weights(**mode)
    spoilt = dict(weights)
    for name in weights:
        if "running" in name:
            spoilt[name] = weights[name] + 100
    rows = [
        finish(make_training(configure("crt"), first_weights=[each], **mode)).lanes[0].curves[-1]
        for each in (weights, spoilt)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("share", [0, 1.5])
def test_share_of_the_budget_is_above_zero_and_at_most_one(share: float) -> None:
    with pytest.raises(ValueError, match="budget_share must be above 0 and at most 1"):
        MethodConfig(name="crt", draw=None, options={"budget_share": share})


def test_first_training_is_that_of_no_method() -> None:
    assert METHODS["crt"].then is not None
    assert METHODS["none"].only_plans
