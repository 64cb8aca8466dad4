"""Collect the records of a store as tidy frames; every planned run is a row, whatever its state."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.completeness import ALLOWANCES, check_completeness, describe_oddities
from analysis.leading import LEADING
from analysis.naming import CELL_COLUMNS, describe_cells, describe_renamed
from analysis.reader import (
    COMPARISON_COLUMNS,
    COUNT_COLUMNS,
    GENERATOR_METRICS,
    GENERATOR_ROUND_METRICS,
    OUTCOME_COLUMNS,
    QUALITY_MEASURES,
    ROUND_METRICS,
    StoreReader,
    find_studies,
)
from analysis.stores import Stores
from analysis.unfinished import Unfinished, leave_out_unfinished
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.imbalance import is_balanced
from lt_rebalance.ground.metrics import leading_metric, metric_names
from lt_rebalance.ground.text import one_line
from lt_rebalance.store.study_document import StudyDocument

_COST_COLUMNS = ("num_rounds", "num_steps", "wall_s", "train_s", "device_s", "num_errors")
_PROVENANCE_COLUMNS = (
    "results_version",
    "device",
    "device_type",
    "precision",
    "num_threads",
    "torch_version",
    "code_version",
    "python_version",
    "numpy_version",
    "ray_version",
    "commit",
    "is_dirty",
    "host",
    "dataset_identity",
)


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that the studies of a store planned and found."""

    location: str
    stores: Stores = field(repr=False)
    studies: tuple[str, ...]
    questions: tuple[str, ...]
    """the questions of the studies that have one"""
    confirmatory: Mapping[str, tuple[str, ...]]
    """by study: hypotheses and families of contrasts that it registered before its first run"""
    changes: tuple[str, ...]
    """of what they registered, in words; with the study where there are several"""
    study_keys: Mapping[str, Mapping[str, tuple[str, ...]]]
    """by study and cell: the keys of the runs that the study plans"""
    registered_seeds: Mapping[str, tuple[int, int, int]]
    """by study that registered its seeds: how many have the results of all runs, how many its plan registers,
    and the fewest of its stopping rule"""
    unfinished: Mapping[str, Unfinished]
    """by registered study that has some: its last seeds at which runs are missing; nothing counts them"""
    cells: pd.DataFrame
    """one row per cell, in the order of the paper: names, and the configuration in dotted columns"""
    tunings: pd.DataFrame
    """one row per cell with settings from a search: study, cell, search, its budget, values, untuned"""
    comparisons: pd.DataFrame
    """one row for each pair of cells that a study is about: study, cell, reference, change, and the `keys` of
    the runs of both that this study plans"""
    runs: pd.DataFrame
    """one row per cell and seed: state, metrics, recalls by rank group, cost, provenance"""
    nested_runs: pd.DataFrame
    """the same for studies with separate seeds, with study, subset_seed and generator_seed; `runs` has only
    those with one seed for everything, because its rows are independent"""
    rounds: pd.DataFrame
    """one row per run and round: step and metrics"""
    first_trainings: Mapping[str, tuple[int, int]]
    """by key of a run that starts from a first training: its rounds and steps, which `rounds` leaves out"""
    generator_costs: Mapping[str, float]
    """by key of a planned run: its share of the device time of its generator, in seconds"""
    classes: pd.DataFrame
    """one row a complete run and class: counts, recall, precision, F1, quality of its generator"""
    confusions: Mapping[str, Confusion]
    """of every complete run, by key"""
    generators: pd.DataFrame
    """one row a generator stage: state, metrics, cost"""
    generator_rounds: pd.DataFrame
    generator_classes: pd.DataFrame
    """one row a complete generator and class: counts and quality"""
    class_names: Mapping[str, tuple[str, ...]]
    """by data set"""
    notes: tuple[str, ...]
    """sentences on what is missing, failed, diverged or unusual"""

    @property
    def interim(self) -> frozenset[str]:
        """The studies with fewer complete seeds than the stopping rule of their plan asks for."""
        return frozenset(
            name for name, (num_whole, _, fewest) in self.registered_seeds.items() if num_whole < fewest
        )

    @property
    def planned(self) -> pd.DataFrame:
        """Every planned run once, including those with separate seeds."""
        others = self.nested_runs[~self.nested_runs["key"].isin(self.runs["key"])].drop_duplicates("key")
        return (
            pd.concat([self.runs, others[self.runs.columns]], ignore_index=True) if len(others) else self.runs
        )

    def read_samples(self, key: str) -> NDArray[np.uint8] | None:
        """Return a generator's samples (3, K, 10, C, H, W): generated, nearest real, real; or None."""
        return self.stores.read_samples(key)


def collect(
    location: str | Sequence[str], *, studies: Sequence[str] = (), allow: Collection[str] = ()
) -> pd.DataFrame:
    """Return one row for each planned cell and seed; arguments and errors as `read_results`."""
    return read_results(location, studies=studies, allow=allow).runs


def read_results(
    location: str | Sequence[str], *, studies: Sequence[str] = (), allow: Collection[str] = ()
) -> Results:
    """Read a store. The last seeds of a registered study are left out while they lack runs.

    Args:
        location: of a store or a published study, or of several, which are read as one store. A stage that
            several of them have is read from the first.
        studies: names of the studies to read; all of them when empty. A run that two of them plan is one row.
        allow: of `ALLOWANCES`. "gaps": planned runs may have failed or be missing, and keep their rows
            without metrics; so do, always, those that ended as not applicable. "duplicates": a cell and seed
            may have several results, made with different devices, precisions, threads or versions of torch;
            each execution is then a cell of its own. "versions": results of different versions of this code
            may be mixed.

    Raises:
        IncompleteError: gaps, duplicates or versions that were not allowed; it names them.
        StoreError: no store, no such study, different studies of one name in several stores, or a damaged
            or foreign file; it names the file.
    """
    if unknown := sorted(set(allow) - set(ALLOWANCES)):
        raise ValueError(f"unknown allowance {unknown[0]!r}; known: {', '.join(ALLOWANCES)}")
    stores, names = find_studies(location, studies)
    reader = _read_counted(stores, {name: stores.load_study(name) for name in names})
    check_completeness(reader, allow)
    return _assemble(reader)


def _read_counted(stores: Stores, studies: Mapping[str, StudyDocument]) -> StoreReader:
    """Read studies, registered ones without their unfinished seeds."""
    reader = StoreReader(stores, studies)
    reader.read()
    states = {key: reader.rows[key]["state"] for key in reader.runs}
    pairs = {name: leave_out_unfinished(study, states) for name, study in studies.items()}
    unfinished = {name: seeds for name, (_, seeds) in pairs.items() if seeds}
    if not unfinished:
        return reader
    counted = {name: study for name, (study, _) in pairs.items()}
    keys = {key for study in studies.values() for key in study.stages}
    not_counted = keys.difference(*(study.stages for study in counted.values()))
    reader = StoreReader(stores, counted, unfinished, not_counted)
    reader.read()
    return reader


def _count_whole_seeds(reader: StoreReader, study: StudyDocument) -> int:
    """Return at how many seeds of a study every run has a result."""
    is_whole: dict[tuple[int, int, int], bool] = {}
    for run in study.runs:
        seeds = run.seed, run.subset_seed, run.seed if run.generator_seed is None else run.generator_seed
        row = reader.rows[run.key]
        has_result = row["state"] not in ("missing", "failed") or bool(row.get("is_not_applicable"))
        is_whole[seeds] = is_whole.get(seeds, True) and has_result
    return sum(is_whole.values())


def _count_registered(plan: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many seeds a plan registers, and the fewest, after its changes."""
    seeds, fewest = plan["seeds"], plan.get("least_seeds", plan["seeds"])
    for change in plan["changes"]:
        seeds = change.get("seeds", seeds)
        fewest = change.get("least_seeds", min(fewest, seeds))
    return seeds, fewest


def _assemble(reader: StoreReader) -> Results:
    cells = describe_cells(reader.cells, reader.tunings)
    rank = {cell: index for index, cell in enumerate(cells["cell"])}
    planned = pd.DataFrame(
        [reader.rows[key] | run | {"key": key} for key, run in reader.runs.items()]
    ).reindex(columns=_run_columns(reader))
    planned["is_not_applicable"] = planned["is_not_applicable"].astype("boolean").fillna(False).astype(bool)
    planned["is_collapsed"] = planned["is_collapsed"].astype("boolean")
    planned["is_constant"] = planned["is_constant"].astype("boolean")
    planned = _beside_cells(planned, cells)
    planned[LEADING] = planned["dataset"].map(_leading_metrics(reader, planned))
    departures = planned["cell"].map(cells.set_index("cell")["paper_departure"])
    planned.insert(len(CELL_COLUMNS), "paper_departure", departures)
    order = ["cell", "subset_seed", "generator_seed", "seed"]
    planned = planned.sort_values(order, key=lambda c: c.map(rank) if c.name == "cell" else c)
    nested = pd.DataFrame(reader.nested_runs, columns=["study", "key"])
    runs = planned[~planned["key"].isin(reader.apart)].drop(columns=["subset_seed", "generator_seed"])
    runs = runs.reset_index(drop=True)
    independent = set(runs["generator_key"].dropna())
    generators = pd.DataFrame(
        [
            {"cell": cell, "key": key} | reader.rows[key]
            for key, cell in reader.generator_cells.items()
            if key in independent
        ],
        columns=["cell", "key", "state", "reason", "seed", *GENERATOR_METRICS, *_COST_COLUMNS],
    )
    generators = _beside_cells(generators, cells)
    return Results(
        location=reader.stores.location,
        stores=reader.stores,
        studies=tuple(reader.studies),
        questions=tuple(
            dict.fromkeys(one_line(study.question) for study in reader.studies.values() if study.question)
        ),
        confirmatory={name: study.confirmatory for name, study in reader.studies.items()},
        changes=tuple(
            each if len(reader.studies) == 1 else f"{name}: {each}"
            for name, study in reader.studies.items()
            for each in study.changes
        ),
        study_keys={
            name: {cell: tuple(keys) for cell, keys in by_cell.items()}
            for name, by_cell in reader.planned_keys.items()
        },
        registered_seeds={
            name: (_count_whole_seeds(reader, study), *_count_registered(study.registered))
            for name, study in reader.studies.items()
            if study.registered is not None
        },
        unfinished=reader.unfinished,
        cells=cells,
        tunings=pd.DataFrame(
            [each | {"cell": cell} for cell, each in reader.tunings.items()],
            columns=["study", "cell", "search", "num_trials", "num_seeds", "values", "untuned"],
        ),
        comparisons=pd.DataFrame(reader.comparisons, columns=COMPARISON_COLUMNS),
        runs=runs,
        nested_runs=nested.merge(planned, on="key", how="left"),
        rounds=_long_rounds(runs, reader, ROUND_METRICS),
        first_trainings=reader.measure_first_trainings(),
        generator_costs=reader.generator_costs,
        classes=_long_classes(runs, reader, (*COUNT_COLUMNS, *OUTCOME_COLUMNS, *QUALITY_MEASURES)),
        confusions=reader.confusions,
        generators=generators,
        generator_rounds=_long_rounds(generators, reader, GENERATOR_ROUND_METRICS),
        generator_classes=_long_classes(generators, reader, (*COUNT_COLUMNS, *QUALITY_MEASURES)),
        class_names=reader.class_names,
        notes=(*describe_oddities(reader), *describe_renamed(cells, reader.planned_keys)),
    )


def _leading_metrics(reader: StoreReader, planned: pd.DataFrame) -> dict[str, str]:
    """Return the leading metric of each data set; a complete run shows whether its test set is balanced."""
    leading = {}
    for dataset, of_dataset in planned.groupby("dataset", observed=True):
        tested = (reader.confusions[key] for key in of_dataset["key"] if key in reader.confusions)
        first = next(tested, None)
        is_test_balanced = first is None or is_balanced(first.true_K.tolist())
        leading[str(dataset)] = leading_metric(is_test_balanced=is_test_balanced)
    return leading


def _run_columns(reader: StoreReader) -> list[str]:
    groups = sorted({name for row in reader.rows.values() for name in row if name.startswith("recall_")})
    flags = ("num_silent_classes", "is_constant", "is_collapsed")
    identity = ("cell", "seed", "subset_seed", "generator_seed", "state", "reason", "is_not_applicable")
    keys = ("key", "generator_key")
    return [
        *identity,
        *metric_names(),
        *groups,
        *flags,
        *_COST_COLUMNS,
        "whole_s",
        *_PROVENANCE_COLUMNS,
        *keys,
    ]


def _beside_cells(frame: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Put the names of their cells before the columns of a frame with a column `cell`."""
    names = cells.set_index("cell")[[name for name in CELL_COLUMNS if name != "cell"]]
    named = frame.join(names, on="cell")
    return named[[*CELL_COLUMNS, *(name for name in frame.columns if name != "cell")]]


def _repeat(frame: pd.DataFrame, lengths: Sequence[int]) -> pd.DataFrame:
    """Return cell names, seed and key of each row, as often as its length says, as categories."""
    names = frame[[*CELL_COLUMNS, "key"]].astype("category")
    names.insert(len(CELL_COLUMNS), "seed", frame["seed"])
    return names.iloc[np.repeat(np.arange(len(frame)), lengths)].reset_index(drop=True)


def _long_rounds(frame: pd.DataFrame, reader: StoreReader, metrics: Sequence[str]) -> pd.DataFrame:
    empty = np.empty((0, 1 + len(metrics)))
    tables = [reader.rounds.get(key, empty) for key in frame["key"]]
    long = _repeat(frame, [len(table) for table in tables])
    long["round"] = np.concatenate([np.arange(0), *(np.arange(1, len(table) + 1) for table in tables)])
    values = np.concatenate([empty, *tables])
    for index, name in enumerate(("step", *metrics)):
        long[name] = values[:, index].astype(np.int64) if name == "step" else values[:, index]
    return long


def _long_classes(frame: pd.DataFrame, reader: StoreReader, columns: Sequence[str]) -> pd.DataFrame:
    shown = frame[frame["key"].isin(list(reader.class_rows))]
    rows = [reader.class_rows[key] for key in shown["key"]]
    long = _repeat(shown, [len(row["class"]) for row in rows])
    for name in columns:
        long[name] = np.concatenate([np.arange(0), *(row[name] for row in rows)])
    names = {
        (dataset, label): name
        for dataset, of_dataset in reader.class_names.items()
        for label, name in enumerate(of_dataset)
    }
    pairs = zip(long["dataset"], long["class"], strict=True)
    long["class_name"] = pd.Categorical([names[pair] for pair in pairs])
    return long
