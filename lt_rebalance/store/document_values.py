"""What the named documents of a store have to be, as values: plans of studies, accounts of searches."""

from collections.abc import Mapping
from typing import Any

from lt_rebalance.ground.imbalance import name_data
from lt_rebalance.ground.values import (
    LARGEST,
    LARGEST_S,
    MisfitError,
    Shape,
    anything,
    digest,
    either,
    fields,
    flag,
    label,
    list_of,
    mapping_of,
    name,
    number,
    one_of,
    optional,
    scalar,
    text,
    whole,
)
from lt_rebalance.store.config_values import CLASSIFIER, DATA, EXECUTION, GENERATOR, METHOD, SEED

TRIAL_STATES = ("complete", "pruned", "diverged", "failed", "running")

_FLOP = optional(number(0, LARGEST))
_CELL = fields(
    {
        **dict.fromkeys(("protocol", "dataset", "method"), name),
        "data": label,
        "config": fields(
            {"data": DATA, "method": METHOD, "generator": optional(GENERATOR), "classifier": CLASSIFIER},
            others=anything,
        ),
    }
)
_STUDY = fields(
    {
        "study": name,
        "question": text,
        "execution": EXECUTION,
        "datasets": mapping_of(
            fields({"class_names": list_of(label)}, {"is_test_balanced": flag}, anything), name
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
        "results_version": whole(),
        "overrides": mapping_of(anything),
        "comparisons": list_of(fields({"cell": whole(), "reference": whole(), "change": label})),
        "num_slots": optional(whole(1)),
        "devices_per_slot": number(0, 1e6),
        "expected_s": optional(mapping_of(number(0, LARGEST_S))),
    },
    anything,
)


def check_study(values: Any, of_file: str) -> None:  # Any: a JSON value
    """Raise a ValueError unless plain values are those of the study that the name of a file names."""
    _STUDY(values)
    if values["study"] != of_file:
        raise MisfitError(f"{of_file!r} as its file", values["study"], ("study",))
    cells = values["cells"]
    _require(cells, "cells", "a list of at least one", cells)
    for index, cell in enumerate(cells):
        data, where = cell["config"]["data"], f"cells.{index}"
        _require(
            cell["data"] == name_data(data), f"{where}.data", "the C or profile of its config", cell["data"]
        )
        _require(
            cell["dataset"] == data["dataset"], f"{where}.dataset", "that of its config", cell["dataset"]
        )
        _require(
            cell["dataset"] in values["datasets"], f"{where}.dataset", "one of datasets", cell["dataset"]
        )
    for each, described in values["datasets"].items():
        _require(described["class_names"], f"datasets.{each}.class_names", "a list of names", [])
    for index, run in enumerate(values["runs"]):
        where = f"runs.{index}"
        _require(run["cell"] < len(cells), f"{where}.cell", f"below {len(cells)}", run["cell"])
        has_generator = cells[run["cell"]]["config"]["generator"] is not None
        is_same = has_generator == (run["generator_key"] is not None)
        _require(is_same, f"{where}.generator_key", "a key if its cell has a generator", run["generator_key"])
    for index, pair in enumerate(values.get("comparisons", ())):
        highest = max(pair["cell"], pair["reference"])
        _require(highest < len(cells), f"comparisons.{index}", f"of cells below {len(cells)}", highest)


_SETTINGS = mapping_of(scalar, name)
_SCORE = fields({"mean": number(), "sd": optional(number(0, LARGEST)), "by_seed": list_of(number())})
RUNG = fields(
    {
        "round": whole(1),
        "num_steps": whole(),
        "scores": mapping_of(_SCORE, name),
        "total_steps": whole(),
        "train_s": number(0, LARGEST_S),
    },
    {"values": _SETTINGS},
)
_TRIAL = fields(
    {
        "number": whole(),
        "values": _SETTINGS,
        "state": one_of(*TRIAL_STATES),
        "reason": text,
        "rungs": list_of(RUNG),
    },
    {"retry_of": optional(whole())},
)
_RANGE = fields({"kind": one_of("range"), "low": number(), "high": number()}, {"is_log": flag, "unit": label})
_CHOICE = fields({"kind": one_of("choice"), "values": list_of(scalar)}, {"unit": label})
_SEARCH: Mapping[str, Shape] = {
    "name": name,
    "component": name,
    "scheduler": label,
    "seeds": list_of(SEED),
    "objectives": list_of(name),
}
_ACCOUNT = fields(
    {
        "search": fields(_SEARCH, others=anything),
        "question": text,
        "objectives": mapping_of(label, name),
        "space": mapping_of(either(_RANGE, _CHOICE), name),
        "untuned": _SETTINGS,
        "rung_rounds": list_of(whole(1)),
        "trials": list_of(_TRIAL),
        "importance": mapping_of(number(), name),
        "best": optional(whole()),
        "front": list_of(whole()),
        "confirmation": name,
    },
    others=anything,
)


def check_account(values: Any, of_directory: str) -> None:  # Any: a JSON value
    """Raise a ValueError unless plain values are those of the search that a directory is named after."""
    _ACCOUNT(values)
    found = values["search"]["name"]
    _require(found == of_directory, "search.name", f"{of_directory!r} as its directory", found)
    confirmation = f"{of_directory}-confirmation"
    _require(values["confirmation"] == confirmation, "confirmation", confirmation, values["confirmation"])
    _require(values["objectives"], "objectives", "of at least one", {})
    for each, domain in values["space"].items():
        is_wide = domain["kind"] == "choice" or domain["low"] < domain["high"]
        is_wide = is_wide and not (domain.get("is_log") and domain["low"] <= 0)
        _require(is_wide, f"space.{each}", "a range from low to high, above 0 on a log scale", domain)
    numbers = [trial["number"] for trial in values["trials"]]
    _require(numbers == sorted(set(numbers)), "trials", "in the order of their numbers", numbers)
    ends = {trial["number"]: trial["state"] for trial in values["trials"]}
    chosen = values["front"] + [each for each in (values["best"],) if each is not None]
    _require(all(ends.get(each) == "complete" for each in chosen), "best", "a complete trial", chosen)
    for index, trial in enumerate(values["trials"]):
        where = f"trials.{index}.rungs"
        is_shown = trial["state"] != "complete" or trial["rungs"]
        _require(is_shown, where, "of at least one rung", trial["rungs"])
        rounds = [rung["round"] for rung in trial["rungs"]]
        _require(len(rounds) == len(set(rounds)), where, "of rounds, each once", rounds)
        for rung in trial["rungs"]:
            names = set(rung["scores"])
            _require(names == set(values["objectives"]), where, "with a score an objective", sorted(names))


def _require(is_so: object, where: str, rule: str, value: Any) -> None:
    if not is_so:
        raise MisfitError(rule, value, tuple(where.split(".")))
