"""Checks of tau-normalisation and the nearest class mean: by hand, and against other formulas."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lt_rebalance.methods.registry import METHODS, MethodConfig
from lt_rebalance.networks.heads import find_last_layer
from tests.methods.toy import K, configure, finish, list_differences, make_training

pytestmark = pytest.mark.usefixtures("one_thread")

AFTER = ["tau_norm", "nearest_class_mean"]


class Toy(nn.Module):
    """Features that are the inputs, and a last layer."""

    def __init__(self, weights: list[list[float]], bias: list[float]) -> None:
        super().__init__()
        self.last = nn.Linear(2, 2)
        self.last.weight.data = torch.tensor(weights)
        self.last.bias.data = torch.tensor(bias)

    def forward(self, features_NF: Tensor) -> Tensor:
        logits_NK: Tensor = self.last(features_NF)
        return logits_NK


def blank() -> Toy:
    return Toy([[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0])


def change(name: str, network: nn.Module, means_KF: Tensor | None = None, **options: object) -> nn.Module:
    def mean_features() -> Tensor:
        assert means_KF is not None
        return means_KF

    after = METHODS[name].after
    assert after is not None
    after(network, mean_features, configure(name, **options).options)
    return network


@pytest.mark.parametrize(
    ("tau", "expected"),
    [(0.0, [[3.0, 4.0], [0.0, 2.0]]), (1.0, [[0.6, 0.8], [0.0, 1.0]]), (2.0, [[0.12, 0.16], [0.0, 0.5]])],
)
def test_weights_are_divided_by_a_power_of_their_length_and_the_bias_goes(
    tau: float, expected: list[list[float]]
) -> None:
    network = change("tau_norm", Toy([[3.0, 4.0], [0.0, 2.0]], [5.0, 7.0]), tau=tau)
    torch.testing.assert_close(network.last.weight.detach(), torch.tensor(expected))
    assert network.last.bias.tolist() == [0.0, 0.0]


def test_weights_of_no_length_stay_nothing() -> None:
    network = change("tau_norm", Toy([[0.0, 0.0], [0.0, 2.0]], [0.0, 0.0]))
    assert network.last.weight.tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_image_is_of_the_class_whose_mean_is_nearest() -> None:
    """By hand: (3, 1) is nearer to (0, 1) than to (4, 4), but its direction is nearer to that of (4, 4)."""
    means_KF, image = torch.tensor([[0.0, 1.0], [4.0, 4.0]]), torch.tensor([[3.0, 1.0]])
    options = {"distance": "euclidean", "scale": 2.0}
    logits = change("nearest_class_mean", blank(), means_KF, **options)(image)
    torch.testing.assert_close(logits, torch.tensor([[-9.0, -10.0]]))  # 9 + 0, and 1 + 9
    cosines = torch.tensor([[1 / 10**0.5, 16 / (10**0.5 * 32**0.5)]])
    logits = change("nearest_class_mean", blank(), means_KF, scale=5.0)(image)
    torch.testing.assert_close(logits, 5 * (cosines - 1))


def test_means_are_those_of_the_features_of_each_class_in_evaluation_mode() -> None:
    """Features by a second way: the network without its last layer."""
    method = configure("nearest_class_mean", distance="euclidean")
    training = finish(make_training(method))
    (lane,) = training.lanes
    name, _ = find_last_layer(lane.network)
    assert name == "14"
    images_NCHW, labels_N = lane.training_set.batch(torch.arange(len(lane.training_set)))
    with torch.no_grad():
        features_NF = lane.network.eval()[:14](images_NCHW)
        tested_NF = lane.network[:14](training._test_set.images_PCHW)
    means_KF = np.stack([features_NF[labels_N == label].double().mean(dim=0).numpy() for label in range(K)])
    distances_NK = np.linalg.norm(tested_NF.double().numpy()[:, None] - means_KF, axis=-1)
    assert lane.predictions_N.tolist() == distances_NK.argmin(axis=1).tolist()


@pytest.mark.parametrize("name", AFTER)
def test_training_is_that_of_no_method_and_another_network_is_measured(name: str) -> None:
    training, plain = finish(make_training(configure(name))), finish(make_training(configure("none")))
    assert not list_differences(
        *(
            {key: value for key, value in each.get_lane_state(each.lanes[0]).items() if ".network." in key}
            for each in (training, plain)
        )
    )
    assert training.lanes[0].curves[-1]["test_loss"] != plain.lanes[0].curves[-1]["test_loss"]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("tau_norm", {"tau": -1}, "tau must be at least 0, got -1"),
        ("nearest_class_mean", {"scale": 0}, "scale must be above 0, got 0"),
        ("nearest_class_mean", {"distance": "angle"}, "unknown distance 'angle'; known: cosine, euclidean"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MethodConfig(name=name, draw=None, options=options)
