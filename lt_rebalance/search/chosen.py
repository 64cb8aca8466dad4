"""Values that searches of methods have chosen, applied to the cells of a study."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lt_rebalance.ground.exits import note
from lt_rebalance.ground.paper import flatten
from lt_rebalance.ground.plain import to_plain
from lt_rebalance.ground.text import count
from lt_rebalance.search.search import set_values
from lt_rebalance.search.spaces import METHOD
from lt_rebalance.store import Store, StoreError
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Cell, Study

_ENDED = ("complete", "diverged", "failed")
_REMEDY = "run sweeps/tune_methods.py with the same data, steps and --set, and these --methods"


def name_search(series: str, method: str) -> str:
    """Return the name of the search of one method, of the searches with a common name."""
    return f"{series}-{re.sub(r'[^A-Za-z0-9_.=-]+', '-', method)}"


def tune_study(study: Study, store: Store, series: str | None = None) -> Study:
    """Return a study whose cells have the values that the searches of a store chose for them, on other seeds.

    A cell for which no trial was completed, such as one that is not applicable, stays untuned. Of cells whose
    methods have the same name with what was chosen, the first stands for all; a note names the others.

    Args:
        series: the common name of the searches to use; needed if others of the store would fit as well.

    Raises:
        ValueError: a cell without its search or with several, a search that is not finished, searches with
            unequal budgets, or a seed that a search has used.
        StoreError: the account of a search is damaged, or of another version of results.
    """
    accounts = [store.load_search(name) for name in store.list_searches()]
    accounts = [account for account in accounts if account["search"]["component"] == METHOD]
    if not accounts:
        raise ValueError(f"--tuned {store.location} contains no search of a method; {_REMEDY}")
    found = [_find(cell, accounts, store, series) for cell in study.cells]
    _require_equal(found, store)
    used = {seed for account in found for seed in account["search"]["seeds"]}
    if repeated := sorted(used & {seed for seed in study.seeds if isinstance(seed, int)}):
        raise ValueError(
            f"seed {repeated[0]} was used by the searches of {store.location}; ask for fewer --seeds"
        )
    tuned = [
        _tune(index, cell, account, store)
        for index, (cell, account) in enumerate(zip(study.cells, found, strict=True))
    ]
    return _leave_out_repeated(study, [cell for cell, _ in tuned], [tuning for _, tuning in tuned])


def _leave_out_repeated(study: Study, cells: Sequence[Cell], tunings: Sequence[Mapping[str, Any]]) -> Study:
    """Return a study of the tuned cells that tables name apart: a method and its deferred form may be one."""
    firsts: dict[tuple[str, str], int] = {}
    for index, cell in enumerate(cells):
        first = firsts.setdefault((cell.data.dataset, str(cell)), index)
        if first != index:
            names = [study.cells[each].method_label for each in (index, first)]
            note(f"{names[0]} is left out: tuned, it has the same name as {names[1]}, {cell.method_label}")
    places = {index: place for place, index in enumerate(firsts.values())}
    return dataclasses.replace(
        study,
        cells=tuple(cells[index] for index in places),
        tunings=tuple({**tunings[index], "cell": place} for index, place in places.items()),
        comparisons=tuple(
            dataclasses.replace(each, cell=places[each.cell], reference=places[each.reference])
            for each in study.comparisons
            if each.cell in places and each.reference in places
        ),
    )


def _find(
    cell: Cell, accounts: Iterable[Mapping[str, Any]], store: Store, series: str | None
) -> Mapping[str, Any]:
    asked, where = _describe(to_plain(cell)), f"--tuned {store.location}"
    if series is not None:
        where += f" --tuned-name {series}"
        # The name ends with options if --methods gave some, and not if --set did.
        start = name_search(series, cell.method_label.removesuffix(cell.method.settings_label))
        accounts = [account for account in accounts if account["search"]["name"].startswith(start)]
    fitting: list[Mapping[str, Any]] = []
    others: list[str] = []
    for account in accounts:
        kept = _describe(account["search"]["base"])
        if kept == asked:
            fitting.append(account)
        elif kept["method"] == asked["method"]:
            others.append(", ".join(sorted(name for name in asked if kept.get(name) != asked[name])))
    if not fitting:
        nearest = f", and one of this method that differs in {min(others, key=len)}" if others else ""
        raise ValueError(f"{where} contains no search of {cell}{nearest}; {_REMEDY}")
    names = [account["search"]["name"] for account in fitting]
    if len(fitting) > 1:
        raise ValueError(
            f"{where} contains several searches of {cell}: {', '.join(names)}; give --tuned-name the --name "
            "of the searches to take"
        )
    if (version := fitting[0].get("results_version")) != RESULTS_VERSION:
        raise StoreError(
            f"{store.location}: search {names[0]} is of results version {version!r}, this code knows "
            f"{RESULTS_VERSION}; {_REMEDY}, in another store"
        )
    return fitting[0]


def _describe(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a cell and the base of its search must share: all but chosen fields and rounds."""
    flat = {
        name: value
        for name, value in flatten(base).items()
        if name not in ("protocol", "data.validation_per_class", "data.validation")
        and not name.endswith("budget.rounds")
    }
    method = {name: flat.pop(name) for name in list(flat) if name.startswith("method.")}
    method["architecture"] = flat.pop("generator.architecture", None)
    return flat | {"method": json.dumps(method, sort_keys=True)}


def _require_equal(accounts: Sequence[Mapping[str, Any]], store: Store) -> None:
    """Raise a ValueError unless all searches are finished and had equal budgets."""
    budgets: dict[tuple[int, tuple[int, ...]], str] = {}
    for account in accounts:
        name, asked = account["search"]["name"], account["budget"]["trials"] or 0
        num_ended, num_running = _count(account)
        if num_running or num_ended < asked:
            raise ValueError(
                f"search {name} of {store.location} has ended {num_ended} of {asked} trials; run the command "
                "that began it again"
            )
        budgets.setdefault((num_ended, tuple(account["search"]["seeds"])), name)
    if len(budgets) > 1:
        said = "; ".join(
            f"{name} {count(num_trials, 'trial')} of {count(len(seeds), 'seed')}"
            for (num_trials, seeds), name in budgets.items()
        )
        raise ValueError(
            f"the searches of {store.location} had unequal budgets: {said}; give all of them the same "
            "--trials and --seeds"
        )


def _count(account: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many trials have ended, except repetitions of failed ones, and how many have not."""
    firsts = [trial for trial in account["trials"] if trial.get("retry_of") is None]
    running = [trial for trial in account["trials"] if trial["state"] not in _ENDED]
    return sum(trial["state"] in _ENDED for trial in firsts), len(running)


def _tune(index: int, cell: Cell, account: Mapping[str, Any], store: Store) -> tuple[Cell, dict[str, Any]]:
    best = account["best"]
    values = account["untuned"] if best is None else _values_of(account, best)
    try:
        tuned = set_values(cell, values)
    except (ValueError, TypeError, AttributeError) as error:
        name = account["search"]["name"]
        raise StoreError(
            f"{store.location}: search {name} has chosen {dict(values)}, which {cell} does not take "
            f"({error}); move searches/{name} away and {_REMEDY}"
        ) from None
    before, after = flatten(to_plain(cell)), flatten(to_plain(tuned))
    tuning = {
        "cell": index,
        "search": account["search"]["name"],
        "method": cell.method_label,
        "num_trials": _count(account)[0],
        "num_seeds": len(account["search"]["seeds"]),
        "values": dict(values),
        "untuned": {name: value for name, value in before.items() if after.get(name) != value},
    }
    return tuned, tuning


def _values_of(account: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    values: Mapping[str, Any] = next(
        trial["values"] for trial in account["trials"] if trial["number"] == number
    )
    return values
