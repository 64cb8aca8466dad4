"""Checks of which forms can compute a network, layer by layer, and of what is said of those that cannot."""

import copy
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.networks.dropout import Dropout, name_masks
from lt_rebalance.networks.generators.registry import GENERATORS
from lt_rebalance.networks.initialization import build_network
from lt_rebalance.training.batching import Example, smallest_classifier_batch
from lt_rebalance.training.forms import classifier_fault, find_fault, generator_fault
from lt_rebalance.training.stacks import FORMS, LaneStack, VmapStack
from tests.mostly_slow import mostly_slow
from tests.own_networks import register

K = 3
SIDE = 8
STACKED_FORMS = [form for form in FORMS if form != "separate"]

pytestmark = pytest.mark.usefixtures("one_thread")


def make_spec(image_shape: tuple[int, int, int]) -> DatasetSpec:
    return DatasetSpec(
        name="toy",
        num_classes=K,
        image_shape=image_shape,
        class_names=("a", "b", "c"),
        train_counts_K=(10,) * K,
        test_counts_K=(10,) * K,
        licence="none",
        sha256_by_file={"toy.npz": "0" * 64},
    )


SPEC = make_spec((1, SIDE, SIDE))


class Residual(nn.Module):
    """Add what a convolution gives to its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        return values + self.convolution(values)


class NamedArguments(nn.Module):
    """Call a convolution by the names of its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 6, 3)

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.conv2d(input=values, weight=self.layer.weight, bias=self.layer.bias, stride=2)


class Lookup(nn.Module):
    """Look up a vector for each value's sign; no gradient reaches what comes before."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2, 5)

    def forward(self, values: Tensor) -> Tensor:
        return self.embedding((values > 0).long())


class Branching(nn.Module):
    """Choose by the values what is computed."""

    def forward(self, values: Tensor) -> Tensor:
        return 2 * values if values.mean() > 0 else values


class Counting(nn.Module):
    """Put a new tensor in the place of a buffer, which is lost where the buffer is a view of a stack."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        self.count = self.count + 1
        return values * self.count


class Failing(nn.Module):
    """Fail whatever the form."""

    def forward(self, values: Tensor) -> Tensor:
        raise TypeError("made up,\nin two lines")


def of_layers(*layers: nn.Module) -> Callable[[int], Example]:
    """Return a function that makes networks of a convolution to 4 channels, layers, and a linear layer."""

    def build() -> nn.Module:
        front = nn.Sequential(nn.Conv2d(1, 4, 1), *copy.deepcopy(layers), nn.Flatten())
        with torch.no_grad():
            num_values = front(torch.zeros(2, 1, SIDE, SIDE)).shape[1]
        return nn.Sequential(front, nn.Linear(num_values, K))

    def make(seed: int) -> Example:
        network = build_network(build, torch.Generator().manual_seed(seed))
        name_masks(network, seed)
        return network, (torch.zeros(2, 1, SIDE, SIDE),)

    return make


COMPUTED = {
    "convolution": nn.Conv2d(4, 6, (2, 3), padding=(0, 2), dilation=(2, 1), bias=False),
    "strided convolution": nn.Conv2d(4, 6, 3, stride=(2, 3), padding=1),
    "grouped convolution": nn.Conv2d(4, 8, 3, stride=2, groups=2),
    "depthwise convolution": nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
    "convolution by named arguments": NamedArguments(),
    "circular padding": nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "transposed convolution": nn.ConvTranspose2d(4, 6, 3, stride=2),
    "batch normalisation": nn.BatchNorm2d(4),
    "normalisation of single values": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4 * SIDE**2)),
    "batch normalisation without statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "group normalisation": nn.GroupNorm(2, 4),
    "layer normalisation": nn.LayerNorm([4, SIDE, SIDE]),
    "instance normalisation": nn.InstanceNorm2d(4),
    "dropout": Dropout(0.5),
    "residual addition": Residual(),
    "maximum": nn.MaxPool2d(3, 2, 1),
    "mean": nn.AvgPool2d(2),
    "mean of all": nn.AdaptiveAvgPool2d(1),
    "embedding": Lookup(),
    "activations in place": nn.Sequential(nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(inplace=True)),
}
NOT_UNDER_VMAP = {
    "branch": (Branching(), r"layer 0\.1 \(Branching\): RuntimeError: .*control flow"),
    "replaced buffer": (Counting(), "it does not compute the same as single lanes: outputs of step 2"),
    "cumulative statistics": (nn.BatchNorm2d(4, momentum=None), r"layer 0\.1 \(BatchNorm2d\): .*\.item\(\)"),
    "dropout of torch": (nn.Dropout(0.5), r"layer 0\.1 \(Dropout\): RuntimeError: .*random operation"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COMPUTED)
def test_layer_is_computed_in_every_form(name: str, form: str) -> None:
    assert find_fault(form, of_layers(COMPUTED[name])) is None


@pytest.mark.parametrize("form", STACKED_FORMS)
@pytest.mark.parametrize("name", NOT_UNDER_VMAP)
def test_layer_that_a_form_cannot_compute_is_named(name: str, form: str) -> None:
    layer, fault = NOT_UNDER_VMAP[name]
    found = find_fault(form, of_layers(layer))
    assert found is not None
    assert re.match(fault, found), found
    assert len(found.splitlines()) == 1 and len(found) < 250
    assert find_fault("separate", of_layers(layer)) is None


def test_padding_by_name_is_what_unfolding_does_not_know() -> None:
    example = of_layers(nn.Conv2d(4, 4, 3, padding="same"))
    assert find_fault("vmap", example) is None
    fault = find_fault("unfold", example)
    assert fault == (
        "layer 0.1 (Conv2d): NotImplementedError: convolutions with padding 'same' are not unfolded"
    )


def test_network_that_fails_in_any_form_is_told_and_not_raised() -> None:
    def make(seed: int) -> Example:
        return nn.Sequential(nn.Linear(2, 2), Failing()), (torch.zeros(2, 2),)

    assert find_fault("vmap", make) == r"TypeError: made up,\nin two lines"


def test_form_that_gives_other_gradients_or_mixes_lanes_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class SwappingStack(LaneStack):
        def __call__(self, *inputs_L: Tensor) -> Tensor:
            return super().__call__(*(tensor.flip(0) for tensor in inputs_L))

    class DetachedStack(VmapStack):
        def __call__(self, *inputs_L: Tensor) -> Tensor:
            outputs_L = super().__call__(*inputs_L)
            return outputs_L.detach() + 1.1 * (outputs_L - outputs_L.detach())

    found = {}
    for form in (SwappingStack, DetachedStack):
        monkeypatch.setitem(FORMS, form.__name__, form)
        found[form.__name__] = find_fault(form.__name__, of_layers(nn.ReLU()))
    assert found == {
        "SwappingStack": "it does not compute the same as single lanes: outputs of step 1",
        "DetachedStack": "it does not compute the same as single lanes: gradients of lane 0",
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("architecture", "image_shape"),
    [
        pytest.param(architecture, image_shape, marks=pytest.mark.slow if "resnet" in architecture else ())
        for architecture in CLASSIFIERS
        for image_shape in ((1, 8, 8), (3, 12, 10))
        if architecture not in ("resnet18", "resnet32") or image_shape != (1, 8, 8)  # of resnet20's layers
    ],
)
def test_every_classifier_is_computed_in_every_form(
    architecture: str, image_shape: tuple[int, int, int], form: str
) -> None:
    assert classifier_fault(form, architecture, make_spec(image_shape)) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("architecture", mostly_slow(GENERATORS, 2))
def test_every_generator_is_computed_in_every_form(architecture: str, form: str) -> None:
    assert generator_fault(form, architecture, SPEC) is None


def test_trying_a_form_leaves_the_global_stream_untouched() -> None:
    before = torch.get_rng_state()
    find_fault("vmap", of_layers(nn.Dropout(0.5)))
    assert torch.equal(torch.get_rng_state(), before)


def test_network_that_takes_the_name_of_another_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for layer, is_computed in ((nn.Identity(), True), (Branching(), False), (nn.Identity(), True)):
        register(
            monkeypatch,
            CLASSIFIERS,
            "changing",
            lambda num_classes, image_shape, layer=layer: nn.Sequential(
                nn.Flatten(), nn.Linear(SIDE**2, num_classes), layer
            ),
        )
        assert (classifier_fault("vmap", "changing", SPEC) is None) == is_computed


def test_network_that_draws_from_the_global_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(SIDE**2, num_classes))

    register(monkeypatch, CLASSIFIERS, "drawing", build)
    with pytest.raises(ValueError, match=r"must not draw .* as nn\.Dropout does: .* networks/dropout\.py"):
        smallest_classifier_batch("drawing", SPEC)
