"""Change fields of a study's cells: by a TOML file, on the command line, or in an ablation.

An override names a section of a `Cell` and a field in it, such as "classifier.learning_rate". Sections are
the configurations that cells consist of; a configuration inside one is a table inside its table.
"""

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_rebalance.data.long_tail import DataConfig
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.ground.plain import config_from_dict, field_types, parse_value, require_known, to_plain
from lt_rebalance.methods.knobs import KNOBS, list_knobs
from lt_rebalance.methods.registry import MethodConfig, get_method, name_holders
from lt_rebalance.studies.protocols import step_budget
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.training.configs import ClassifierConfig, GeneratorConfig

NULL = "null"
"""how a file or a command line empties a field; TOML has no null"""

MAX_FILE_BYTES = 1_000_000

Tables = Mapping[str, Any]  # Any: plain values, and tables of them


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """New values for fields of cells, checked against the types of the fields."""

    tables: Tables
    """by section, as in a TOML file"""
    label: str
    """suffix of protocol names in tables; empty if nothing is changed"""


def make_overrides(changes: Mapping[str, Any]) -> Overrides:
    """Return the overrides for dotted names such as "classifier.loss"; None if there are none.

    Raises:
        ValueError: an unknown name or a value of another type.
    """
    tables: dict[str, Any] = {}
    changes = {name: _resolve_own(name, value) for name, value in changes.items()}
    for name, value in changes.items():
        tables = _merge(tables, _nest(name, value))
    label = "+".join(_say(name, value) for name, value in changes.items())
    return Overrides(tables=_check_sections(tables), label=label)


def read_overrides(path: str | None, settings: Sequence[str]) -> Overrides:
    """Return the overrides of a TOML file and of settings such as "classifier.budget.steps=600".

    Settings override the file, and later settings earlier ones. The value of a setting is a TOML value;
    anything else is taken as a string. "null" empties an optional field.

    Raises:
        ValueError: a file that cannot be read, an unknown name or a value of another type.
    """
    tables: dict[str, Any] = {} if path is None else _resolve_all(_read_sections(Path(path)))
    said: dict[str, str] = {}
    for setting in settings:
        name, text = (part.strip() for part in setting.partition("=")[::2])
        if not name or not text:
            raise ValueError(f"--set takes section.field=value, got {setting!r}")
        value = _resolve_own(name, parse_value(text))
        tables = _merge(tables, _nest(name, value))
        said.pop(name, None)  # a later one replaces it, in the label as well
        said[name] = _say(name, value)
    labels = [*([] if path is None else [Path(path).stem]), *said.values()]
    return Overrides(tables=_check_sections(tables), label="+".join(labels))


def _resolve_own(name: str, value: Any) -> Any:
    """Return a value; the name of a user's file's object if the field names code and the value has a path."""
    return resolve(value) if name in NAMES_OF_CODE and isinstance(value, str) else value


def _resolve_all(tables: Tables, section: str = "") -> dict[str, Any]:
    return {
        name: _resolve_all(value, f"{section}{name}.")
        if isinstance(value, Mapping)
        else _resolve_own(section + name, value)
        for name, value in tables.items()
    }


def _say(name: str, value: Any) -> str:  # Any: a plain value, as everywhere below
    return f"{name}={NULL if value is None else value}"


def _read_sections(path: Path) -> dict[str, Any]:
    tables = read_toml(path, "--config")
    if not any(tables.values()):
        raise ValueError(f"--config {path} sets nothing; it needs tables of {', '.join(SECTIONS)}")
    return tables


def read_toml(path: Path, option: str) -> dict[str, Any]:
    """Return the content of a file that an option names; ValueError if it is unreadable or not TOML."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            content = file.read(MAX_FILE_BYTES + 1)  # a device or a pipe may be endless
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(f"more than {MAX_FILE_BYTES:,} bytes")
        # Some editors write a byte order mark at the beginning, and CRLF line ends.
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise ValueError(f"{option} {path} is not a TOML file: {error}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer is empty instead of blocking."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _nest(name: str, value: Any) -> dict[str, Any]:
    """Return "a.b.c" and a value as nested tables."""
    first, _, rest = name.partition(".")
    return {first: _nest(rest, value) if rest else value}


def _merge(tables: Tables, changes: Tables) -> dict[str, Any]:
    """Return tables with some of their values replaced."""
    merged = dict(tables)
    for name, value in changes.items():
        earlier = merged.get(name)
        if isinstance(earlier, Mapping) and isinstance(value, Mapping):
            kept = _without_other_unit(earlier, value) if name == "budget" else earlier
            value = _merge(kept, value)
        merged[name] = value
    return merged


def _without_other_unit(budget: Tables, changes: Tables) -> Tables:
    """Return the part of a budget that remains when a new one is given in one unit."""
    replaced = {"epochs": ("steps", "rounds"), "steps": ("epochs",)}
    gone = {name for unit in changes for name in replaced.get(unit, ())}
    return {name: value for name, value in budget.items() if name not in gone}


def _check_sections(tables: Tables) -> Tables:
    for name in tables:
        require_known("section of a cell", name, tuple(SECTIONS))
    return {name: _check(SECTIONS[name], value, name) for name, value in tables.items()}


def _check(annotation: Any, value: Any, name: str) -> Any:
    """Return a value converted to the type of a field."""
    is_union = isinstance(annotation, types.UnionType)
    members = typing.get_args(annotation) if is_union else (annotation,)
    if value in (None, NULL) and types.NoneType in members:
        return None
    if annotation is Any:  # options of a method, which are checked later with the method
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is a table of a method's options; got {value!r}")
        return value
    (kind,) = (member for member in members if member is not types.NoneType)
    if dataclasses.is_dataclass(kind):
        return _check_table(typing.cast(type, kind), value, name)
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        empty = f", or {NULL!r} for none" if types.NoneType in members else ""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        quoted = f"; quote it: '{name}=\"{value}\"'" if kind is str and is_number else ""
        raise ValueError(f"{name} must be a value of type {kind.__name__}{empty}, got {value!r}{quoted}")
    try:
        return kind(value)
    except OverflowError:
        raise ValueError(f"{name} must be a finite number, got a whole number that is too large") from None


def _check_table(config: type, value: Any, name: str) -> Tables:
    known = field_types(config)
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is a table of {', '.join(known)}; got {value!r}")
    for key in value:
        require_known(f"field of {name}", key, tuple(known))
    return {key: _check(known[key], each, f"{name}.{key}") for key, each in value.items()}


def _for_method(cell: Cell, table: Tables) -> tuple[dict[str, Any], Tables]:
    """Return the method of a cell as a table, and its changes, without options of other methods."""
    plain = to_plain(cell.method)
    if table.get("name", plain["name"]) != plain["name"]:
        plain.pop("options", None)
    known_knobs = list_knobs(get_method(table.get("name", plain["name"])))
    table = {name: value for name, value in table.items() if name not in KNOBS or name in known_knobs}
    if "options" not in table:
        return plain, table
    declared = get_method(table.get("name", plain["name"])).options
    known = () if declared is None else field_types(declared)
    options = {name: value for name, value in table["options"].items() if name in known}
    changes = {name: value for name, value in table.items() if name != "options"}
    return {**plain, "options": plain.get("options")}, changes | ({"options": options} if options else {})


def change_cell(cell: Cell, overrides: Overrides) -> Cell:
    """Return a cell with some fields replaced, and renamed accordingly.

    A budget given in one unit replaces one in the other; a number of steps alone gets its rounds from
    `step_budget`. Cells without a generator ignore the section "generator", and methods without an option
    ignore it.

    Raises:
        ValueError: incompatible values.
    """
    changes: dict[str, Any] = {}
    for section, table in overrides.tables.items():
        if (config := getattr(cell, section)) is not None:
            try:
                plain, of_cell = to_plain(config), table
                if section == "method":
                    plain, of_cell = _for_method(cell, table)
                changes[section] = config_from_dict(type(config), _replace(plain, of_cell))
            except ValueError as error:
                raise ValueError(f"{overrides.label} does not go with {cell}: {error}") from None
    return dataclasses.replace(cell, protocol=f"{cell.protocol}+{overrides.label}", **changes)


def _replace(plain: Tables, changes: Tables) -> dict[str, Any]:
    replaced = dict(plain)
    if not changes.keys().isdisjoint(("name", "architecture")):
        replaced.pop("file_sha256", None)  # of the replaced fields
    for name, value in changes.items():
        if name == "budget":
            replaced[name] = _replace_budget(plain[name], value)
        else:
            replaced[name] = _replace(plain.get(name) or {}, value) if isinstance(value, Mapping) else value
    return replaced


def _replace_budget(plain: Tables, changes: Tables) -> Tables:
    if "epochs" not in changes and "steps" not in changes:
        return {**plain, **changes}
    if changes.get("steps") is not None and "rounds" not in changes:
        return {**to_plain(step_budget(changes["steps"])), **changes}
    return changes


def change_study(study: Study, overrides: Overrides) -> Study:
    """Return a study with some fields of all its cells replaced, and a record of the changes.

    Raises:
        ValueError: incompatible values, a generator's if no cell has one, or cells that become equal.
    """
    if not overrides.tables:
        return study
    is_cut = [cell.data.cut is not None for cell in study.cells]
    of_uncut = _without_cut(overrides) if any(is_cut) else overrides
    cells = tuple(map(change_cell, study.cells, [overrides if each else of_uncut for each in is_cut]))
    require_effect(cells, overrides)
    if len({cell.unnamed() for cell in cells}) < len({cell.unnamed() for cell in study.cells}):
        raise ValueError(
            f"{overrides.label} replaces what study {study.name!r} compares: some of its cells would be equal"
        )
    return dataclasses.replace(study, cells=cells, overrides=overrides.tables)


def _without_cut(overrides: Overrides) -> Overrides:
    """Return overrides of cells that are not cut: without fields of cuts, unless they make one."""
    data = overrides.tables.get("data", {})
    if not data.keys().isdisjoint(("c", "profile")):
        return overrides
    kept = {name: value for name, value in data.items() if name not in ("subset_draw", "class_order")}
    return dataclasses.replace(overrides, tables={**overrides.tables, "data": kept})


def require_effect(cells: Sequence[Cell], overrides: Overrides) -> None:
    """Raise a ValueError unless every option of a method or field of a generator acts in some cell."""
    if "generator" in overrides.tables and all(cell.generator is None for cell in cells):
        raise ValueError(f"{overrides.label}: none of the methods has a generator")
    methods = [get_method(cell.method.name) for cell in cells]
    own = {name for each in methods if each.options is not None for name in field_types(each.options)}
    knobs = {name for each in methods for name in list_knobs(each)}
    table = overrides.tables.get("method", {})
    for name in table.get("options", {}):
        if name not in own:
            hint = f"; it is set as method.{name}" if name in knobs else name_holders(name)
            raise ValueError(
                f"none of the methods has an option {name!r}; known: {', '.join(sorted(own)) or 'none'}{hint}"
            )
    for name in table:
        if name in KNOBS and name not in knobs:
            raise ValueError(f"none of the methods has {name}{name_holders(name)}")


NAMES_OF_CODE = (
    *("method.name", "classifier.architecture"),
    *("generator.architecture", "generator.training_method.name"),
)
"""fields that take PATH.py:NAME, an object of a user's file"""

SECTIONS: Mapping[str, type] = {
    "data": DataConfig,
    "method": MethodConfig,
    "generator": GeneratorConfig,
    "classifier": ClassifierConfig,
}
