"""Name and order cells: by the settings that they share, and in the order of the paper."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lt_rebalance.ground.imbalance import ORIGINAL, data_rank
from lt_rebalance.ground.paper import TABLE_1, find_departures, flatten, say_departures
from lt_rebalance.ground.text import count
from lt_rebalance.store.study_document import StudyCell

CELL_COLUMNS = (
    "setting",
    "protocol",
    "dataset",
    "data",
    "method",
    "loss_function",
    "budget",
    "class_order",
    "cell",
)
"""the columns that name a cell in every frame; `cell` is a hash of its whole configuration"""
BLOCK_COLUMNS = ("setting", "protocol", "dataset", "data")
"""the columns that name a block: the cells that are compared, of one setting and its training data"""
_PAPER_METHODS = list(dict.fromkeys(method for _, method in TABLE_1))
_METHOD_FIELDS = ("method.", "generator.")
_TOLD = ("data.dataset", "classifier.loss", "classifier.budget.epochs", "classifier.budget.steps")
"""fields that the name of a setting shows in words"""
_TUNED = ", tuned"
"""what follows the name of a method with settings from a search, beside methods without"""
_DATA_FIELDS = ("data.c", "data.profile", "data.ratio", "data.class_order", "data.subset_draw")


def describe_cells(
    cells: Mapping[str, StudyCell], tunings: Mapping[str, Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """Return one row for each cell, in the order of the paper.

    A **setting** is everything that compared cells share: all but C or profile, method and generator. Its
    name says how it differs from the other settings of the frame. Methods are compared within a setting and
    C. Columns: `CELL_COLUMNS`; `family` of the method, empty if its study does not record it;
    `paper_departure`, how the cell differs from the paper's, empty if the paper's numbers apply; and the
    configuration in dotted columns such as "classifier.learning_rate".

    Args:
        cells: by id; "execution" is a section of their configurations.
        tunings: by id, as `StudyDocument.tunings`. Tuned values belong to the method; its setting is that of
            the untuned cell, and so is its name, unless the frame has both.
    """
    rows, untuned = [], []
    for cell_id, cell in cells.items():
        config = flatten(cell.config)
        tuning = (tunings or {}).get(cell_id, {})
        untuned.append({**config, **tuning.get("untuned", {})})
        rows.append(
            {
                "protocol": cell.protocol,
                "dataset": cell.dataset,
                "data": cell.data,
                "method": tuning.get("method", cell.method),
                "loss_function": config["classifier.loss"],
                "budget": _budget(untuned[-1], "classifier.budget"),
                "class_order": config["data.class_order"] or "label",
                "cell": cell_id,
                "family": cell.family,
                "paper_departure": say_departures(find_departures(config)),
                **config,
            }
        )
    frame = pd.DataFrame(rows)
    shared = pd.DataFrame(untuned).reindex(columns=[name for name in frame if "." in name])
    names = [name for name in frame.columns if "." not in name]
    frame.insert(0, "setting", _name_settings(pd.concat([frame[names], shared], axis=1)))
    frame["method"] = _name_methods(frame, tunings or {})
    frame = frame.iloc[sorted(range(len(frame)), key=lambda row: _rank(frame.iloc[row], frame))]
    return frame.reset_index(drop=True)


def _budget(config: Mapping[str, Any], prefix: str) -> str:
    epochs = config[f"{prefix}.epochs"]
    return count(epochs, "epoch") if epochs is not None else count(config[f"{prefix}.steps"], "step")


def _name_settings(frame: pd.DataFrame) -> pd.Series:
    """Name each cell's setting by protocol, loss and budget, and by whatever else differs."""
    orders = [name for name in _DATA_FIELDS[3:] if name in frame]
    shared = [
        name
        for name in frame.columns
        if "." in name and not name.startswith(_METHOD_FIELDS) and name not in _DATA_FIELDS
    ]
    names = (
        frame["protocol"].map(without_told)
        + ", "
        + frame["loss_function"].str.replace("_", " ")
        + ", "
        + frame["budget"]
    )
    if frame["dataset"].nunique() > 1:
        names = frame["dataset"] + ", " + names
    for _, same in frame.groupby(names, sort=False):
        varying = [name for name in shared if name not in _TOLD and _num_values(same[name]) > 1]
        # The original set has no order and no draw of its own, and goes with any.
        varying += [name for name in orders if _num_values(same.loc[same["data"] != ORIGINAL, name]) > 1]
        for name in varying:
            names[same.index] += ", " + name.rpartition(".")[2] + " " + same[name].map(_say)
    return names


def without_told(protocol: str) -> str:
    """Return "sound+classifier.beta1=0.99" without changes that the setting names in words."""
    first, *changes = protocol.split("+")
    return "+".join([first, *(each for each in changes if each.partition("=")[0] not in _TOLD)])


def _name_methods(frame: pd.DataFrame, tunings: Mapping[str, Mapping[str, Any]]) -> pd.Series:
    """Name each cell's method, and how it differs from others of that name in its setting and C.

    If a tuned cell and another share a name, all tuned cells are named so: a name has one meaning in a frame.
    """
    tuned = {cell: tuning["untuned"] for cell, tuning in tunings.items() if tuning["untuned"]}
    is_tuned = frame["cell"].isin(list(tuned))
    place = ["setting", "data", "method"]
    names = frame["method"].copy()
    if (frame.duplicated(place, keep=False) & is_tuned).any():
        names[is_tuned] += _TUNED
    of_method = [name for name in frame.columns if name.startswith(_METHOD_FIELDS)]
    of_search = dict.fromkeys(name for fields in tuned.values() for name in fields)
    for fields in of_method, [name for name in of_search if name in frame and name not in of_method]:
        for _, same in frame.assign(method=names).groupby(place, sort=False):
            for name in fields if len(same) > 1 else ():
                if _num_values(same[name]) > 1:
                    names[same.index] += ", " + name.removeprefix("generator.") + " " + same[name].map(_say)
    return names


def without_tuned(method: str) -> str:
    """Return the name of a method without the mark of a tuned one."""
    return method.partition(_TUNED)[0]


def name_alone(cells: pd.DataFrame) -> pd.Series:
    """Return the names of methods as they are among these cells alone, tuned or not.

    In a larger frame, such as of several stores, a name may also tell a cell from those of other studies:
    "oversample, draw random".
    """
    plain = cells["method"].str.partition(", ")[0]
    is_one = ~cells.assign(method=plain).duplicated(["setting", "data", "method"], keep=False)
    return plain.where(is_one, cells["method"].map(without_tuned))


def describe_renamed(cells: pd.DataFrame, studies: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Say which methods are named by their options here, but not in one of the studies alone.

    Args:
        cells: as `describe_cells` returns them. studies: cells by study.
    """
    own = [cells[cells["cell"].isin(list(of_study))] for of_study in studies.values()]
    renamed = {
        plain: None
        for of_study in own
        for plain, shown in zip(name_alone(of_study), of_study["method"].map(without_tuned), strict=True)
        if plain != shown
    }
    for method in renamed:
        yield (
            f"{method} has several configurations in these studies, so its options are part of its name; "
            f"hypotheses and declared families use only what is named {method} (--study NAME reads one study)"
        )


def _say(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _num_values(values: pd.Series) -> int:
    return int(values.nunique(dropna=False))


def _rank(row: pd.Series, frame: pd.DataFrame) -> tuple[int, float, int, int]:
    settings = list(dict.fromkeys(frame["setting"]))
    return (
        settings.index(row["setting"]),
        data_rank(row["data"]),
        method_rank(row["method"]),
        int(str(row.name)),
    )


def split(
    frame: pd.DataFrame, columns: Sequence[str] = BLOCK_COLUMNS
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:  # Any: names
    """Yield the rows that are equal in all these columns but the protocol, with the values of the columns.

    A protocol describes and does not divide: a setting may have several names of it, such as "sound" and
    "sound+classifier.budget.epochs=30", for cells that differ in nothing.
    """
    dividing = [name for name in columns if name != "protocol"]
    for values, rows in frame.groupby(dividing, sort=False, observed=True):
        shared = dict(zip(dividing, values, strict=True))
        shared["protocol"] = " or ".join(dict.fromkeys(map(str, rows["protocol"])))
        yield {name: shared[name] for name in columns}, rows


def compared_data(frame: pd.DataFrame) -> list[str]:
    """Return the training data on which methods are compared, in the order of a frame with data and method.

    The original set is left out if only method none was run on it, tuned or not, as the ceiling.
    """
    methods = frame.groupby("data", sort=False, observed=True)["method"].agg(set)
    return [
        str(data)
        for data, found in methods.items()
        if data != ORIGINAL or {*map(without_tuned, found)} != {"none"}
    ]


def method_rank(method: str) -> int:
    """Return the sort key of a method: the paper's order first, then other methods."""
    return _PAPER_METHODS.index(method) if method in _PAPER_METHODS else len(_PAPER_METHODS)


def in_order(methods: Iterable[str]) -> list[str]:
    """Return methods in the paper's order, each once."""
    return sorted(dict.fromkeys(methods), key=method_rank)


def cell_with_method(cells: pd.DataFrame, cell: str, method: str) -> str | None:
    """Return the cell with this method that shares all else but the generator, or None."""
    config = [name for name in cells.columns if "." in name and not name.startswith(_METHOD_FIELDS)]
    alike = cells[cells["method.name"] == method].merge(cells.loc[cells["cell"] == cell, config], on=config)
    return None if alike.empty else str(alike["cell"].iloc[0])


def matched_cells(cells: pd.DataFrame, varying: str) -> list[tuple[str, list[tuple[object, str]]]]:
    """Return groups of cells that differ in nothing but one dotted column.

    A column that ends in ".name" means the whole choice: the rest of that section may differ.

    Returns:
        For each group with at least two values: a name of what its cells share, and (value, cell) pairs.
    """
    choice = varying.removesuffix("name") if varying.endswith(".name") else varying
    config = [name for name in cells.columns if "." in name and not name.startswith(choice)]
    groups = []
    for _, same in cells.groupby(config, dropna=False, sort=False):
        if _num_values(same[varying]) > 1:
            first = same.iloc[0]
            name = f"{first['protocol']}, {first['data']}, {first['method']}, {first['budget']}"
            groups.append((name, list(zip(same[varying], same["cell"], strict=True))))
    return groups
