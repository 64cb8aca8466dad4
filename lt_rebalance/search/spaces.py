"""Search spaces: which values a search may give to the settings it tunes, and on which scale it sees them."""

from collections.abc import Mapping
from dataclasses import dataclass

Value = float | int | str


@dataclass(frozen=True, kw_only=True)
class Range:
    """A number between two others, both included."""

    low: float
    high: float
    is_log: bool = False
    """whether equal ratios, rather than equal differences, count as equal steps"""
    unit: str

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a range needs low below high, got {self.low} and {self.high}")
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
SearchSpace = Mapping[str, Domain]
"""by name of the setting"""

# What a search may choose, by field. A batch never holds more images than the protocols' own: at a budget in
# steps it would be more work, not a better setting.
CLASSIFIER_SPACE: SearchSpace = {
    "learning_rate": Range(low=5e-5, high=1e-2, is_log=True, unit="Adam's step size"),
    "beta1": Range(low=0.5, high=0.99, unit="share of the mean gradient kept at a step"),
    "beta2": Choice(values=(0.9, 0.99, 0.999), unit="share of the mean squared gradient kept at a step"),
    "batch_size": Choice(values=(25, 50, 100), unit="images a step"),
}

GENERATOR_SPACE: SearchSpace = {
    "learning_rate": Range(low=2e-5, high=2e-3, is_log=True, unit="Adam's step size, for both networks"),
    "beta1": Range(low=0.0, high=0.95, unit="share of the mean gradient kept at a step"),
    "beta2": Choice(values=(0.9, 0.99, 0.999), unit="share of the mean squared gradient kept at a step"),
    "batch_size": Choice(values=(64, 128, 256), unit="real images a step"),
}

SEARCH_SPACES = {"classifier": CLASSIFIER_SPACE, "generator": GENERATOR_SPACE}
