"""Domains, and the spaces that are declared beside what they tune."""

import dataclasses
import hashlib
import json

import pytest

from lt_rebalance.methods.domains import Choice, Range, domains_of
from lt_rebalance.methods.registry import METHODS
from lt_rebalance.search.spaces import SEARCH_SPACES
from lt_rebalance.studies.protocols import ADAM_PROTOCOLS, Protocol
from lt_rebalance.training.configs import ClassifierConfig, GeneratorConfig


def test_range_holds_its_ends_and_nothing_outside() -> None:
    domain = Range(low=0.1, high=10, unit="m")
    assert [value in domain for value in (0.1, 1, 10, 0.09, 10.1, "1")] == [True] * 3 + [False] * 3


def test_choice_holds_its_values_alone() -> None:
    domain = Choice(values=(1, 2, 4), unit="images")
    assert [value in domain for value in (1, 4, 3)] == [True, True, False]


@pytest.mark.parametrize(("low", "high", "is_log"), [(1, 1, False), (2, 1, False), (0, 1, True)])
def test_range_that_is_empty_or_begins_at_0_on_a_log_scale_is_refused(
    low: float, high: float, is_log: bool
) -> None:
    with pytest.raises(ValueError, match="a range"):
        Range(low=low, high=high, is_log=is_log, unit="m")


@pytest.mark.parametrize("values", [(), (1,), (1, 1), (1, 2, 2)])
def test_choice_without_a_choice_is_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least two values, all different"):
        Choice(values=values, unit="images")


@pytest.mark.parametrize("component", SEARCH_SPACES)
def test_every_setting_of_a_space_is_a_field_that_is_read_and_has_a_unit(component: str) -> None:
    config = {"classifier": ClassifierConfig, "generator": GeneratorConfig}[component]
    assert set(SEARCH_SPACES[component]) <= {field.name for field in dataclasses.fields(config)}
    assert all(domain.unit for domain in SEARCH_SPACES[component].values())


@pytest.mark.parametrize("component", SEARCH_SPACES)
@pytest.mark.parametrize("protocol", ADAM_PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_every_space_holds_the_values_of_every_protocol(component: str, protocol: Protocol) -> None:
    for name, domain in SEARCH_SPACES[component].items():
        assert getattr(protocol, f"{component}_{name}") in domain


@pytest.mark.parametrize("component", SEARCH_SPACES)
@pytest.mark.parametrize("protocol", ADAM_PROTOCOLS.values(), ids=lambda protocol: protocol.name)
def test_no_batch_is_larger_than_a_protocol_s(component: str, protocol: Protocol) -> None:
    domain = SEARCH_SPACES[component]["batch_size"]
    assert isinstance(domain, Choice)
    assert max(map(int, domain.values)) <= getattr(protocol, f"{component}_batch_size")


def test_units_keep_their_words_since_stored_searches_are_compared_by_them() -> None:
    spaces = {**SEARCH_SPACES, **{name: domains_of(method.options) for name, method in METHODS.items()}}
    units = {name: {field: each.unit for field, each in space.items()} for name, space in spaces.items()}
    written = json.dumps(units, sort_keys=True).encode()
    assert hashlib.sha256(written).hexdigest()[:16] == "dd505b507faabaf5"
