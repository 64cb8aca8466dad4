"""The values that a search may give to a hyperparameter, and their scale.

A method declares them next to its options: `tau: float = searched(1.0, Range(low=0.0, high=2.0,
unit="power"))`. Other options keep their defaults.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lt_rebalance.ground.own_file import WrongReturnError
from lt_rebalance.ground.plain import field_types

Value = float | int | str


@dataclass(frozen=True, kw_only=True)
class Range:
    """A number between two others, both included; for options of type float."""

    low: float
    high: float
    is_log: bool = False
    """whether steps are equal ratios instead of equal differences"""
    unit: str

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"a range needs low below high, both finite, got {self.low} and {self.high}")
        if self.is_log and not self.low > 0:
            raise ValueError(f"a range on a log scale must begin above 0, got {self.low}")

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float | int) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log' if self.is_log else ''}; {self.unit}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few values, in their natural order."""

    values: tuple[Value, ...]
    unit: str

    def __post_init__(self) -> None:
        if len(set(self.values)) < max(2, len(self.values)):
            raise ValueError(f"a choice needs at least two values, all different, got {self.values}")

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.values))}; {self.unit}"


Domain = Range | Choice

_DOMAIN = "domain"


def searched(default: Value, domain: Domain) -> Any:  # Any: what dataclasses make a field of
    """Return the field of an option that a search may set; the default must be in the domain."""
    if default not in domain:
        raise ValueError(f"a default must be one of the values that are searched, {domain}; got {default!r}")
    return field(default=default, metadata={_DOMAIN: domain})


def domains_of(options: type | None) -> Mapping[str, Domain]:
    """Return the domains of the options of a method that have one, by name.

    Raises:
        ValueError: a range for an option of another type than float.
    """
    declared: Any = options
    named = {} if options is None else {each.name: each.metadata.get(_DOMAIN) for each in fields(declared)}
    domains = {name: domain for name, domain in named.items() if isinstance(domain, Range | Choice)}
    for name, domain in domains.items():
        if isinstance(domain, Range) and (kind := field_types(declared)[name]) is not float:
            raise WrongReturnError(
                options,
                f"a Range is for options of type float, got {declared.__name__}.{name} of type "
                f"{kind.__name__}; declare a Choice of the values to try",
            )
    return domains


def list_ends(domain: Domain) -> tuple[Value, ...]:
    """Return the values of a choice, or the ends of a range."""
    return domain.values if isinstance(domain, Choice) else (float(domain.low), float(domain.high))
