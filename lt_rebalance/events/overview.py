"""What stands at the root of a study's events: the table of hyperparameters, and methods side by side."""

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lt_rebalance.events.content import RESULT_METRICS, RESULTS, is_shown, planned_rounds, result_tag
from lt_rebalance.events.log import EventLog
from lt_rebalance.events.naming import ORIGINAL, flatten_cell, name_data, name_runs, study_directory
from lt_rebalance.events.protos import Chart, HParam, Value, experiment, layout, scalar
from lt_rebalance.events.writer import fill_in, remove_events
from lt_rebalance.records import Record
from lt_rebalance.store import Store

ALWAYS_SHOWN = ("data.dataset", "protocol", "data.c", "method.name", "generator.architecture")
"""hyperparameters that are shown even where they do not vary"""
APPLY_TO_SOME = ("data.class_order", "data.subset_draw", "method.draw")
"""hyperparameters that are absent where they mean nothing, as on the original set"""
COMPARED = {
    "test_macro_f1": "macro F1",
    "test_accuracy": "accuracy",
    "test_worst_class_recall": "worst-class recall",
    "test_num_dead_classes": "dead classes",
    "test_loss": "test loss",
}
"""columns of the curves that are averaged over seeds, and the titles of their charts"""
BANDED = "test_macro_f1"
"""the column whose range over seeds is shown as well"""
MEANS_DIRECTORY = "means"


def write_overview(store: Store, study: Mapping[str, Any]) -> None:
    """Write the table and the charts of a study anew.

    A TensorBoard that is running goes on with the table that it has read before.
    """
    root = study_directory(study["study"])
    remove_events(store, root)
    log = EventLog(store.files, root)
    log.add(0, [experiment(hparam_domains(study), _metric_titles()), layout(_categories(study))])
    log.flush()


def hparam_domains(study: Mapping[str, Any]) -> dict[str, list[HParam]]:
    """Return the values of every hyperparameter that varies between cells, and of those always shown.

    Being absent counts as a value where it is a choice, such as epochs of a budget in steps. A cell without a
    generator does not make all settings of generators vary.
    """
    cells = [flatten_cell(cell) for cell in study["cells"]]
    names = dict.fromkeys([*ALWAYS_SHOWN, *sorted({name for cell in cells for name in cell})])
    domains = {}
    for name in names:
        section = name[: name.rfind(".") + 1]
        values = {cell.get(name) for cell in cells if any(each.startswith(section) for each in cell)}
        present = [value for value in values if value is not None]
        num_values = len(present) if name in APPLY_TO_SOME else len(values)
        if num_values > 1 or (present and name in ALWAYS_SHOWN):
            domains[name] = sorted(present, key=lambda value: (isinstance(value, str), value))
    return domains


def _metric_titles() -> dict[str, str]:
    titles = {}
    for selection, meaning in RESULTS.items():
        for name in RESULT_METRICS:
            titles[result_tag(selection, name)] = f"{name.replace('_', ' ')}, {meaning}"
    return titles


def _categories(study: Mapping[str, Any]) -> dict[str, list[Chart]]:
    """Return charts of all methods at each C and protocol, and after them those of single runs."""
    blocks: dict[str, list[Mapping[str, Any]]] = {}
    for cell in study["cells"]:
        blocks.setdefault(_block(cell), []).append(cell)
    categories = {}
    for block, cells in blocks.items():
        ceiling = _block({**cells[0], "data": ORIGINAL})
        if block == ceiling and len(blocks) > 1:  # it stands beside the methods of every C
            continue
        names = (cells[0]["dataset"], cells[0]["protocol"], name_data(cells[0]["data"]))
        shown = dict.fromkeys([block, *({ceiling} & set(blocks))])
        title = f"Methods side by side: {', '.join(names)}"
        categories[title] = _compare(
            list(shown), [_mean_tag(block, BANDED, cell["method"]) for cell in cells]
        )
    categories["All selected runs"] = [
        Chart(title=title, tags=(f"^classifier/{column}$",)) for column, title in COMPARED.items()
    ]
    return categories


def _compare(blocks: Sequence[str], banded: Sequence[str]) -> list[Chart]:
    """Return charts of the means of all methods in some blocks, and one with the bands of some tags."""
    charts = [
        Chart(
            title=f"{title}, mean over seeds",
            tags=tuple(f"^{re.escape(f'means/{block}/{column}/')}[^/]+$" for block in blocks),
        )
        for column, title in COMPARED.items()
    ]
    bands = tuple((tag, f"{tag}/low", f"{tag}/high") for tag in banded)
    charts.insert(1, Chart(title=f"{COMPARED[BANDED]}, lowest to highest seed", bands=bands))
    return charts


def _block(cell: Mapping[str, Any]) -> str:
    """Return what compared cells share, with no more slashes than there are names."""
    return f"{cell['dataset']}/{cell['protocol']}/{name_data(cell['data']).replace('/', ':')}"


def _mean_tag(block: str, column: str, method: str) -> str:
    return f"means/{block}/{column}/{method}"


def write_means(store: Store, study: Mapping[str, Any]) -> None:
    """Write the curves of each cell anew, averaged over the seeds that are complete."""
    directory = f"{study_directory(study['study'])}/{MEANS_DIRECTORY}"
    keys: list[list[str]] = [[] for _ in study["cells"]]
    for run in study["runs"]:
        keys[run["cell"]].append(run["key"])
    remove_events(store, directory)
    log = EventLog(store.files, directory)
    for cell, of_cell in zip(study["cells"], keys, strict=True):
        records = [record for key in of_cell if (record := store.read_record(key)) is not None]
        complete = [record for record in records if record.state == "complete"]
        for step, values in _average(_block(cell), cell["method"], complete) if complete else ():
            log.add(step, values)
    log.flush()


def refresh_events(store: Store, study: Mapping[str, Any]) -> int:
    """Bring the events of a study up to date with its records; return how many runs were missing there.

    Raises:
        StoreError: a record or an artefact cannot be read.
    """
    count = fill_in(store, name_runs(study))
    write_overview(store, study)
    write_means(store, study)
    return count


def _average(block: str, method: str, repeats: Sequence[Record]) -> Iterator[tuple[int, list[Value]]]:
    """Yield step and values of each round that all seeds have reached at the same step."""
    num_rounds = planned_rounds(repeats[0].stage)
    for index, rows in enumerate(zip(*(record.curves for record in repeats), strict=False), start=1):
        if not is_shown(index, num_rounds):
            continue
        values = []
        for column in COMPARED:
            tag, found = _mean_tag(block, column, method), [row[column] for row in rows]
            values.append(scalar(tag, statistics.fmean(found)))
            if column == BANDED:
                values += [scalar(f"{tag}/low", min(found)), scalar(f"{tag}/high", max(found))]
        yield rows[0]["step"], values
