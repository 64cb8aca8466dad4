"""Compile a study to a graph of stages, each once, and schedule them; no IO."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lt_rebalance.data.at_hand import call_after, get_own_data, is_own_name
from lt_rebalance.data.catalog import get_dataset_spec, know_all_counts
from lt_rebalance.ground.imbalance import is_balanced
from lt_rebalance.ground.own_file import find_place, is_at_hand, require_at_hand
from lt_rebalance.ground.plain import config_from_dict, to_plain
from lt_rebalance.methods.registry import get_method
from lt_rebalance.store.study_document import StudyCell, StudyDocument, StudyRun
from lt_rebalance.studies.keys import lanes_of
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, ClassifierStage, RepresentationStage
from lt_rebalance.studies.study import Cell, Seeds, Study
from lt_rebalance.studies.workload import counts_seed, require_workable
from lt_rebalance.training.configs import Execution


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One cell at one seed: one row of results."""

    cell: Cell
    stage: ClassifierStage

    @property
    def seed(self) -> int:
        """The replicate index; the classifier's, if sources of randomness have separate seeds."""
        return self.stage.seed

    @property
    def generator_seed(self) -> int | None:
        """The replicate index of the generator, or None if there is none."""
        return None if self.stage.generator_stage is None else self.stage.generator_stage.seed

    @property
    def generator_key(self) -> str | None:
        """The key of the generator stage, or None if there is none."""
        return None if self.stage.generator_stage is None else self.stage.generator_stage.key

    @property
    def key(self) -> str:
        """The key of the classifier stage."""
        return self.stage.key

    def __str__(self) -> str:
        return f"{self.cell} {self.stage.seeds_label}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs of a study and the stages they need."""

    study: Study
    execution: Execution
    runs: tuple[PlannedRun, ...]

    @cached_property
    def stages(self) -> Mapping[str, AnyStage]:
        """Every stage once, by key, after the stages that it needs."""
        stages: dict[str, AnyStage] = {}
        for run in self.runs:
            for stage in chain_of(run.stage):
                stages.setdefault(stage.key, stage)
        return stages

    def count_stages(self) -> Counter[str]:
        """Return how many stages there are of each kind."""
        return Counter(stage.kind for stage in self.stages.values())


def compile_study(study: Study, execution: Execution) -> Plan:
    """Return the plan of a study.

    Raises:
        ValueError: a stage has too little training data; it is named.
    """
    runs = tuple(PlannedRun(cell=cell, stage=cell.stage(seed, execution)) for cell, seed in study.runs())
    checked = set()
    for run in runs:
        # Other seeds of a cell have the same amount of work.
        if (work := (id(run.cell), counts_seed(run.stage))) in checked:
            continue
        checked.add(work)
        try:
            require_workable(run.stage)
        except ValueError as error:
            if find_place(error) is not None:
                raise
            raise ValueError(f"cell {run.cell}: {error}") from None
    return Plan(study=study, execution=execution, runs=runs)


def chain_of(stage: AnyStage) -> list[AnyStage]:
    """Return a stage after all stages that it needs, each once and in order."""
    before = {each.key: each for upstream in stage.upstreams for each in chain_of(upstream)}
    return [*before.values(), stage]


def list_upstreams(stages: Mapping[str, AnyStage]) -> dict[str, list[str]]:
    """Return by key which of these stages each of them needs."""
    return {
        key: [each.key for each in stage.upstreams if each.key in stages] for key, stage in stages.items()
    }


def list_twins(pending: Mapping[str, AnyStage]) -> dict[str, str]:
    """Return the representations that a pending classifier trains as well: its key, by theirs."""
    if not any(isinstance(stage, RepresentationStage) for stage in pending.values()):
        return {}
    keys = {}
    for key, stage in pending.items():
        twin = stage.as_representation() if isinstance(stage, ClassifierStage) else None
        if twin is not None and twin.key in pending:
            keys[twin.key] = key  # of several that differ in their selection, the last
    return keys


def group_by_upstream(stages: Mapping[str, AnyStage]) -> dict[str | None, list[str]]:
    """Return the keys of stages that need each stage, in order; under None those that need none."""
    groups: dict[str | None, list[str]] = {}
    for key, upstreams in list_upstreams(stages).items():
        for upstream in upstreams or (None,):
            groups.setdefault(upstream, []).append(key)
    return groups


def describe_plan(plan: Plan, question: str = "", flop: Mapping[str, float] | None = None) -> StudyDocument:
    """Return the document of a plan for the store, without the number of slots.

    Args:
        question: the question of the study, in one line.
        flop: floating-point operations of each stage, by key; unknown without it.
    """
    flop = flop or {}
    cells = list(plan.study.cells)
    index = {cell: position for position, cell in enumerate(cells)}
    names = sorted({cell.data.dataset for cell in cells})
    return StudyDocument(
        name=plan.study.name,
        question=question,
        overrides=dict(plan.study.overrides),
        results_version=RESULTS_VERSION,
        execution=to_plain(plan.execution),
        class_names={name: tuple(get_dataset_spec(name).class_names) for name in names},
        unbalanced=tuple(name for name in names if not is_balanced(get_dataset_spec(name).test_counts_K)),
        titles={name: call_after(get_own_data(name).location) for name in names if is_own_name(name)},
        counts={name: get_dataset_spec(name).counts for name in names},
        cells=tuple(map(describe_cell, cells)),
        comparisons=plan.study.comparisons,
        tunings=plan.study.tunings,
        runs=tuple(_describe_run(run, index[run.cell], flop) for run in plan.runs),
    )


def describe_cell(cell: Cell) -> StudyCell:
    """Return the document of a cell for the store."""
    config = to_plain(cell)
    return StudyCell(
        protocol=config.pop("protocol"),
        dataset=cell.data.dataset,
        data=cell.data.label,
        method=cell.method_label,
        family=get_method(cell.method.name).family if is_at_hand(cell.method.name) else "",
        config=config,
    )


def _describe_run(run: PlannedRun, cell: int, flop: Mapping[str, float]) -> StudyRun:
    first_key = None if run.stage.first_stage is None else run.stage.first_stage.key
    return StudyRun(
        cell=cell,
        seed=run.seed,
        subset_seed=run.stage.data_seed,
        generator_seed=run.generator_seed,
        key=run.key,
        generator_key=run.generator_key,
        flop=flop.get(run.key),
        generator_flop=flop.get(run.generator_key or ""),
        first_key=first_key,
        first_flop=flop.get(first_key or ""),
    )


def plan_from_description(document: StudyDocument) -> Plan:
    """Return the plan that `describe_plan` described.

    If some run has separate seeds, all runs get `Seeds`; the stages are the same.

    Raises:
        ValueError: another version of this code planned other stages; or a user's method needs a first
            training, and its file is not loaded.
    """
    know_all_counts(document.counts)
    execution = config_from_dict(Execution, document.execution)
    cells = [config_from_dict(Cell, {"protocol": cell.protocol, **cell.config}) for cell in document.cells]
    is_apart = any(run.is_apart for run in document.runs)
    seeds = [_read_seeds(run) if is_apart else run.seed for run in document.runs]
    runs = []
    for run, seed in zip(document.runs, seeds, strict=True):
        cell = cells[run.cell]
        if run.first_key is not None:
            require_at_hand(to_plain(cell.method))  # it says what the first training is for
        planned = PlannedRun(cell=cell, stage=cell.stage(seed, execution))
        if planned.key != run.key:
            raise ValueError(
                f"study {document.name!r} was planned by another version of this code: {planned} has another "
                "key now; run its sweep again to plan it"
            )
        runs.append(planned)
    study = Study(
        name=document.name,
        cells=tuple(cells),
        seeds=tuple(dict.fromkeys(seeds)),
        comparisons=document.comparisons,
        overrides=document.overrides,
    )
    return Plan(study=study, execution=execution, runs=tuple(runs))


def _read_seeds(run: StudyRun) -> Seeds:
    generator_seed = run.seed if run.generator_seed is None else run.generator_seed
    return Seeds(subset=run.subset_seed, generator=generator_seed, classifier=run.seed)


class Schedule:
    """Chooses the next stage among the pending ones whose needed stages are done.

    One slot works on runs while a run is ready, in plan order, so that results come early and cell by cell.
    All others take the longest chain of work first, so that the study ends early. Starting or ending a stage
    takes time logarithmic in the number of ready stages.
    """

    def __init__(self, pending: Mapping[str, AnyStage], cost: Callable[[AnyStage], float]) -> None:
        """Schedule the pending stages.

        Args:
            pending: the stages still to run; the stages that they need are pending as well, or done.
            cost: duration of a stage, in any unit.
        """
        self._stages = dict(pending)
        self._waiting = group_by_upstream(pending)
        self._num_awaited = Counter({key: len(each) for key, each in list_upstreams(pending).items()})
        self._come_along = self._find_twins()
        self._chain_costs: dict[str, float] = {}
        for key in self._waiting.get(None, []):
            self._add_up(key, cost)
        # Equal costs keep the order of the plan, so that a schedule is reproducible.
        self._places = {key: place for place, key in enumerate(pending)}
        self._groups: dict[str, int] = {}
        self._group_of: dict[str, int] = {}
        self._ready: list[tuple[float, int, str]] = []
        """a heap of all ready stages; may still contain some that have started, as lanes of another"""
        self._ready_runs: list[tuple[float, int, str]] = []
        """a heap of those of them that are runs; ordered by plan"""
        self._num_running_runs = 0
        self._ready_lanes: dict[int, list[tuple[float, int, str]]] = {}
        """by group of stages that differ only in the seed, a heap of the ready ones"""
        self._running: set[str] = set()
        self.num_ready = 0
        """number of stages that could start now"""
        self._release(self._waiting.pop(None, []))

    def _find_twins(self) -> dict[str, str]:
        """Pair each representation with a classifier of the same training, which can commit both.

        Returns:
            The keys of the representations by those of the classifiers.
        """
        keys = list_twins(self._stages)
        for twin_key, key in keys.items():
            self._waiting[None].remove(twin_key)
            self._waiting.setdefault(key, []).append(twin_key)
        return {key: twin_key for twin_key, key in keys.items()}

    def find_twin(self, key: str) -> AnyStage | None:
        """Return the pending representation that a stage trains as well, if any."""
        return self._stages.get(self._come_along.get(key, ""))

    def _add_up(self, key: str, cost: Callable[[AnyStage], float]) -> float:
        """Return the cost of the longest chain that begins with a stage, caching all its dependants."""
        behind = max((self._add_up(after, cost) for after in self._waiting.get(key, [])), default=0.0)
        self._chain_costs[key] = cost(self._stages[key]) + behind
        return self._chain_costs[key]

    def _release(self, keys: Iterable[str]) -> None:
        for key in keys:
            group = self._groups.setdefault(lanes_of(self._stages[key]), len(self._groups))
            self._group_of[key] = group
            entry = (-self._chain_costs[key], self._places[key], key)
            heapq.heappush(self._ready, entry)
            if self._is_run(key):
                heapq.heappush(self._ready_runs, (0.0, self._places[key], key))
            heapq.heappush(self._ready_lanes.setdefault(group, []), entry)
            self.num_ready += 1

    @property
    def is_exhausted(self) -> bool:
        """Whether no stage is ready and no running stage can make one ready."""
        return not self.num_ready and not self._running

    def next_ready(self, max_lanes: int = 1) -> list[AnyStage]:
        """Start the next stage, with up to `max_lanes - 1` more that differ from it only in the seed.

        Empty if every remaining stage waits for a running one, or none remains.
        """
        key = None if self._num_running_runs else self._find_first(self._ready_runs)
        if key is None and (key := self._find_first(self._ready)) is None:
            return []
        lanes = self._ready_lanes[self._group_of[key]]
        keys = [heapq.heappop(lanes)[-1] for _ in range(min(max_lanes, len(lanes)))]
        for each in keys:
            del self._group_of[each]
        self.num_ready -= len(keys)
        self._running.update(keys)
        self._num_running_runs += sum(map(self._is_run, keys))
        return [self._stages[each] for each in keys]

    def _is_run(self, key: str) -> bool:
        """Return whether a stage is a run: it ends with metrics on the test set."""
        return self._stages[key].kind == ClassifierStage.kind

    def _find_first(self, heap: list[tuple[float, int, str]]) -> str | None:
        """Return the first stage of a heap that is still ready, and drop started ones from its top."""
        while heap and heap[0][-1] not in self._group_of:
            heapq.heappop(heap)
        return heap[0][-1] if heap else None

    def finish(self, key: str, *, releases: bool, came_along: bool = False) -> None:
        """Record the end of a running stage; stages that need it become ready only if `releases`.

        Args:
            came_along: whether its twin has a result too; else the twin becomes ready.
        """
        self._running.remove(key)
        self._num_running_runs -= self._is_run(key)
        waiting, twin = self._waiting.pop(key, []), self._come_along.pop(key, None)
        if twin is not None:
            waiting.remove(twin)
            if came_along:
                self._release_after_one(self._waiting.pop(twin, []))
            else:
                self._release([twin])
        if releases:
            self._release_after_one(waiting)

    def _release_after_one(self, keys: Sequence[str]) -> None:
        """Release those of these stages that waited only for a finished one."""
        self._num_awaited.subtract(keys)
        self._release(key for key in keys if not self._num_awaited[key])
