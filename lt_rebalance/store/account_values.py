"""Check the values of the account of a search."""

from collections.abc import Mapping
from typing import Any

from lt_rebalance.ground.values import (
    LARGEST,
    LARGEST_S,
    Shape,
    anything,
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
    require,
    scalar,
    text,
    whole,
)
from lt_rebalance.store.config_values import SEED

TRIAL_STATES = ("complete", "pruned", "diverged", "failed", "running")

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
    **dict.fromkeys(("name", "component"), name),
    "scheduler": label,
    "seeds": list_of(SEED),
    "objectives": list_of(name),
    "base": mapping_of(anything),
}
_ACCOUNT = fields(
    {
        "search": fields(_SEARCH, others=anything),
        "question": text,
        "budget": fields({"trials": optional(whole())}, others=optional(number())),
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
    """Raise a ValueError unless plain values are those of the search that the directory is named after."""
    _ACCOUNT(values)
    found = values["search"]["name"]
    require(found == of_directory, "search.name", f"{of_directory!r} the name of its directory", found)
    confirmation = f"{of_directory}-confirmation"
    require(values["confirmation"] == confirmation, "confirmation", confirmation, values["confirmation"])
    require(values["objectives"], "objectives", "of at least one", {})
    for each, domain in values["space"].items():
        is_wide = domain["kind"] == "choice" or domain["low"] < domain["high"]
        is_wide = is_wide and not (domain.get("is_log") and domain["low"] <= 0)
        require(is_wide, f"space.{each}", "a range from low to high, above 0 on a log scale", domain)
    numbers = [trial["number"] for trial in values["trials"]]
    require(numbers == sorted(set(numbers)), "trials", "in the order of their numbers", numbers)
    ends = {trial["number"]: trial["state"] for trial in values["trials"]}
    chosen = values["front"] + [each for each in (values["best"],) if each is not None]
    require(all(ends.get(each) == "complete" for each in chosen), "best", "a complete trial", chosen)
    for index, trial in enumerate(values["trials"]):
        where = f"trials.{index}.rungs"
        is_shown = trial["state"] != "complete" or trial["rungs"]
        require(is_shown, where, "of at least one rung", trial["rungs"])
        rounds = [rung["round"] for rung in trial["rungs"]]
        require(len(rounds) == len(set(rounds)), where, "of rounds, each once", rounds)
        for rung in trial["rungs"]:
            names = set(rung["scores"])
            require(names == set(values["objectives"]), where, "with one score per objective", sorted(names))
