"""The root of a study's events: the table of hyperparameters, and charts that compare methods."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from lt_rebalance.ground.disk import cannot_be_written
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.imbalance import ORIGINAL
from lt_rebalance.ground.metrics import METRICS
from lt_rebalance.monitoring.tensorboard.content import BALANCED, RESULTS, result_metrics, result_tag
from lt_rebalance.monitoring.tensorboard.log import EventLog
from lt_rebalance.monitoring.tensorboard.means import BANDED, COMPARED, band_tags, mean_tag, write_means
from lt_rebalance.monitoring.tensorboard.naming import (
    flatten_cell,
    is_ceiling,
    name_data,
    study_directory,
)
from lt_rebalance.monitoring.tensorboard.protos import Chart, HParam, experiment, layout
from lt_rebalance.monitoring.tensorboard.writer import fill_in, remove_events
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.study_document import StudyCell, StudyDocument

ALWAYS_SHOWN = (
    "data.dataset",
    "protocol",
    "data.c",
    "data.profile",
    "data.ratio",
    "method.name",
    "generator.architecture",
)
"""hyperparameters that are shown even if they do not vary"""
APPLY_TO_SOME = ("data.class_order", "data.subset_draw", "method.draw")
"""hyperparameters that are absent if they have no meaning, as on the original set"""


def write_overview(store: Store, study: StudyDocument) -> None:
    """Rewrite the table and the charts of a study. A running TensorBoard keeps the table that it has read."""
    root = study_directory(study.name)
    remove_events(store, root)
    log = EventLog(store.files, root)
    log.add(0, [experiment(hparam_domains(study), _metric_titles(study)), layout(_categories(study))])
    log.flush()


def hparam_domains(study: StudyDocument) -> dict[str, list[HParam]]:
    """Return the values of every hyperparameter that varies between cells, and of those always shown.

    Absence counts as a value if it is a choice, such as epochs of a budget in steps. A cell without a
    generator does not make all settings of generators vary.
    """
    cells = [flatten_cell(cell) for cell in study.cells]
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


def _compared(study: StudyDocument) -> dict[str, str]:
    """Return the columns of charts and their titles: balanced accuracy for an unbalanced test set."""
    hidden = () if study.unbalanced else BALANCED
    return {column: title for column, title in COMPARED.items() if column not in hidden}


def _metric_titles(study: StudyDocument) -> dict[str, str]:
    titles = {}
    for selection, meaning in RESULTS.items():
        for name in result_metrics(is_test_balanced=not study.unbalanced):
            titles[result_tag(selection, name)] = f"{METRICS[name].label}, {meaning}"
    return titles


def _categories(study: StudyDocument) -> dict[str, list[Chart]]:
    """Return charts of all methods at each C and protocol, then those of single runs."""
    blocks = {mean_tag(cell, BANDED): cell for cell in study.cells}
    categories = {}
    for cell in blocks.values():
        ceiling = dataclasses.replace(cell, data=ORIGINAL)
        has_ceiling = is_ceiling(study) and mean_tag(ceiling, BANDED) in blocks
        if has_ceiling and cell.data == ORIGINAL and len(blocks) > 1:
            continue  # it is compared with the methods of every C
        shown = [cell, *([ceiling] if has_ceiling else [])]
        names = (study.say_dataset(cell.dataset), cell.protocol, name_data(cell.data))
        title = f"Methods side by side: {', '.join(names)}"
        categories[title] = _compare(shown, _compared(study))
    categories["All selected runs"] = [
        Chart(title=title, tags=(f"^classifier/{column}$",)) for column, title in _compared(study).items()
    ]
    return categories


def _compare(cells: Sequence[StudyCell], compared: Mapping[str, str]) -> list[Chart]:
    """Return charts of the means of all methods that are compared with each other in these cells."""
    charts = []
    for column, title in compared.items():
        tags = dict.fromkeys(f"^{re.escape(mean_tag(cell, column))}$" for cell in cells)
        charts.append(Chart(title=f"{title}, mean over seeds", tags=tuple(tags)))
    bands = dict.fromkeys(band_tags(cell) for cell in cells)
    charts.insert(1, Chart(title=f"{COMPARED[BANDED]}, lowest to highest seed", bands=tuple(bands)))
    return charts


def refresh_events(store: Store, study: StudyDocument) -> int:
    """Update the events of a study from its records; return how many runs were missing.

    Raises:
        StoreError: a record or an artefact cannot be read, or the events cannot be written.
    """
    try:
        count = fill_in(store, study)
        write_overview(store, study)
        write_means(store, study)
    except StorageError:
        raise
    except OSError as error:
        if cannot_be_written(error):  # existing events can be shown as they are
            raise
        root = study_directory(study.name)
        raise StoreError(
            f"{store.location}: {root} cannot be updated: {error}; remove that directory; its events will be "
            "made again from the records"
        ) from None
    return count
