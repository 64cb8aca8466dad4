"""`lt-rebalance status`: the state of studies, once or live."""

import argparse
import time
from collections import Counter
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live

from lt_rebalance.cli.stores import choose_studies, open_existing, print_json
from lt_rebalance.ground.exits import say_command
from lt_rebalance.ground.metrics import METRICS
from lt_rebalance.ground.text import format_duration, make_console, rich
from lt_rebalance.monitoring.cell_table import DEAD_CLASS, CellRow, CellTable, name_group, tabled_metrics
from lt_rebalance.monitoring.facts import RUN_STATES
from lt_rebalance.monitoring.status import Running, Status, read_status, report_command
from lt_rebalance.store import Store
from lt_rebalance.store.presence import STALE_S, Note

DEFAULT_EVERY_S = 5.0
_COST = "device time"


def run(options: argparse.Namespace) -> int:
    """Show the status."""
    store = open_existing(options.store)
    studies = choose_studies(store, options.study)
    if options.watch and options.json:
        raise ValueError("--watch repeats and --json answers once; give one of them")
    if options.every is not None and not (options.watch and options.every > 0):
        raise ValueError(f"--every is a number of seconds above 0, with --watch, got {options.every:g}")
    if options.json:
        print_json([status.to_dict(options.rate) for status in _read(store, studies)])
    elif not options.watch:
        console = make_console()
        # Lines of a log are not folded; a terminal would cut them off.
        statuses = _read(store, studies)
        console.print(render(statuses, options.rate), soft_wrap=not console.is_terminal)
        for line in _say_next(statuses, store.location):
            console.print(rich(line), soft_wrap=True)
    else:
        _watch(store, studies, options)
    return 0


def _read(store: Store, studies: list[str]) -> list[Status]:
    return [read_status(store, study, time.time()) for study in studies]


def _say_next(statuses: list[Status], location: str) -> Iterator[str]:
    """Yield the commands that show more of the same store."""
    yield f"one stage: {say_command('lt-rebalance', 'show', location)} lists all with their keys"
    counts = sum((Counter(status.runs) for status in statuses), Counter())
    if counts["complete"]:
        command = report_command(location, [status.study for status in statuses], counts)
        yield f"report, with a test of every difference: {command}"


def _watch(store: Store, studies: list[str], options: argparse.Namespace) -> None:
    console = make_console()
    every_s = DEFAULT_EVERY_S if options.every is None else options.every
    statuses = _read(store, studies)
    if not console.is_interactive:
        _watch_plainly(store, studies, every_s, console)
        return
    with Live(render(statuses, options.rate), console=console, auto_refresh=False, screen=False) as live:
        while not all(status.is_over for status in statuses):
            time.sleep(every_s)
            statuses = _read(store, studies)
            live.update(render(statuses, options.rate), refresh=True)


def _watch_plainly(store: Store, studies: list[str], every_s: float, console: Console) -> None:
    """Print one line per study whenever something has changed."""
    shown: dict[str, str] = {}
    while True:
        statuses = _read(store, studies)
        for status in statuses:
            line = f"{status.study}: {_account(status)}; {status.describe_time_left()}"
            if shown.get(status.study) != line:
                shown[status.study] = line
                console.print(rich(line), soft_wrap=True)
        if all(status.is_over for status in statuses):
            return
        time.sleep(every_s)


def render(statuses: list[Status], hourly_rate: float | None) -> RenderableType:
    """Return the status of studies as text."""
    return Group(*(_render_study(status, hourly_rate) for status in statuses))


def _render_study(status: Status, hourly_rate: float | None) -> RenderableType:
    lines = [f"{status.study}: {_account(status)}"]
    stages = ", ".join(
        f"{kind} {count['done']} of {count['planned']}" for kind, count in status.stages.items()
    )
    lines.append(f"stages done: {stages}; {status.describe_time_left()}")
    lines += status.describe_spending(hourly_rate)
    for note in status.drivers:
        lines.append(f"sweep at work: process {note.pid} on {note.host}{_describe_clock(note)}")
    if not status.drivers and not status.is_over:
        lines.append("no sweep is at work: run the same command again to resume")
    lines += [f"running: {_describe_trial(trial)}" for trial in status.running]
    lines += [f"straggler: {_describe_straggler(trial)}" for trial in status.running if trial.is_straggler]
    lines += [
        f"lost: {_describe_trial(trial)}; it resumes when the sweep runs again" for trial in status.lost
    ]
    lines += [f"failed: {each.title}: {each.reason}" for each in status.failed]
    lines += [f"unreadable: {each.title}: {each.reason}" for each in status.unreadable]
    if collapsed := status.collapsed_generators:
        lines.append(
            f"collapsed generators: {len(collapsed)} of {status.stages['generator']['done']} finished"
        )
    lines += [f"  {each.title}, key {each.key[:8]}: {each.reason}" for each in collapsed]
    return Group(*map(rich, lines), _render_cells(status, hourly_rate))


def _describe_clock(note: Note) -> str:
    """Return a note if the last heartbeat of a sweep is in the future, so that its state is unknown."""
    ahead_s = note.beat_s - time.time()
    if note.is_visible or ahead_s < STALE_S:
        return ""
    return f", seen {format_duration(ahead_s)} ahead of this clock: whether it is alive is unknown"


def _account(status: Status) -> str:
    return f"planned={status.runs['planned']} " + " ".join(
        f"{state}={status.runs[state]}" for state in RUN_STATES
    )


def _describe_trial(trial: Running) -> str:
    rounds = f", round {trial.round} of {trial.num_rounds}" if trial.num_rounds else ""
    return f"{trial.title} on {trial.host}, process {trial.pid}, for {format_duration(trial.for_s)}{rounds}"


def _describe_straggler(trial: Running) -> str:
    expected = format_duration(trial.expected_s or 0)
    return f"{trial.title} has taken {format_duration(trial.for_s)}; similar ones take {expected}"


def _render_cells(status: Status, hourly_rate: float | None) -> CellTable:
    is_test_balanced = all(cell.is_test_balanced for cell in status.cells)
    metrics = tabled_metrics(is_test_balanced=is_test_balanced)
    rows = []
    for cell in status.cells:
        means = {name: cell.means[name] for name in metrics}
        numbers = {METRICS[name].label: f"{mean:.3f}" for name, mean in means.items() if mean is not None}
        numbers |= {DEAD_CLASS: f"{cell.collapsed}/{cell.complete}"} if cell.complete else {}
        numbers |= {"n": f"{cell.complete}/{cell.planned}", _COST: cell.spending.describe(hourly_rate)}
        group = name_group(cell.protocol, cell.data)
        rows.append(CellRow(group=group, method=cell.method, numbers=numbers))
    leading, *further = (METRICS[name].label for name in metrics)
    return CellTable(
        rows=rows,
        columns=["n", leading, *further, DEAD_CLASS, _COST],
        by_importance=["n", leading, _COST, DEAD_CLASS, *further],
    )
