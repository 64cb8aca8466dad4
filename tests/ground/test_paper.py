"""The one rule by which the paper's numbers are shown for a cell: held to the protocol, broken by a field."""

import dataclasses
from typing import Any

import pytest

from lt_rebalance.ground.paper import (
    NO_ROW,
    PAPER_GENERATORS,
    TABLE_1,
    explain_absence,
    find_departures,
    find_row,
    flatten,
    papers_configuration,
    say_departures,
)
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.study import Cell

ROWS = list(TABLE_1)


def cell_of(data: str, method: str, protocol: str = "paper", dataset: str = "fashion_mnist") -> Cell:
    generator = method if method in PAPER_GENERATORS else None
    return make_cell(
        get_protocol(protocol),
        dataset=dataset,
        c=None if data == "original" else data,
        method="cgan" if generator else method,
        generator=generator,
    )


@pytest.mark.parametrize(("data", "method"), ROWS)
def test_a_row_of_the_paper_stands_beside_what_protocol_paper_runs(data: str, method: str) -> None:
    config = to_plain(cell_of(data, method))
    assert find_departures(config) == () == find_departures(flatten(config))
    assert find_row(data, method, "") is TABLE_1[data, method]


@pytest.mark.parametrize(("data", "method"), ROWS)
def test_no_field_may_differ(data: str, method: str) -> None:
    """Each field of the configuration, altered alone, takes the paper's number away."""
    config = flatten(to_plain(cell_of(data, method)))
    others: dict[str, Any] = {"data.c": "1/3", "method.name": "another", "generator.architecture": "another"}
    for field, value in config.items():
        if field == "protocol":
            assert find_departures({**config, field: "sound"}) == ()
        elif not (field == "generator" and value is None):
            altered = {**config, field: others.get(field, "another")}
            assert find_departures(altered), field
    assert set(config) - {"protocol"} == set(papers_configuration(data, method))


@pytest.mark.parametrize(
    "field", ["method.fill_fraction", "generator.something_later", "data.something_later"]
)
def test_a_field_that_the_paper_does_not_know_takes_its_number_away(field: str) -> None:
    config = flatten(to_plain(cell_of("1/2", "mlp_cgan_relu")))
    assert find_departures({**config, field: 0.5}) != ()


def test_how_arithmetic_is_done_is_no_departure() -> None:
    config = to_plain(cell_of("1/2", "none"))
    assert find_departures({**config, "execution": {"device": "cuda", "precision": "bfloat16"}}) == ()


@pytest.mark.parametrize(("data", "method"), ROWS)
def test_the_sample_and_protocol_sound_have_no_number_of_the_paper(data: str, method: str) -> None:
    assert find_departures(to_plain(cell_of(data, method, dataset="fashion_mnist_mini"))) == ("data set",)
    assert "loss" in find_departures(to_plain(cell_of(data, method, protocol="sound")))
    assert find_row(data, method, "loss") is None


def test_a_cell_of_protocol_paper_whose_generator_trains_longer_has_no_number() -> None:
    cell = cell_of("1/2", "mlp_cgan_relu")
    assert cell.generator is not None
    longer = dataclasses.replace(
        cell.generator, budget=dataclasses.replace(cell.generator.budget, epochs=100)
    )
    departures = find_departures(to_plain(dataclasses.replace(cell, generator=longer)))
    assert departures == ("budget of the generator",)


def test_rows_that_the_paper_does_not_have() -> None:
    for data, method in (("1/3", "none"), ("original", "oversample"), ("7/9", "dccgan_leaky")):
        config = papers_configuration("7/9", "none") | {"data.c": None if data == "original" else data}
        assert find_departures(config | {"method.name": method}) == (NO_ROW,)


def test_absence_is_explained_once_for_all_cells() -> None:
    assert explain_absence(["", ""]) == explain_absence([]) == ""
    said = explain_absence([say_departures(["data set", "loss"]), "loss", say_departures([NO_ROW])])
    assert said == (
        "The paper's numbers are shown for none of these cells: Table 1 has no such row or its runs differ "
        "in data set, loss."
    )
    assert explain_absence(["", "budget", ""]) == (
        "The paper's numbers are shown for 2 of 3 cells, and not for the others: its runs differ in budget."
    )
