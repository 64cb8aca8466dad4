"""Checks of LWS: what is learned, from where, and on which items."""

import pytest
import torch

from lt_rebalance.methods.registry import METHODS
from tests.methods.test_crt import first_weights
from tests.methods.toy import configure, finish, make_training

pytestmark = pytest.mark.usefixtures("one_thread")


def test_second_training_changes_the_scales_alone() -> None:
    weights = first_weights()
    training = make_training(configure("lws"), first_weights=[weights])
    scales_K = training.lanes[0].network[14].scales_K
    assert scales_K.tolist() == [1, 1, 1, 1]
    (lane,) = finish(training).lanes
    after = lane.network.state_dict()
    assert (after["14.scales_K"] != 1).all()
    for name, tensor in weights.items():
        moved = name.replace("14.", "14.linear.")
        assert torch.equal(after[moved], tensor), name


def test_network_answers_as_the_first_until_scales_are_learned() -> None:
    images_NCHW = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    weights = first_weights()
    first = make_training(configure("none"), first_weights=[weights]).lanes[0].network.eval()
    second = make_training(configure("lws"), first_weights=[weights]).lanes[0].network.eval()
    assert torch.equal(first(images_NCHW), second(images_NCHW))


def test_classes_come_up_alike() -> None:
    (lane,) = make_training(configure("lws"), counts=[(64, 16, 4, 1)]).lanes
    assert METHODS["lws"].order is not None
    items_N = torch.cat([lane.batches[step] for step in range(40 * lane.batches.batching.steps_per_pass)])
    drawn_K = torch.bincount(lane.training_set.labels_P[items_N], minlength=4)
    assert drawn_K.tolist() == pytest.approx([40 * 85 / 4] * 4, rel=0.15)
