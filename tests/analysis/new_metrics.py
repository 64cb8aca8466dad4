"""Follow two new metrics from a result to the tables; `test_new_metric` adds them and runs this module.

Usage: new_metrics DIRECTORY, in a process whose registry has `error_rate`, computed from confusions, and
`sharpness`, computed from probabilities. Prints JSON.
"""

import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from analysis.ablations import compare_with_references
from analysis.aggregate import aggregate
from analysis.collect import Results, read_results
from analysis.compare import compare
from analysis.tables import to_csv, to_markdown
from analysis.tables.replication import further_table
from lt_rebalance.cli.main import main
from lt_rebalance.methods.losses import LOSSES
from lt_rebalance.monitoring.tensorboard.log import list_event_files, parse_events
from lt_rebalance.monitoring.tensorboard.overview import refresh_events
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, describe_plan
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.tables import runs_frame
from lt_rebalance.training.measuring import measure
from tests.analysis.synthetic import Truth, invent_records, plan_study

ACCURACY = {"none": 0.79, "undersample": 0.72, "oversample": 0.83}


def make_store(root: Path, plan: Plan, *, is_old: bool) -> Store:
    """Write invented records; old ones know nothing of the new metrics."""
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    store.write_study(describe_plan(plan))
    truth = Truth(accuracy=lambda run: ACCURACY[run.cell.method_label])
    for record in invent_records(store, plan, truth, 0):
        metrics: dict[str, Any] = {**record.metrics, "sharpness": 0.25}
        if is_old:
            metrics = {name: value for name, value in record.metrics.items() if name != "error_rate"}
        others = [
            {name: value for name, value in row.items() if not name.startswith("test_")}
            for row in record.curves
        ]
        curves = [row | {f"test_{name}": value for name, value in metrics.items()} for row in others]
        store.commit(dataclasses.replace(record, metrics=metrics, curves=tuple(curves)))
    return store


def follow(root: Path, *, is_old: bool) -> dict[str, Any]:
    """Return what is said of the metrics from the record to the report."""
    plan = plan_study(cs=["1/2"], methods=list(ACCURACY), generators=[], num_seeds=8)
    store = make_store(root / "store", plan, is_old=is_old)
    results = read_results(store.location)
    run = results.runs.iloc[0]
    further = further_table(aggregate(results.runs))
    refresh_events(store, store.load_study(plan.study.name))
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        main(["show", f"{store.location}/stages/{run['key']}"])
    return {
        "accuracy": run["accuracy"],
        "error_rate": run["error_rate"],
        "of runs": runs_frame(Ledger(plan, store))["error_rate"].iloc[0],
        "verdicts": {metric: list_verdicts(results, metric) for metric in ("accuracy", "error_rate")},
        "shown": [line for line in shown.getvalue().splitlines() if line.startswith("error_rate")],
        "further": to_markdown(further),
        "estimates": to_csv(further).count("error_rate"),
        "tags": sorted(list_tags(store)),
    }


def list_verdicts(results: Results, metric: str) -> dict[str, str]:
    """Return the verdicts of contrasts, and of one method as an ablation of another."""
    contrasts = compare(results.runs, metric)
    names = contrasts["method"] + " - " + contrasts["comparator"]
    cells = results.cells.set_index("method")["cell"]
    pair = {"study": "synthetic", "cell": cells["undersample"], "reference": cells["none"], "change": "less"}
    results.comparisons.loc[0] = pair | {"keys": tuple(results.runs["key"])}
    ablations = compare_with_references(results.runs, results.comparisons, metric)
    verdicts = dict(zip(names, contrasts["verdict"], strict=True))
    return verdicts | {"ablation": ablations["verdict"].iloc[0]}


def list_tags(store: Store) -> Iterator[str]:
    """Return the tags of all events, and those that the table and the charts of the study name."""
    for path in Path(store.location, "events").rglob("*"):
        folder = str(path.relative_to(store.location))
        for name in list_event_files(store.files, folder) if path.is_dir() else ():
            for event in parse_events(store.files.read(f"{folder}/{name}")):
                for value in event.summary.value:
                    yield value.tag
                    content = value.metadata.plugin_data.content + b"".join(value.tensor.string_val)
                    for new in (b"error rate", b"mean sharpness"):
                        if new in content:
                            yield f"{new.decode()} in {value.tag}"


def measured_columns() -> list[str]:
    """Return what is measured in a round."""
    logits_NK = torch.zeros(4, 2, dtype=torch.float64)
    return list(measure(logits_NK, torch.tensor([0, 1, 0, 1]), LOSSES["cross_entropy"])[0])


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    found: dict[str, Any] = {name: follow(directory / name, is_old=name == "old") for name in ("new", "old")}
    print(json.dumps(found | {"columns": measured_columns()}))
