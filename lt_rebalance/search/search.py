"""What a search tunes, its seeds and objectives, and the ladder of stages of a trial.

A trial is one configuration on a fixed list of seeds. Its ladder has rungs: the tuned training up to some
round, with all stages that measure it there. Each is an ordinary stage, and the training of a rung is the
first part of that of the next; so a training that depends on its total length takes a ladder of one rung.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lt_rebalance.ground.names import check_name
from lt_rebalance.ground.own_file import WrongReturnError, is_at_hand
from lt_rebalance.ground.plain import require_known, require_positive, to_plain
from lt_rebalance.methods.domains import Value, list_ends
from lt_rebalance.methods.registry import get_method
from lt_rebalance.search.length import find_dependence
from lt_rebalance.search.spaces import METHOD, OPTIONS, SEARCH_SPACES, SearchSpace, method_space
from lt_rebalance.store.records import Record
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.studies.study import Cell
from lt_rebalance.studies.workload import count_synthetic, require_workable
from lt_rebalance.training.configs import Budget, ClassifierConfig, Execution, GeneratorConfig

FIRST_SEARCH_SEED = 1000
"""seeds of searches begin here, so that they differ from those of studies, which begin at 0"""
SCHEDULERS = ("asha", "none", "pbt")

Values = Mapping[str, Value]
"""the values of a trial, by name of the setting"""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A number in [0, 1] that a search maximizes."""

    label: str
    kind: str
    """kind of the stage whose record contains it"""
    measure: Callable[[Record], float]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """The stages that measure a trial after a number of rounds of the tuned training."""

    round: int
    groups: tuple[tuple[AnyStage, ...], ...]
    """run in this order; stages of a group differ only in the seed; the first group is the tuned training"""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A question: which values of a space make a component best, averaged over seeds?"""

    name: str
    """names the search in the store"""
    component: str
    """the part of the cell that is tuned, a name in SEARCH_SPACES; or METHOD, for fields of all parts"""
    base: Cell
    """the untuned configuration; the budget of the component is that of the last rung"""
    objectives: tuple[str, ...]
    """names in OBJECTIVES; the first one decides if only one can"""
    seeds: tuple[int, ...]
    scheduler: str
    """"asha": successive halving; "pbt": population-based training; "none": every trial runs to its end"""
    reduction: int
    """successive halving keeps one in this many trials at a rung; the rounds of rungs grow by this factor"""
    sampler_seed: int
    """seed of the suggestions"""
    execution: Execution

    def __post_init__(self) -> None:
        check_name("the name of a search plus the suffix of its confirmation", f"{self.name}-confirmation")
        require_known("component", self.component, (*SEARCH_SPACES, METHOD))
        require_known("scheduler", self.scheduler, SCHEDULERS)
        for objective in self.objectives:
            require_known("objective", objective, tuple(OBJECTIVES))
            if OBJECTIVES[objective].kind == "generator" and self.component != "generator":
                raise ValueError(
                    f"objective {objective!r} is one of generators, got component {self.component!r}"
                )
        require_positive(seeds=len(self.seeds), objectives=len(self.objectives))
        if self.sampler_seed < 0:
            raise ValueError(f"the seed of the suggestions must be at least 0, got {self.sampler_seed}")
        if self.reduction < 2:
            raise ValueError(f"the reduction must be at least 2, got {self.reduction}")
        if len(self.objectives) > 1 and self.scheduler != "none":
            raise ValueError(
                f"scheduler {self.scheduler!r} ranks trials by one objective, got {len(self.objectives)}; "
                'several take "none"'
            )
        if self.scheduler == "pbt" and self.component != "generator":
            raise ValueError(f'scheduler "pbt" trains populations of CGANs, this tunes a {self.component}')
        if self.component == METHOD and self.scheduler != "none":
            raise ValueError(f'trials of a method run to their end, scheduler "none", got {self.scheduler!r}')
        for name in self.space if self.component != METHOD else ():
            require_known(f"setting of the {self.component}", name, [field.name for field in self._fields()])
        for name, value in self.untuned.items():
            if value not in self.space[name]:
                raise ValueError(
                    f"the untuned {name} is {value}, outside of the search space: {self.space[name]}"
                )
        is_cut = self.component == "classifier" and self.scheduler != "none"
        is_cut = is_cut and is_at_hand(self.base.method.name)  # else nothing is trained
        if is_cut and (dependent := find_dependence(self.base)) is not None:
            raise ValueError(
                f"scheduler {self.scheduler!r} measures trials midway, and {dependent} depends on the length "
                "of the whole training; take --scheduler none"
            )
        if self.component != METHOD and self.base.method.needs_first:
            raise ValueError(
                f"a search tunes one training, and method {self.base.method.label!r} has two; tune method "
                "'none', from which it starts, or leave out the filter"
            )
        steps, rounds = self.budget.steps, self.budget.rounds
        if steps is None or rounds is None or steps % rounds:
            raise ValueError(f"a search needs a budget in steps that its rounds divide, got {self.budget!r}")

    def require_possible(self) -> None:
        """Raise a ValueError unless the base can be trained, and the space has only values that it takes.

        A search that is only described, such as that of a method whose file is not loaded, needs neither.
        """
        for seed in self.seeds:
            try:
                require_workable(self.base.stage(seed, self.execution))
            except ValueError as error:
                raise ValueError(f"cell {self.base}: {error}") from None
        if self.component == "generator" and "macro_f1" in self.objectives:
            stage = self.base.stage(self.seeds[0], self.execution)
            if count_synthetic(stage) == 0:
                raise ValueError(
                    f"macro F1 needs images that the generator makes, got {self.base.method.label} on "
                    f"{self.base.data.dataset}, where it makes none; cut the set with --c or --profile, fill "
                    "more of the gaps, or take --objective diversity"
                )
        self.ladder(self.untuned)
        for name, domain in self.space.items():
            for value in list_ends(domain):
                try:
                    self.ladder({**self.untuned, name: value})
                except ValueError as error:
                    words = f"a trial may set {name} to {value!r}, which is refused: {error}; cut its domain"
                    raise WrongReturnError(get_method(self.base.method.name).options, words) from error

    def _fields(self) -> tuple[dataclasses.Field[object], ...]:
        return dataclasses.fields(self.tuned(self.base))

    def tuned(self, cell: Cell) -> ClassifierConfig | GeneratorConfig:
        """Return the configuration that this search tunes, as part of a cell."""
        config = cell.generator if self.component == "generator" else cell.classifier
        if config is None:
            raise ValueError(f"method {cell.method.name!r} has no {self.component} that could be tuned")
        return config

    @property
    def space(self) -> SearchSpace:
        """The values that trials may set."""
        return method_space(self.base) if self.component == METHOD else SEARCH_SPACES[self.component]

    @property
    def budget(self) -> Budget:
        """Rounds of a trial that is not stopped early."""
        return self.tuned(self.base).budget

    @property
    def untuned(self) -> Values:
        """The values in the untuned configuration."""
        return self.values_of(self.base)

    def values_of(self, cell: Cell) -> Values:
        """Return the values that a cell has instead of those of a trial."""
        if self.component == METHOD:
            return {name: _read_field(cell, name) for name in self.space}
        config = self.tuned(cell)
        return {name: getattr(config, name) for name in self.space}

    @cached_property
    def rung_rounds(self) -> tuple[int, ...]:
        """The rounds after which a trial is measured, including the last round."""
        assert self.budget.rounds is not None
        last = self.budget.rounds
        if self.scheduler == "none":
            return (last,)
        if self.scheduler == "pbt":
            return tuple(range(1, last + 1))
        rounds = [last]
        while rounds[-1] % self.reduction == 0:
            rounds.append(rounds[-1] // self.reduction)
        return tuple(reversed(rounds))

    def cell(self, values: Values, protocol: str | None = None) -> Cell:
        """Return the base with the values of a trial; ValueError for unknown or missing names.

        Args:
            protocol: name of the protocol of the cell; None keeps that of the base.
        """
        is_told = is_at_hand(self.base.method.name)
        for name in values:
            if is_told or not name.startswith(OPTIONS):
                require_known(f"setting of this search of a {self.component}", name, tuple(self.space))
        if missing := set(self.space) - set(values):
            raise ValueError(f"a trial needs a value for {', '.join(sorted(missing))}")
        cell = dataclasses.replace(self.base, protocol=protocol or self.base.protocol)
        return set_values(cell, values) if self.component == METHOD else self._replace_tuned(cell, **values)

    def _replace_tuned(self, cell: Cell, **changes: Any) -> Cell:  # Any: checked by the configuration itself
        if self.component == "classifier":
            return dataclasses.replace(cell, classifier=dataclasses.replace(cell.classifier, **changes))
        assert cell.generator is not None
        return dataclasses.replace(cell, generator=dataclasses.replace(cell.generator, **changes))

    def ladder(self, values: Values) -> tuple[Rung, ...]:
        """Return the rungs of the trial with these values."""
        return tuple(self._rung(values, round_index) for round_index in self.rung_rounds)

    def _rung(self, values: Values, round_index: int) -> Rung:
        assert self.budget.steps is not None and self.budget.rounds is not None
        cell = self.cell(values)
        if self.component != METHOD:
            steps = self.budget.steps * round_index // self.budget.rounds
            cell = self._replace_tuned(cell, budget=Budget(steps=steps, rounds=round_index))
        stages = [cell.stage(seed, self.execution, shares_first=False) for seed in self.seeds]
        groups: list[tuple[AnyStage, ...]] = []
        if self.component != "classifier":
            groups += zip(*(stage.upstreams for stage in stages), strict=True)
        if any(OBJECTIVES[name].kind == "validation" for name in self.objectives):
            groups.append(tuple(stage.on_validation() for stage in stages))
        return Rung(round=round_index, groups=tuple(groups))


def _read_field(cell: Cell, name: str) -> Value:
    value: Any = functools.reduce(getattr, name.split("."), cell)  # Any: a field of a configuration
    found: Value = value
    return found


def set_values(cell: Cell, values: Values) -> Cell:
    """Return a cell with changed dotted fields, as `method_space` names them."""
    for name, value in values.items():
        section, _, field = name.partition(".")
        config = getattr(cell, section)
        if name.startswith(OPTIONS):
            kept = to_plain(config.options) or {}
            changes: dict[str, Any] = {"options": {**kept, name.removeprefix(OPTIONS): value}}
        elif field == "budget.steps":
            steps, rounds = int(value), config.budget.rounds or 1
            changes = {"budget": Budget(steps=steps, rounds=min(steps, rounds))}
        else:
            changes = {field: value}
        cell = dataclasses.replace(cell, **{section: dataclasses.replace(config, **changes)})
    return cell


def score(objective: str, records: Sequence[Record]) -> list[float]:
    """Return the value of an objective at every seed, from the records of a rung's stages."""
    of = OBJECTIVES[objective]
    return [of.measure(record) for record in records if record.kind == of.kind]


def _macro_f1(record: Record) -> float:
    return record.metrics["macro_f1"]


def _diversity_match(record: Record) -> float:
    """Return the mean over classes of min(d, 1 / d), where d is the diversity of generated over real images.

    It is 1 if every class is as varied as the real one, and falls for copies of one image as for noise.
    """
    measured = [diversity for diversity in record.quality_per_class["diversity"] if diversity is not None]
    return statistics.fmean(min(d, 1 / d) if d > 0 else 0.0 for d in measured)


OBJECTIVES = {
    "macro_f1": Objective(label="macro F1 on validation", kind="validation", measure=_macro_f1),
    "diversity": Objective(
        label="match of generated with real diversity", kind="generator", measure=_diversity_match
    ),
}
