"""The plan of a study in a store, as a value; names every run, with or without result."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lt_rebalance.ground.imbalance import name_data
from lt_rebalance.ground.names import entitle
from lt_rebalance.ground.values import (
    LARGEST,
    LARGEST_S,
    anything,
    digest,
    fields,
    flag,
    label,
    list_of,
    mapping_of,
    name,
    number,
    optional,
    require,
    scalar,
    text,
    whole,
)
from lt_rebalance.store.config_values import CLASSIFIER, EXECUTION, GENERATOR, METHOD, SEED, data
from lt_rebalance.store.records import name_seeds

_FLOP = optional(number(0, LARGEST))
_SEEDS = dict.fromkeys(("seeds", "least_seeds"), whole(1))
_CELL = fields(
    {
        **dict.fromkeys(("protocol", "dataset", "method"), name),
        "data": label,
        "config": fields(
            {"data": data, "method": METHOD, "generator": optional(GENERATOR), "classifier": CLASSIFIER},
            others=anything,
        ),
    },
    {"family": label},
)
_STUDY = fields(
    {
        "study": name,
        "question": text,
        "execution": EXECUTION,
        "datasets": mapping_of(
            fields(
                {"class_names": list_of(label)},
                {"title": label, "counts": mapping_of(list_of(whole()), name), "is_test_balanced": flag},
                anything,
            ),
            name,
        ),
        "cells": list_of(_CELL),
        "runs": list_of(
            fields(
                {"cell": whole(), "seed": SEED, "key": digest, "generator_key": optional(digest)},
                {
                    "subset_seed": optional(SEED),
                    "generator_seed": optional(SEED),
                    "flop": _FLOP,
                    "generator_flop": _FLOP,
                    "first_key": digest,
                    "first_flop": _FLOP,
                },
            )
        ),
    },
    {
        "confirmatory": list_of(label),
        "changes": list_of(text),
        "registered": fields(
            {"seeds": whole(1), "changes": list_of(fields({}, _SEEDS, anything))}, _SEEDS, anything
        ),
        "results_version": whole(),
        "overrides": mapping_of(anything),
        "comparisons": list_of(fields({"cell": whole(), "reference": whole(), "change": label})),
        "tunings": list_of(
            fields(
                {
                    "cell": whole(),
                    "search": name,
                    "method": name,
                    "num_trials": whole(1),
                    "num_seeds": whole(1),
                }
                | dict.fromkeys(("values", "untuned"), mapping_of(scalar, name))
            )
        ),
        "num_slots": optional(whole(1)),
        "devices_per_slot": number(0, 1e6),
        "expected_s": optional(mapping_of(number(1e-30, LARGEST_S))),
    },
    anything,
)


@dataclass(frozen=True, kw_only=True)
class StudyCell:
    """A cell: its names in tables, and its configuration."""

    protocol: str
    dataset: str
    data: str
    """its C or profile, named by `imbalance.name_data`"""
    method: str
    config: Mapping[str, Any]
    """as plain values, by section; None for a missing generator"""
    family: str = ""
    """of its method; empty if the study was written without"""


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One cell at one seed. Older studies without separate seeds have one seed for all sources."""

    cell: int
    """index of its cell"""
    seed: int
    subset_seed: int
    generator_seed: int | None
    """None if there is no generator"""
    key: str
    generator_key: str | None
    flop: float | None
    """floating-point operations; None if the study was written without, as with those below"""
    generator_flop: float | None
    first_key: str | None = None
    """of the training that this one starts from, or whose network filters its synthetic images"""
    first_flop: float | None = None

    @property
    def is_apart(self) -> bool:
        """Whether the sources of randomness have separate seeds."""
        return not {self.subset_seed, self.generator_seed} <= {self.seed, None}

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of its stages, each after those that it needs."""
        return tuple(key for key in (self.generator_key, self.first_key, self.key) if key is not None)


@dataclass(frozen=True, kw_only=True)
class StudyStage:
    """A stage that some run of a study needs."""

    key: str
    kind: str
    """"generator", "representation" or "classifier\""""
    cell: int
    """index of the cell; of the first one that uses it"""
    trains: str
    """distinguishes it within its cell: the architecture, or a classifier's method"""
    replicate: str
    """how its seeds are named"""
    upstreams: tuple[str, ...]
    """keys of the stages that it needs, which may need others"""
    flop: float | None
    """floating-point operations; None if the study was written without"""
    stated: Mapping[str, Any]
    """what the study says of the stage of its record: seeds and configuration"""

    def require(self, stage: Mapping[str, Any]) -> None:
        """Raise a MisfitError unless the stage of a record is the one that the study describes."""
        found = {"subset_seed": stage["seed"], **stage}
        if (upstream := stage.get("generator_stage")) is not None:
            found |= {"generator": upstream["generator"], "generator_seed": upstream["seed"]}
        if (first := stage.get("first_stage")) is not None:  # whose budget is the cell's
            found["classifier"] = {**stage["classifier"], "budget": first["classifier"]["budget"]}
        if self.kind == "representation":  # nothing measures it, though its record says how
            found["classifier"] = {**stage.get("classifier", {}), "evaluation_mode": None}
        for where, stated in self.stated.items():
            _require_equal(where, stated, found.get(where))


def _require_equal(where: str, stated: Any, found: Any) -> None:  # Any: JSON values
    """Raise a MisfitError that names the first different value of two."""
    if stated != found and isinstance(stated, Mapping) and isinstance(found, Mapping):
        for each in (*stated, *found):
            _require_equal(f"{where}.{each}", stated.get(each), found.get(each))
    require(stated == found, where, f"{stated!r:.80}, as the study says", found)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two cells of a study whose difference, paired by seed, is an answer."""

    cell: int
    """index among the cells"""
    reference: int
    """index of the cell whose values are subtracted"""
    change: str
    """difference between the cell and its reference"""


@dataclass(frozen=True, kw_only=True)
class StudyDocument:
    """A study as planned."""

    name: str
    question: str
    """its question, in one line"""
    confirmatory: tuple[str, ...] = ()
    """hypotheses and families of contrasts registered before the first run; all others are exploratory"""
    changes: tuple[str, ...] = ()
    """of what was registered, in words"""
    registered: Mapping[str, Any] | None = None
    """its plan as plain values, when it was last run; None without a plan, and in older documents"""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """fields of all cells that were replaced, by section"""
    results_version: int | None
    """None in older documents without it"""
    execution: Mapping[str, Any]
    """as plain values"""
    class_names: Mapping[str, tuple[str, ...]]
    """by data set"""
    unbalanced: tuple[str, ...] = ()
    """data sets whose test classes have unequal sizes"""
    titles: Mapping[str, str] = field(default_factory=dict)
    """names of the user's images, by data set; data sets of the catalogue have no entry"""
    counts: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)
    """images of each class, by data set and split; missing in older documents"""
    cells: tuple[StudyCell, ...]
    comparisons: tuple[Comparison, ...] = ()
    tunings: tuple[Mapping[str, Any], ...] = ()
    """values of cells from searches: "cell", its index; "search", "num_trials", "num_seeds"; "values",
    chosen, by dotted field; "untuned", the values of these fields otherwise; "method", its name in tables
    then"""
    runs: tuple[StudyRun, ...]
    num_slots: int | None = None
    """trials at a time; None if the study was written without"""
    devices_per_slot: float = 1.0
    expected_s: Mapping[str, float] | None = None
    """by kind of stage, the expected seconds per floating-point operation"""

    @cached_property
    def stages(self) -> Mapping[str, StudyStage]:
        """Every stage once, by key, after the stages that it needs."""
        stages: dict[str, StudyStage] = {}
        for run in self.runs:
            for stage in self._stages_of(run):
                first = stages.setdefault(stage.key, stage)
                require(first.stated == stage.stated, "runs", "of one stage under each key", stage.key)
        return stages

    def _stages_of(self, run: StudyRun) -> Iterator[StudyStage]:
        cell = self.cells[run.cell]
        generator, classifier = cell.config["generator"], cell.config["classifier"]
        replicate = name_seeds(run.seed, run.subset_seed, run.generator_seed)
        stated: dict[str, Any] = {"seed": run.seed, "subset_seed": run.subset_seed}
        stated |= {"data": cell.config["data"], "execution": self.execution}
        if self.results_version is not None:
            stated["results_version"] = self.results_version
        if run.generator_key is not None:
            seed = run.seed if run.generator_seed is None else run.generator_seed
            yield StudyStage(
                key=run.generator_key,
                kind="generator",
                cell=run.cell,
                trains=generator["architecture"],
                replicate=name_seeds(seed, run.subset_seed),
                upstreams=(),
                flop=run.generator_flop,
                stated=stated | {"kind": "generator", "seed": seed, "generator": generator},
            )
        if run.first_key is not None:
            first = {**classifier, "selection": "last", "evaluation_mode": None}
            yield StudyStage(
                key=run.first_key,
                kind="representation",
                cell=run.cell,
                trains=classifier["architecture"],
                replicate=replicate,
                upstreams=(),
                flop=run.first_flop,
                stated=stated | {"kind": "representation", "classifier": first},
            )
        stated |= {"method": cell.config["method"], "classifier": classifier}
        stated |= {"generator": generator, "generator_seed": run.generator_seed}
        yield StudyStage(
            key=run.key,
            kind="classifier",
            cell=run.cell,
            trains=cell.method,
            replicate=replicate,
            upstreams=run.keys[:-1],
            flop=run.flop,
            stated=stated | {"kind": "classifier"},
        )

    def say_dataset(self, dataset: str) -> str:
        """Return the name of a data set for readers: "pets (images@75d61863)", or its name."""
        return entitle(dataset, self.titles.get(dataset, ""))

    def plans_as(self, other: "StudyDocument") -> bool:
        """Whether another document describes the same study, whatever the slots and speeds of the machine."""
        others = dict.fromkeys(("num_slots", "devices_per_slot", "expected_s"))
        first, second = (json.loads(json.dumps(each.to_plain() | others)) for each in (self, other))
        return bool(first == second)

    def to_plain(self) -> dict[str, Any]:
        """Return the plain JSON values that `parse_study` reads."""
        values: dict[str, Any] = {
            "study": self.name,
            "question": self.question,
            "overrides": dict(self.overrides),
            "results_version": self.results_version,
            "execution": dict(self.execution),
            "datasets": {each: self._describe_dataset(each) for each in self.class_names},
            "cells": [_describe_cell(cell) for cell in self.cells],
            "comparisons": [dict(vars(each)) for each in self.comparisons],
            "runs": [_describe_run(run) for run in self.runs],
        }
        if self.confirmatory or self.changes:
            values |= {"confirmatory": list(self.confirmatory), "changes": list(self.changes)}
        if self.registered is not None:
            values["registered"] = dict(self.registered)
        if self.tunings:
            values["tunings"] = list(self.tunings)
        if self.results_version is None:
            del values["results_version"]
        if self.num_slots is not None:
            values |= {"num_slots": self.num_slots, "devices_per_slot": self.devices_per_slot}
        return values if self.expected_s is None else values | {"expected_s": dict(self.expected_s)}

    def _describe_dataset(self, dataset: str) -> dict[str, Any]:
        described: dict[str, Any] = {"class_names": list(self.class_names[dataset])}
        if dataset in self.titles:
            described["title"] = self.titles[dataset]
        if dataset in self.counts:
            described["counts"] = {split: list(each) for split, each in self.counts[dataset].items()}
        return described | {"is_test_balanced": False} if dataset in self.unbalanced else described


def _describe_cell(cell: StudyCell) -> dict[str, Any]:
    return {each: value for each, value in vars(cell).items() if each != "family" or value}


def _describe_run(run: StudyRun) -> dict[str, Any]:
    return {
        each: value
        for each, value in vars(run).items()
        if run.first_key is not None or not each.startswith("first_")
    }


def parse_study(values: Any, of_file: str) -> StudyDocument:  # Any: a JSON value
    """Return the study that plain values describe.

    Raises:
        ValueError: they are not those of the study of this name.
    """
    _check_study(values, of_file)
    datasets = values["datasets"]
    study = StudyDocument(
        name=values["study"],
        question=values["question"],
        confirmatory=tuple(values.get("confirmatory", ())),
        changes=tuple(values.get("changes", ())),
        registered=values.get("registered"),
        overrides=values.get("overrides", {}),
        results_version=values.get("results_version"),
        execution=values["execution"],
        class_names={each: tuple(found["class_names"]) for each, found in datasets.items()},
        unbalanced=tuple(each for each, found in datasets.items() if not found.get("is_test_balanced", True)),
        titles={each: found["title"] for each, found in datasets.items() if "title" in found},
        counts={
            each: {split: tuple(counts) for split, counts in found["counts"].items()}
            for each, found in datasets.items()
            if "counts" in found
        },
        cells=tuple(StudyCell(**cell) for cell in values["cells"]),
        comparisons=tuple(Comparison(**each) for each in values.get("comparisons", ())),
        tunings=tuple(values.get("tunings", ())),
        runs=tuple(map(_parse_run, values["runs"])),
        num_slots=values.get("num_slots"),
        devices_per_slot=values.get("devices_per_slot", 1.0),
        expected_s=values.get("expected_s"),
    )
    require(study.stages, "runs", "a list of at least one", [])  # which refuses runs that contradict others
    return study


def _parse_run(values: Mapping[str, Any]) -> StudyRun:
    seed = values["seed"]
    seeds = {"subset_seed": seed, "generator_seed": None if values["generator_key"] is None else seed}
    told = {each: values[each] for each in seeds if values.get(each) is not None}
    return StudyRun(**{"flop": None, "generator_flop": None, **values, **seeds, **told})


def _check_study(values: Any, of_file: str) -> None:
    _STUDY(values)
    require(values["study"] == of_file, "study", f"{of_file!r} the name of its file", values["study"])
    cells = values["cells"]
    require(cells, "cells", "a list of at least one", cells)
    for index, cell in enumerate(cells):
        data, where = cell["config"]["data"], f"cells.{index}"
        is_named = cell["data"] == name_data(data)
        require(is_named, f"{where}.data", "the C or profile of its config", cell["data"])
        require(cell["dataset"] == data["dataset"], f"{where}.dataset", "that of its config", cell["dataset"])
        require(cell["dataset"] in values["datasets"], f"{where}.dataset", "one of datasets", cell["dataset"])
    for each, described in values["datasets"].items():
        num_classes = len(described["class_names"])
        require(num_classes, f"datasets.{each}.class_names", "a list of names", [])
        for split, counts in described.get("counts", {}).items():
            where = f"datasets.{each}.counts.{split}"
            require(len(counts) == num_classes, where, f"{num_classes} numbers", len(counts))
    for index, run in enumerate(values["runs"]):
        where = f"runs.{index}"
        require(run["cell"] < len(cells), f"{where}.cell", f"below {len(cells)}", run["cell"])
        has_generator = cells[run["cell"]]["config"]["generator"] is not None
        is_same = has_generator == (run["generator_key"] is not None)
        require(is_same, f"{where}.generator_key", "a key if its cell has a generator", run["generator_key"])
    for index, each in enumerate(values.get("tunings", ())):
        require(each["cell"] < len(cells), f"tunings.{index}.cell", f"below {len(cells)}", each["cell"])
    for index, pair in enumerate(values.get("comparisons", ())):
        highest = max(pair["cell"], pair["reference"])
        require(highest < len(cells), f"comparisons.{index}", f"of cells below {len(cells)}", highest)
