"""What of a configuration changes nothing is reported before it is run."""

import json
from pathlib import Path

import pytest

from lt_rebalance.commands.sweep import main, make_axes_parser
from lt_rebalance.data.long_tail import DataConfig
from lt_rebalance.methods.idle import describe_idle
from lt_rebalance.methods.registry import METHODS, MethodConfig
from lt_rebalance.studies.protocols import PROTOCOLS, make_cell
from sweeps import ablate_loss
from tests.tiny import TINY


def data_of(c: str | None) -> DataConfig:
    return make_cell(PROTOCOLS["sound"], dataset=TINY, c=c, method="none", generator=None).data


def config_of(name: str) -> MethodConfig:
    return MethodConfig(name=name, draw=next(iter(METHODS[name].draws), None))


@pytest.mark.parametrize("name", METHODS)
def test_loss_that_a_method_replaces_and_method_without_a_tail_are_reported(name: str) -> None:
    has_loss = METHODS[name].loss is not None
    on_double = describe_idle(config_of(name), data_of("1/2"), "double_softmax")
    assert ("has a loss of its own" in on_double) == has_loss
    assert describe_idle(config_of(name), data_of("1/2"), "cross_entropy") == ""
    on_balanced = describe_idle(config_of(name), data_of(None), "cross_entropy")
    assert ("has nothing to balance" in on_balanced) == (
        METHODS[name].family in ("resampling", "made images")
    )


def test_sweep_says_once_for_each_method_that_its_loss_is_not_the_one_that_is_ablated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = make_axes_parser(ablate_loss.__doc__, ablate_loss.PRESETS)
    asked = [
        "--methods",
        "balanced_softmax",
        "oversample",
        "--c",
        "1/2",
        "7/9",
        "--steps",
        "4",
        "--plan",
        "--json",
    ]
    storage = ["--storage", str(tmp_path / "store"), "--device", "cpu"]
    assert main(parser, ablate_loss.build_study, [*asked, *storage]) == 0
    shown = capsys.readouterr()
    said = (
        "note: classifier.loss double_softmax changes nothing for balanced_softmax, which has a loss of its"
    )
    assert shown.err.count(said) == 1 and "oversample" not in shown.err
    assert json.loads(shown.out)["runs"]["planned"] > 0
