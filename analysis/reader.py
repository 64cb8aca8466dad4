"""Read the studies of a store and the records that they name, each file once and read-only.

Shape suffixes: K classes. Only studies, records, failures and grids of samples are opened.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.stores import Stores
from analysis.unfinished import Unfinished
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.imbalance import count_groups, is_balanced, rank_groups
from lt_rebalance.ground.metrics import METRICS, confusion_metrics, metric_names
from lt_rebalance.ground.text import one_line
from lt_rebalance.ground.values import canonical
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import NOT_APPLICABLE, Failure, Record
from lt_rebalance.store.study_document import StudyCell, StudyDocument, StudyRun

GENERATOR_METRICS = (
    "discriminator_loss",
    "generator_loss",
    "probability_real",
    "probability_fake",
    "num_collapsed_classes",
)
COUNT_COLUMNS = ("class", "rank_group", "count_group", "class_count", "training_count", "synthetic_count")
OUTCOME_COLUMNS = ("predicted_count", "recall", "precision", "f1")
QUALITY_MEASURES = ("diversity", "distinct_nearest", "nearest_distance_ratio")
COMPARISON_COLUMNS = ["study", "cell", "reference", "change", "keys"]
ROUND_METRICS = ("train_loss", *(f"test_{name}" for name in metric_names()))
GENERATOR_ROUND_METRICS = GENERATOR_METRICS[:-1]

UNKNOWN_CODE = "unknown"
"""used for an unknown commit"""


def find_studies(location: str | Sequence[str], studies: Sequence[str]) -> tuple[Stores, Sequence[str]]:
    """Return the stores, and the names of the studies to read of them, all where none are given.

    Args:
        location: of a store, or of several, which are read as one.

    Raises:
        StoreError: no store, no study, none of that name, or different searches of one name.
    """
    stores = Stores([location] if isinstance(location, str) else location)
    known = stores.list_studies()
    if not known and not studies:
        raise StoreError(f"{stores.location}: no study has been started here; run a sweep first")
    for name in set(studies) - set(known):
        stores.load_study(name)  # it says which ones there are
    stores.require_equal_searches()
    return stores, tuple(studies) or tuple(known)


class StoreReader:
    """Reads studies and records, each file once, and keeps what the frames need."""

    def __init__(
        self,
        stores: Stores,
        studies: Mapping[str, StudyDocument],
        unfinished: Mapping[str, Unfinished] | None = None,
        not_counted: Collection[str] = (),
    ) -> None:
        """Set what to read.

        Args:
            unfinished: by study: the seeds that were left out of it, and `not_counted`, their stages.
        """
        self.stores = stores
        self.studies = studies
        self.unfinished = unfinished or {}
        self.not_counted = not_counted
        self._shown_datasets: dict[str, str] = {}
        """the name of each data set in all frames"""
        self.class_names: dict[str, tuple[str, ...]] = {}
        self.cells: dict[str, StudyCell] = {}
        """by cell id: its entry in the study, with "execution" in its configuration"""
        self.runs: dict[str, dict[str, Any]] = {}
        """by key: cell, seeds and generator key"""
        self.apart: set[str] = set()
        """keys of runs with separate seeds for their sources of randomness"""
        self.nested_runs: list[dict[str, str]] = []
        """study and key of every run of studies with separate seeds"""
        self.planned_keys: dict[str, dict[str, list[str]]] = {}
        """by study and cell: the keys of its runs"""
        self.comparisons: list[dict[str, Any]] = []
        """by study: cell, the reference it is compared with, the change, and the keys of the runs of both"""
        self.tunings: dict[str, dict[str, Any]] = {}
        """by cell id: its tuned values from a search, and the study"""
        self.generator_cells: dict[str, str] = {}
        """by key of a generator: the first cell that uses it"""
        self.first_keys: dict[str, str] = {}
        """by key of a run with a second training: the first training that it starts from"""
        self.generator_costs: dict[str, float] = {}
        """by key of a run: its share of the device time of its generator"""
        self.rows: dict[str, dict[str, Any]] = {}
        self.rounds: dict[str, NDArray[np.float64]] = {}
        self.class_rows: dict[str, dict[str, Any]] = {}
        self.confusions: dict[str, Confusion] = {}
        self.versions: Counter[int] = Counter()

    def read(self) -> None:
        for name, study in self.studies.items():
            self._read_study(name, study)
        self.rows = {
            key: {"state": "missing"}
            for key in (*self.generator_cells, *self.runs, *self.first_keys.values())
        }
        for store, key, outcome in self.stores.scan(self.rows):
            self.rows[key] = self._describe(store, outcome)
        for key, run in self.runs.items():
            self._inherit_state(self.rows[key], run["generator_key"], "generator")
            self._inherit_state(self.rows[key], self.first_keys.get(key), "first training")
        self._add_up_costs()
        self._share_costs()

    def measure_first_trainings(self) -> dict[str, tuple[int, int]]:
        """Return the rounds and steps of the first training of each run that starts from one, by its key."""
        firsts = {key: self.rows[first_key] for key, first_key in self.first_keys.items()}
        return {
            key: (row["num_rounds"], row["num_steps"]) for key, row in firsts.items() if "num_rounds" in row
        }

    def _add_up_costs(self) -> None:
        """Add the cost of each run alone: its own device time plus that of everything it builds on.

        A first training that was committed with the run of another method is charged to that run, whose times
        it has.
        """
        charged = {_times(self.rows[key]): self.rows[key].get("device_s", np.nan) for key in self.runs}
        for key, run in self.runs.items():
            chain = [each for each in (run["generator_key"], self.first_keys.get(key), key) if each]
            costs = [self.rows[each].get("device_s", np.nan) for each in chain]
            for place, each in enumerate(chain[:-1]):
                if costs[place] == 0:
                    times = _times(self.rows[each])
                    costs[place] = charged.get(times, times[0])
            self.rows[key]["whole_s"] = sum(costs)

    def _share_costs(self) -> None:
        """Add to each run its share of its first training, and keep its share of its generator.

        A first training that a run of none has trained as well has a cost of 0: all of it is in the run of
        none.
        """
        generator_keys = {key: run["generator_key"] for key, run in self.runs.items() if run["generator_key"]}
        firsts, self.generator_costs = map(self._shares_of, (self.first_keys, generator_keys))
        for key, share_s in firsts.items():
            self.rows[key]["device_s"] = self.rows[key].get("device_s", 0.0) + share_s

    def _shares_of(self, upstream_keys: Mapping[str, str]) -> dict[str, float]:
        """Return the share of each run in the device time of what it builds on, by its key.

        The runs that are finished share it evenly; until one is, all that are planned do.
        """
        finished = {key: each for key, each in upstream_keys.items() if "device_s" in self.rows[key]}
        used = set(finished.values())
        users = {key: each for key, each in upstream_keys.items() if key in finished or each not in used}
        num_users = Counter(users.values())
        known = {key: each for key, each in users.items() if "device_s" in self.rows[each]}
        return {key: self.rows[each]["device_s"] / num_users[each] for key, each in known.items()}

    def _read_study(self, name: str, study: StudyDocument) -> None:
        for dataset, names in study.class_names.items():
            # The same images may have had other names: one name for all results on them.
            shown = self._shown_datasets.setdefault(dataset, study.say_dataset(dataset))
            self.class_names[shown] = names
        ids = []
        for cell in study.cells:
            config = {**cell.config, "execution": study.execution}
            ids.append(digest(config))
            shown = self._shown_datasets[cell.dataset]
            self.cells.setdefault(ids[-1], dataclasses.replace(cell, config=config, dataset=shown))
        for tuning in study.tunings:
            self.tunings.setdefault(ids[tuning["cell"]], {**tuning, "study": name})
        runs = {run.key: _describe_run(run, ids[run.cell]) for run in study.runs}
        keys = self.planned_keys[name] = {each: [] for each in ids}
        for key, run in runs.items():
            keys[run["cell"]].append(key)
            self.runs.setdefault(key, run)
            if run["generator_key"] is not None:
                self.generator_cells.setdefault(run["generator_key"], run["cell"])
        for each in study.comparisons:
            of_cell, of_reference = ids[each.cell], ids[each.reference]
            row = (name, of_cell, of_reference, each.change, (*keys[of_cell], *keys[of_reference]))
            self.comparisons.append(dict(zip(COMPARISON_COLUMNS, row, strict=True)))
        self.first_keys |= {run.key: run.first_key for run in study.runs if run.first_key is not None}
        if apart := {run.key for run in study.runs if run.is_apart}:
            self.apart |= apart
            self.nested_runs += [{"study": name, "key": key} for key in runs]

    def _describe(self, store: Store, outcome: Record | Failure) -> dict[str, Any]:
        if isinstance(outcome, Failure):
            is_not_applicable = outcome.cause == NOT_APPLICABLE
            reason = one_line(outcome.error)
            # Of an outcome, what the class of an error is called tells a reader nothing.
            reason = reason.partition(": ")[2] if is_not_applicable else reason
            return {"state": "failed", "reason": reason, "is_not_applicable": is_not_applicable}
        record, key = outcome, outcome.key
        for study in self.studies.values():
            if key in study.stages:
                store.require_planned(study, key, record.stage)
        self.versions[record.stage["results_version"]] += 1
        if record.kind == "representation":
            return {"state": record.state, "num_rounds": len(record.curves)} | _cost(record)
        is_classifier = record.kind == "classifier"
        self.rounds[key] = _round_table(record, ROUND_METRICS if is_classifier else GENERATOR_ROUND_METRICS)
        row = {"state": record.state, "seed": record.stage["seed"], "num_rounds": len(record.curves)}
        row |= _cost(record) | _provenance(record)
        if record.state == "complete":
            self._require_names(store, record)
            if is_classifier:
                self.confusions[key] = record.read_confusion()
            self.class_rows[key] = self._class_columns(record)
            row |= self._classifier_values(record) if is_classifier else dict(record.metrics)
        return row

    def _require_names(self, store: Store, record: Record) -> None:
        """Raise a StoreError if a study does not name every class of a record."""
        dataset, num_classes = record.stage["data"]["dataset"], len(record.class_counts)
        for name, study in self.studies.items():
            found = study.class_names.get(dataset)
            if found is not None and (num_names := len(found)) != num_classes:
                raise StoreError(
                    f"{store.location}: studies/{name}.json names {num_names} classes of {dataset}, and "
                    f"stages/{record.key}/result.json has {num_classes}; restore the altered file, or move "
                    "it away and run the command that made it again"
                )

    def _classifier_values(self, record: Record) -> dict[str, Any]:
        confusion = self.confusions[record.key]
        recall_K, predicted_K = confusion.recall_K, confusion.predicted_K
        groups = {**_groups_by_rank(record), **count_groups(record.class_counts)}
        recalls = {f"recall_{name}": recall_K[labels].mean() for name, labels in groups.items()}
        return (
            {name: record.metrics[name] for name in record.metrics if name in METRICS}
            | confusion_metrics(confusion)
            | recalls
            | {
                "num_silent_classes": int((predicted_K == 0).sum()),
                "is_constant": bool((predicted_K > 0).sum() == 1),
                "is_collapsed": bool((recall_K == 0).any()),
            }
        )

    def _class_columns(self, record: Record) -> dict[str, Any]:
        num_classes = len(record.class_counts)
        columns: dict[str, Any] = {
            "class": np.arange(num_classes),
            "rank_group": _name_groups(_groups_by_rank(record), num_classes),
            "count_group": _name_groups(count_groups(record.class_counts), num_classes),
            "class_count": record.class_counts,
            "training_count": record.training_counts,
            "synthetic_count": record.synthetic_counts,
        }
        if record.kind == "classifier":
            confusion = self.confusions[record.key]
            columns |= {
                "predicted_count": confusion.predicted_K,
                "recall": confusion.recall_K,
                "precision": confusion.precision_K,
                "f1": confusion.f1_K,
            }
        for name in QUALITY_MEASURES:
            values = record.quality_per_class.get(name, [None] * num_classes)
            columns[name] = np.array(values, dtype=np.float64)
        return columns

    def _inherit_state(self, row: dict[str, Any], upstream_key: str | None, what: str) -> None:
        if row["state"] == "missing" and upstream_key is not None:
            upstream = self.rows[upstream_key]
            if upstream["state"] in ("failed", "diverged"):
                row["state"] = upstream["state"]
                row["reason"] = f"its {what} {upstream['state']}: {upstream.get('reason', 'loss not finite')}"
                row["is_not_applicable"] = upstream.get("is_not_applicable", False)


def _groups_by_rank(record: Record) -> Mapping[str, list[int]]:
    """Return head, medium and tail; for records of the original set, which name none, from the counts."""
    if record.rank_groups or is_balanced(record.class_counts):
        return record.rank_groups
    return rank_groups(record.class_counts)


def _name_groups(groups: Mapping[str, list[int]], num_classes: int) -> NDArray[np.object_]:
    """Return the group of each class, None for a class in none."""
    group_K = np.full(num_classes, None, dtype=object)
    for name, labels in groups.items():
        group_K[labels] = name
    return group_K


def _times(row: Mapping[str, Any]) -> tuple[float, float]:
    return row.get("wall_s", np.nan), row.get("train_s", np.nan)


def _describe_run(run: StudyRun, cell: str) -> dict[str, Any]:
    columns = ("seed", "subset_seed", "generator_seed", "generator_key")
    return {"cell": cell} | {name: getattr(run, name) for name in columns}


def digest(value: Any) -> str:  # Any: JSON values
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def _round_table(record: Record, names: Sequence[str]) -> NDArray[np.float64]:
    rows = [[row["step"], *(row.get(name, np.nan) for name in names)] for row in record.curves]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 1 + len(names))


def _cost(record: Record) -> dict[str, Any]:
    timing = record.timing
    return {
        "num_steps": record.num_steps,
        "wall_s": timing.wall_s,
        "train_s": timing.train_s,
        "device_s": timing.charged_s,
        "num_errors": timing.num_errors,
    }


def _provenance(record: Record) -> dict[str, Any]:
    execution, provenance = record.stage["execution"], record.provenance
    versions = provenance.get("versions", {})
    return {
        "results_version": record.stage["results_version"],
        "device": provenance.get("device", ""),
        "device_type": execution["device"],
        "precision": execution["precision"],
        "num_threads": execution["num_threads"],
        "torch_version": execution["torch_version"],
        "code_version": versions.get("lt_rebalance") or "",
        "python_version": versions.get("python") or "",
        "numpy_version": versions.get("numpy") or "",
        "ray_version": versions.get("ray") or "",
        "commit": _name_code(provenance),
        "is_dirty": provenance.get("is_dirty") if provenance.get("commit") else None,
        "host": provenance.get("host", ""),
        "dataset_identity": record.stage["dataset_identity"],
    }


def _name_code(provenance: Mapping[str, Any]) -> str:
    """Return the identity of the code of a result: its commit, and the hash of its files if necessary.

    Records from before files were hashed may have an empty commit, and then there is none.
    """
    commit, source = provenance.get("commit") or UNKNOWN_CODE, provenance.get("source_sha256")
    is_told_by_commit = commit != UNKNOWN_CODE and provenance.get("is_dirty") is False
    return str(commit) if is_told_by_commit or not source else f"{commit}, source {str(source)[:12]}"
