"""Checks of dropout whose masks come from a stream of the lane."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from lt_rebalance.ground.seeding import stream_key
from lt_rebalance.networks.dropout import Dropout, name_masks

pytestmark = pytest.mark.usefixtures("one_thread")


def make_layer(seed: int = 0, rate: float = 0.5) -> Dropout:
    layer = Dropout(rate)
    name_masks(layer, seed)
    return layer


def kept(layer: Dropout, num_items: int = 6, num_values: int = 50) -> Tensor:
    """Return what a training step keeps, bool."""
    return layer(torch.ones(num_items, num_values)) != 0


def test_a_mask_is_a_function_of_seed_step_and_place_alone() -> None:
    steps = [kept(layer) for layer in [make_layer(seed=3)] for _ in range(3)]
    again = make_layer(seed=3)
    fewer_items = [kept(again, num_items=4) for _ in range(3)]
    for whole, part in zip(steps, fewer_items, strict=True):
        assert torch.equal(whole[:4], part)
    others = [*steps, kept(make_layer(seed=4))]
    assert not any(torch.equal(*pair) for pair in itertools.combinations(others, 2))


def test_a_layer_goes_on_from_its_buffers() -> None:
    layer = make_layer(seed=3)
    kept(layer)
    resumed = make_layer(seed=0)
    resumed.load_state_dict(layer.state_dict())
    assert int(resumed.num_steps) == 1
    assert torch.equal(kept(resumed), kept(layer))


def test_masks_of_lanes_computed_at_once_are_those_of_each_alone() -> None:
    layers = [make_layer(seed) for seed in (2, 5)]
    buffers = {name: torch.stack([getattr(each, name) for each in layers]) for name in ("key", "num_steps")}
    found = torch.vmap(lambda own: torch.func.functional_call(layers[0], own, (torch.ones(6, 50),)))(buffers)
    assert torch.equal(found != 0, torch.stack([kept(make_layer(seed)) for seed in (2, 5)]))
    assert buffers["num_steps"].tolist() == [1, 1]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_the_stated_share_is_dropped_and_the_rest_scaled_so_that_the_mean_stays(rate: float) -> None:
    values = make_layer(rate=rate)(torch.full((200, 500), 3.0))
    is_kept = values != 0
    error = math.sqrt(rate * (1 - rate) / values.numel())
    assert float(is_kept.float().mean()) == pytest.approx(1 - rate, abs=5 * error + 1e-12)
    torch.testing.assert_close(values[is_kept], torch.full((int(is_kept.sum()),), 3 / (1 - rate)))


def test_masks_are_independent_between_places_steps_and_seeds() -> None:
    layer, num_values = make_layer(), 20_000
    steps = torch.stack([kept(layer, 1, num_values)[0] for _ in range(4)])
    seeds = torch.stack([kept(make_layer(seed), 1, num_values)[0] for seed in range(4)])
    places = kept(make_layer(), num_values, 4).T
    for masks in (steps, seeds, places):
        correlations = torch.corrcoef(masks.double()) - torch.eye(4, dtype=torch.float64)
        assert correlations.abs().max() < 5 / math.sqrt(num_values)


def test_nothing_is_dropped_and_no_step_counted_in_evaluation_and_where_no_gradients_are_computed() -> None:
    layer, inputs = make_layer(), torch.ones(6, 50)
    with torch.no_grad():
        assert torch.equal(layer(inputs), inputs)
    assert torch.equal(layer.eval()(inputs), inputs)
    assert int(layer.num_steps) == 0


def test_each_layer_of_a_network_has_a_stream_of_its_own() -> None:
    network = nn.Sequential(Dropout(0.5), nn.Sequential(nn.ReLU(), Dropout(0.5)))
    name_masks(network, 7)
    keys = [int(module.key) for module in network.modules() if isinstance(module, Dropout)]
    assert keys == [stream_key(7, "classifier_dropout", index) for index in range(2)]
    assert len(set(keys)) == 2


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate of dropout must be at least 0 and below 1, got"):
        Dropout(rate)
