"""`lt-rebalance show`: one stage, from its record, its failures and its log; of a store, a list of all."""

import argparse
import contextlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lt_rebalance.cli.stores import find_stage, is_store, open_existing, print_json
from lt_rebalance.ground.confusion import MAX_SHOWN, NUM_WORST
from lt_rebalance.ground.errors import NotAFileError
from lt_rebalance.ground.exits import say_command
from lt_rebalance.ground.imbalance import (
    COUNT_GROUPS,
    RANK_GROUPS,
    count_groups,
    name_data,
    rank_groups,
    say_data,
)
from lt_rebalance.ground.metrics import METRICS
from lt_rebalance.ground.text import count, format_duration, lines, make_console, rich
from lt_rebalance.monitoring.concerns import find_concerns
from lt_rebalance.monitoring.facts import list_stages
from lt_rebalance.monitoring.stage_log import log_path
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.records import Failure, Record


def run(options: argparse.Namespace) -> int:
    """Show a stage, or list the stages of a store."""
    if options.log and options.json:
        raise ValueError("--log prints the log as it is, so --json does not go with it; name one of the two")
    if options.store is None and options.storage is None and is_store(options.record):
        if options.log:
            raise ValueError(f"--log prints the log of a stage, got the store {options.record}; add a key")
        _list_stages(open_existing(options.record), as_json=options.json)
        return 0
    store, key = find_stage(options)
    if options.log:
        print(lines(read_log(store, key)), end="")
        return 0
    record = store.read_record(key)
    failure = None if record is not None else store.read_failure(key)
    if options.json:
        print_json(_to_dict(store, key, record, failure))
    else:
        make_console().print(_render(store, key, record, failure), soft_wrap=True)
    return 0


def _list_stages(store: Store, *, as_json: bool) -> None:
    """Print every stage with the first letters of its key, its state and its title, study by study."""
    listed = list_stages(store)
    if as_json:
        print_json(listed)
        return
    console = make_console()
    for name, stages in itertools.groupby(listed, key=lambda each: each["study"]):
        console.print(rich(f"{name or 'in no study'}:"))
        for each in stages:
            told = f"  {each['key'][:8]}  {each['state']:8}  {each['title']}", each["reason"]
            console.print(rich(": ".join(filter(None, told))), soft_wrap=True)
    if listed:
        command = say_command("lt-rebalance", "show", store.location, listed[0]["key"][:8])
        console.print(rich(f"one of them: {command}"), soft_wrap=True)


def read_log(store: Store, key: str) -> str:
    """Return the log of a stage.

    Raises:
        StoreError: it has none.
    """
    try:
        return store.files.read_appended(log_path(key)).decode(errors="replace")
    except FileNotFoundError:
        raise StoreError(f"{store.location}: stage {key} has no log") from None
    except NotAFileError as error:
        raise StoreError(f"{store.location}: {log_path(key)} cannot be read: {error}; move it away") from None


def _to_dict(store: Store, key: str, record: Record | None, failure: Failure | None) -> dict[str, Any]:
    found = record or failure
    return {
        "key": key,
        "state": record.state if record is not None else "failed" if failure is not None else "unfinished",
        "num_errors": store.count_errors(key),
        "record": json.loads(found.to_json()) if found is not None else None,
    }


def _render(store: Store, key: str, record: Record | None, failure: Failure | None) -> RenderableType:
    if record is not None:
        dataset, names = _name_data(store, record)
        return Group(*map(rich, _describe(record, dataset, names)), *_render_classes(record, names))
    if failure is not None:
        told = [f"{failure.kind} {key}", "state: failed", f"error: {failure.error}"]
        return Group(*map(rich, told), Text(lines(failure.traceback, indent="  ")))
    return Text(f"stage {key} is not finished; {count(store.count_errors(key), 'attempt')} ended in an error")


def _describe(record: Record, dataset: str, class_names: list[str]) -> list[str]:
    stage, timing, made = record.stage, record.timing, record.provenance
    lines = [f"{record.kind} {record.key}", f"state: {record.state}, seed {stage['seed']}"]
    lines.append(f"data: {dataset}, {say_data(name_data(stage['data']))}")
    lines += _describe_training(stage)
    metrics = record.all_metrics()
    known = [name for name in METRICS if name in metrics]
    lines += [f"{name}: {metrics[name]:.6g}" for name in dict.fromkeys([*known, *metrics])]
    lines += [f"concern: {concern.text}" for concern in find_concerns(record, class_names)]
    device = "not kept" if timing.device_s is None else format_duration(timing.device_s)
    lines.append(
        f"took: {format_duration(timing.wall_s)}, of them training {format_duration(timing.train_s)}; "
        f"device time {device}"
    )
    lines.append(
        f"work: steps {record.num_steps}, rounds {len(record.curves)}, errors on the way {timing.num_errors}"
    )
    lines.append(f"made: on {made.get('host')}, {made.get('device')}, torch {made.get('torch_build')}")
    lines.append(f"commit: {made.get('commit') or 'unknown'}{', changed' if made.get('is_dirty') else ''}")
    lines.append(f"source: {made.get('source_sha256') or 'unknown'}")
    lines += [f"{role}: {each.file}, {each.num_bytes} bytes" for role, each in record.artifacts.items()]
    return lines


def _describe_training(stage: Mapping[str, Any]) -> Iterator[str]:
    """Yield the trained model and its method."""
    if generator := stage.get("generator") or (stage.get("generator_stage") or {}).get("generator"):
        trained = _name_method(generator["training_method"])
        yield f"generator: {generator['architecture']}; its training set by {trained}"
    if method := stage.get("method"):
        yield f"method: {_name_method(method)}"
    if classifier := stage.get("classifier"):
        yield f"network: {classifier['architecture']}, loss {classifier['loss']}"


def _name_method(method: Mapping[str, Any]) -> str:
    """Return "oversample, draw random", with every option."""
    options = {"draw": method.get("draw")} | (method.get("options") or {})
    told = [f"{name} {value}" for name, value in options.items() if value is not None]
    return ", ".join([method["name"], *told])


def _name_data(store: Store, record: Record) -> tuple[str, list[str]]:
    """Return the names of data set and classes from a study of the store, or else their numbers."""
    dataset = record.stage["data"]["dataset"]
    for name in store.list_studies():
        with contextlib.suppress(StoreError):  # a damaged plan must not prevent showing a stage
            study = store.load_study(name)
            names = study.class_names.get(dataset, ())
            if len(names) == len(record.class_counts):
                return study.say_dataset(dataset), list(names)
    return dataset, [str(label) for label in range(len(record.class_counts))]


def _render_classes(record: Record, class_names: list[str]) -> Iterator[RenderableType]:
    """Yield a table of the classes; beyond `MAX_SHOWN` the groups, and a table of the worst."""
    labels: Sequence[int] = range(len(class_names))
    if len(class_names) > MAX_SHOWN:
        yield from _describe_groups(record)
        labels, measure = _worst(record)
        yield rich(
            f"of {len(class_names):,} classes, the {len(labels)} of lowest {measure}; --json has all of them"
        )
    yield _tabulate_classes(record, class_names, labels)


def _describe_groups(record: Record) -> Iterator[RenderableType]:
    """Yield one line per group: its classes and training images, and the mean of their recalls."""
    recall_K = record.read_confusion().recall_K if record.confusion else None
    groups = {**rank_groups(record.class_counts), **count_groups(record.class_counts)}
    for name, labels in groups.items():
        images = sum(record.class_counts[label] for label in labels)
        recall = "" if recall_K is None else f", mean recall {recall_K[labels].mean():.3f}"
        label = {**RANK_GROUPS, **COUNT_GROUPS}[name].partition(" classes")[0]
        size = count(len(labels), "class", "classes")
        yield rich(f"{label}: {size} with {images:,} real images{recall}")


def _worst(record: Record) -> tuple[list[int], str]:
    """Return the shown classes of many, the worst first, and the criterion."""
    if record.confusion:
        values = record.read_confusion().recall_K.tolist()
        measure = "recall"
    else:
        values = record.quality_per_class.get("diversity", [None] * len(record.class_counts))
        measure = "diversity"
    key = [math.inf if value is None else value for value in values]
    return sorted(range(len(key)), key=key.__getitem__)[:NUM_WORST], measure


def _tabulate_classes(record: Record, class_names: list[str], labels: Sequence[int]) -> Table:
    columns: dict[str, list[str]] = {
        "class": class_names,
        "real": list(map(str, record.class_counts)),
        "trained on": list(map(str, record.training_counts)),
        "synthetic": list(map(str, record.synthetic_counts)),
    }
    if record.confusion:
        columns["recall"] = [f"{recall:.3f}" for recall in record.read_confusion().recall_K]
    for name, values in record.quality_per_class.items():
        columns[name.replace("_", " ")] = ["-" if value is None else f"{value:.3g}" for value in values]
    table = Table()
    for name in columns:
        table.add_column(rich(name), justify="left" if name == "class" else "right")
    for label in labels:
        table.add_row(*(rich(column[label]) for column in columns.values()))
    return table
