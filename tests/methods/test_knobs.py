"""Checks of what can be set of every method that learns from made images: asked for, refused, named."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from lt_rebalance.ground.plain import config_from_dict, to_plain
from lt_rebalance.methods.knobs import KNOBS, list_knobs
from lt_rebalance.methods.registry import METHODS, MethodConfig, get_method
from lt_rebalance.studies.overrides import change_study, read_overrides
from lt_rebalance.studies.protocols import PROTOCOLS, grid, make_cell
from lt_rebalance.studies.study import Study

SOUND = PROTOCOLS["sound"]
GENERATOR = "small_mlp_cgan_leaky"


@pytest.mark.parametrize(
    ("asked", "set_to"),
    [
        ("cgan", {}),
        ("cgan:synthetic_weight=0.5", {"synthetic_weight": 0.5}),
        (
            "cgan:fill_fraction=0.25,filter=classifier_agrees,filter_attempts=3",
            {"fill_fraction": 0.25, "filter": "classifier_agrees", "filter_attempts": 3},
        ),
        ("smote:fill_fraction=0", {"fill_fraction": 0}),
    ],
)
def test_knobs_are_asked_for_as_options_and_kept_as_fields(asked: str, set_to: Mapping[str, Any]) -> None:
    config = SOUND.method_config(asked)
    assert {knob: getattr(config, knob) for knob in KNOBS} == {**KNOBS, **set_to}
    plain = to_plain(config)
    assert {name for name in plain if name in KNOBS} == set(set_to)
    assert config_from_dict(MethodConfig, plain) == config


def test_options_of_its_own_and_knobs_go_together() -> None:
    config = SOUND.method_config("smote:k_neighbors=3,synthetic_weight=0.5")
    assert (config.options.k_neighbors, config.synthetic_weight) == (3, 0.5)
    assert config.label == "smote:k_neighbors=3,synthetic_weight=0.5"


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ("cgan:synthetic_weight=1.5", "synthetic_weight must be at least 0 and at most 1, got 1.5"),
        ("cgan:synthetic_weight=half", "synthetic_weight must be a value of type float, got 'half'"),
        ("cgan:fill_fraction=true", "fill_fraction must be a value of type float, got True"),
        ("cgan:filter=good", "unknown filter 'good'; known: none, classifier_agrees"),
        ("cgan:filter=classifier_agrees,filter_attempts=0", "filter_attempts must be at least 1, got 0"),
        ("cgan:filter_attempts=3", "filter_attempts is of a filter: without one it stays 10, got 3"),
        ("cgan:weight=0.5", "method 'cgan' has no options but fill_fraction, synthetic_weight, filter"),
        ("smote:filter=none", "method 'smote' has no option 'filter'; known: k_neighbors, fill_fraction"),
        ("none:synthetic_weight=0.5", "has no options, got .*; synthetic_weight is an option of cgan, smote"),
        ("focal:fill_fraction=0.5", "method 'focal' has no option 'fill_fraction'; known: deferred, gamma"),
    ],
)
def test_knob_that_cannot_be_is_refused_with_what_can(asked: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        SOUND.method_config(asked)


def test_configuration_with_a_knob_that_its_method_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="method 'smote' has no generator: its filter stays none"):
        MethodConfig(name="smote", draw=None, filter="classifier_agrees")
    with pytest.raises(ValueError, match="method 'none' makes no images: its synthetic_weight stays 1"):
        MethodConfig(name="none", draw=None, synthetic_weight=0.5)


def test_method_that_mixes_has_no_weight_of_synthetic_images(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = dataclasses.replace(get_method("smote"), mix=get_method("mixup").mix)
    monkeypatch.setitem(METHODS, "mixed", mixed)
    with pytest.raises(ValueError, match="method 'mixed' mixes images, real with made ones"):
        MethodConfig(name="mixed", draw=None, synthetic_weight=0.5)


def test_methods_have_the_knobs_of_what_they_make() -> None:
    assert list_knobs(get_method("cgan")) == tuple(KNOBS)
    assert list_knobs(get_method("adasyn")) == ("fill_fraction", "synthetic_weight")
    assert list_knobs(get_method("oversample")) == ()


def test_cells_that_differ_in_a_knob_have_names_of_their_own() -> None:
    methods = ["cgan", "cgan:synthetic_weight=0.5", "cgan:filter=classifier_agrees"]
    cells = grid([SOUND], dataset="fashion_mnist_mini", cs=["1/2"], methods=methods, generators=[GENERATOR])
    names = [cell.method_label for cell in Study(name="knobs", cells=cells, seeds=(0,)).cells]
    assert names == [
        GENERATOR,
        f"{GENERATOR}:synthetic_weight=0.5",
        f"{GENERATOR}:filter=classifier_agrees",
    ]


def test_setting_a_knob_passes_by_methods_that_do_not_have_it() -> None:
    cells = tuple(
        make_cell(SOUND, dataset="fashion_mnist_mini", c="1/2", method=method, generator=generator)
        for method, generator in (("none", None), ("smote", None), ("cgan", GENERATOR))
    )
    study = Study(name="knobs", cells=cells, seeds=(0,))
    changed = change_study(study, read_overrides(None, ["method.synthetic_weight=0.5"]))
    assert [cell.method.synthetic_weight for cell in changed.cells] == [1, 0.5, 0.5]
    changed = change_study(study, read_overrides(None, ["method.filter=classifier_agrees"]))
    assert [cell.method.filter for cell in changed.cells] == ["none", "none", "classifier_agrees"]
    others = dataclasses.replace(study, cells=cells[:2])
    with pytest.raises(ValueError, match="none of the methods has filter; filter is an option of cgan"):
        change_study(others, read_overrides(None, ["method.filter=classifier_agrees"]))
    with pytest.raises(ValueError, match=r"has an option 'fill_fraction'; .*it is set as method\.fill_fr"):
        change_study(study, read_overrides(None, ["method.options.fill_fraction=0.5"]))
