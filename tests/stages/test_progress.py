"""Checks of what a running study shows: plain lines without a terminal, a live table on one."""

import dataclasses
import io
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from lt_rebalance.ground.text import format_duration, make_console
from lt_rebalance.monitoring.verbosity import DETAILED, LEVELS, NORMAL, QUIET
from lt_rebalance.stages.arithmetic import Throughput
from lt_rebalance.stages.progress import Progress, render_cells
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Failure, Record, Timing
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, compile_study
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.studies.tables import cells_frame, runs_frame
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import torch_version
from sweeps import full_grid
from tests.made_up import make_up

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())
SMALL = "small_mlp_cgan_leaky"


def make_sound_cell(method: str, generator: str | None = None) -> Cell:
    dataset, c = "fashion_mnist_mini", "1/2"
    return make_cell(get_protocol("sound"), dataset=dataset, c=c, method=method, generator=generator)


NONE = make_sound_cell("none")
CGAN = make_sound_cell("cgan", SMALL)


def make_plan(*cells: Cell, num_seeds: int = 1) -> Plan:
    return compile_study(Study(name="test study", cells=cells, seeds=tuple(range(num_seeds))), EXECUTION)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "results"), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def make_record(
    store: Store, stage: AnyStage, state: str = "complete", affected: Sequence[int] = (), hits: int = 80
) -> Record:
    """Return a record; the affected classes are dead, or drawn as one image."""
    artifacts = {}
    if stage.kind == "generator" and state == "complete":
        artifacts["weights"] = store.write_artifact(stage.key, "weights", ".safetensors", b"weights")
    return make_up(
        stage,
        state,
        hits=hits,
        dead=affected,
        diversity_K=[0.0 if label in affected else 1.0 for label in range(10)],
        artifacts=artifacts,
        timing=Timing(wall_s=65.0, train_s=60.0, num_errors=0),
    )


class Follower:
    """Drives the progress of a plan as the runner does, on a store, and collects what it shows."""

    def __init__(
        self, plan: Plan, store: Store, console: Callable[[io.StringIO], Console], verbosity: int = NORMAL
    ) -> None:
        self.store = store
        self.ledger = Ledger(plan, store)
        self.throughput = Throughput()
        self.screen = io.StringIO()
        self.progress = Progress(
            self.ledger,
            self.throughput,
            1,
            console(self.screen),
            painting_share=math.inf,
            verbosity=verbosity,
        )

    def complete(
        self, stage: AnyStage, state: str = "complete", affected: Sequence[int] = (), hits: int = 80
    ) -> None:
        self.store.commit(make_record(self.store, stage, state, affected, hits))
        self.settle(stage)

    def fail(self, stage: AnyStage, error: str) -> None:
        failure = Failure(
            key=stage.key, kind=stage.kind, stage=stage.to_dict(), error=error, traceback="", provenance={}
        )
        self.store.mark_failed(failure)
        self.settle(stage)

    def settle(self, stage: AnyStage) -> None:
        self.ledger.refresh(stage.key)
        self.progress.finish(stage)

    def lines(self) -> list[str]:
        """Return the lines shown, without the escape codes of a terminal."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.screen.getvalue()).splitlines()


RESULT = {
    **{"round": 3, "num_rounds": 30, "train_s": 24.0, "train_loss": 0.12345, "test_accuracy": 0.75},
    **{"outcome": "running", "training_iteration": 3, "time_total_s": 25.0},
}
"""of the step of a trainable, with what Tune adds to it"""


def plain(screen: io.StringIO) -> Console:
    return Console(file=screen, force_terminal=False, highlight=False, width=140)


def terminal(screen: io.StringIO, **changes: Any) -> Console:
    environment = {"TERM": "xterm-256color"}
    values = {"width": 140, "height": 50, "_environ": environment} | changes
    return Console(file=screen, force_terminal=True, highlight=False, **values)


# Durations


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.2, "1 s"),
        (45, "45 s"),
        (89.6, "90 s"),
        (90, "2 min"),
        (120, "2 min"),
        (149, "2 min"),
        (151, "3 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (12_240, "3.4 h"),
        (172_799, "48.0 h"),
        (172_800, "2.0 days"),
        (181_440, "2.1 days"),
    ],
)
def test_format_duration_changes_units_at_its_borders(seconds: float, expected: str) -> None:
    assert format_duration(seconds) == expected


# Plain lines


def test_plain_progress_prints_one_line_for_each_finished_stage(store: Store) -> None:
    plan = make_plan(NONE, CGAN)
    follower = Follower(plan, store, plain)
    none, generator, classifier = (
        plan.runs[0].stage,
        plan.runs[1].stage.generator_stage,
        plan.runs[1].stage,
    )
    assert generator is not None
    with follower.progress as progress:
        for stage in (none, generator):
            progress.start(stage)
        assert follower.lines() == []
        progress.advance(none, 1, 30, 2.0)
        assert follower.lines() == []
        follower.complete(none)
        assert len(follower.lines()) == 1
        follower.complete(generator)
        assert len(follower.lines()) == 2
        progress.start(classifier)
        follower.complete(classifier, hits=50)
    first, second, third = follower.lines()
    assert first.startswith("1/3 classifier 1/2 none seed 0: accuracy 0.800 in 65 s; ")
    assert second.startswith(f"2/3 generator 1/2 {SMALL} seed 0: collapsed classes 0 in 65 s; ")
    assert third == f"3/3 classifier 1/2 {SMALL} seed 0: accuracy 0.500 in 65 s; nothing left"


def test_plain_progress_of_a_diverged_stage_says_when(store: Store) -> None:
    plan = make_plan(NONE, num_seeds=2)
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        follower.complete(plan.runs[0].stage, "diverged")
    expected = "1/2 classifier 1/2 none seed 0: diverged after 18000 steps; time left not known yet"
    assert follower.lines() == [expected]


def test_plain_progress_of_a_failed_generator_counts_what_falls_with_it(store: Store) -> None:
    other_loss = dataclasses.replace(CGAN.classifier, loss="double_softmax")
    plan = make_plan(CGAN, dataclasses.replace(CGAN, protocol="double", classifier=other_loss), NONE)
    generator = plan.runs[0].stage.generator_stage
    assert generator is not None
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        progress.start(generator)
        follower.fail(generator, "OSError: disk full")
    (line,) = follower.lines()
    assert line.startswith(f"3/4 generator 1/2 {SMALL} seed 0: failed, OSError: disk full; ")


@pytest.mark.parametrize(
    "error",
    [
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] can't allocate memory",
        "ValueError: closed by [/b] without [b]",
        "ValueError: found :warning: in it",
    ],
)
def test_plain_progress_shows_an_error_letter_by_letter(store: Store, error: str) -> None:
    plan = make_plan(NONE)
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        follower.fail(plan.runs[0].stage, error)
    assert follower.lines() == [f"1/1 classifier 1/2 none seed 0: failed, {error}; nothing left"]


def test_plain_progress_of_a_long_line_does_not_break_it(store: Store) -> None:
    plan = make_plan(NONE)
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        follower.fail(plan.runs[0].stage, "OSError: " + "far " * 100 + "away")
    assert len(follower.lines()) == 1


def test_plain_progress_of_a_stage_without_any_result_leaves_it_to_do(store: Store) -> None:
    plan = make_plan(NONE, num_seeds=2)
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        follower.settle(plan.runs[0].stage)
    (line,) = follower.lines()
    assert line.startswith("0/2 classifier 1/2 none seed 0: no result; ")


def test_plain_progress_counts_only_what_was_to_do_at_the_start(store: Store) -> None:
    plan = make_plan(NONE, num_seeds=3)
    store.commit(make_record(store, plan.runs[0].stage))
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        for done, run in enumerate(plan.runs[1:], 1):
            progress.start(run.stage)
            follower.complete(run.stage)
            assert follower.lines()[-1].startswith(f"{done}/2 classifier 1/2 none seed {run.seed}: ")


def test_plain_progress_never_counts_below_zero_when_a_generator_is_lost(store: Store) -> None:
    plan = make_plan(CGAN)
    classifier = plan.runs[0].stage
    generator = classifier.generator_stage
    assert generator is not None
    record = make_record(store, generator)
    store.commit(record)
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        progress.start(classifier)
        (Path(store.location) / "stages" / generator.key / record.artifacts["weights"].file).unlink()
        follower.settle(classifier)
    (line,) = follower.lines()
    assert line.startswith("0/")


def test_plain_progress_tells_the_time_left_by_what_it_has_seen(store: Store) -> None:
    plan = make_plan(NONE, num_seeds=4)
    stages = [run.stage for run in plan.runs]
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        progress.start(stages[0])
        progress.start(stages[1])
        # Two of 30 rounds in 8 s: 120 s a stage.
        progress.advance(stages[1], 2, 30, 8.0)
        follower.complete(stages[0])
    # Seen: 60 s and 120 s a stage, so by the median speed of 1/80 a stage takes 80 s. Left: 28/30 of one and
    # two whole ones, 234.7 s.
    (line,) = follower.lines()
    assert line.endswith("; about 4 min left")


# Verbosity


@pytest.mark.parametrize("console", [plain, terminal])
def test_quiet_progress_prints_failures_alone(
    store: Store, console: Callable[[io.StringIO], Console]
) -> None:
    plan = make_plan(NONE, num_seeds=3)
    complete, diverged, failed = (run.stage for run in plan.runs)
    follower = Follower(plan, store, console, QUIET)
    with follower.progress as progress:
        for stage in (complete, diverged, failed):
            progress.start(stage)
            progress.note_round([stage], RESULT)
        follower.complete(complete, affected=(0, 1))
        follower.complete(diverged, "diverged")
        progress.tick()
        assert follower.screen.getvalue() == ""
        follower.fail(failed, "OSError: disk full")
    assert follower.lines() == ["3/3 classifier 1/2 none seed 2: failed, OSError: disk full; nothing left"]


def test_detailed_progress_prints_starts_and_each_round_of_a_trial(store: Store) -> None:
    plan = make_plan(NONE, num_seeds=3)
    stages = [run.stage for run in plan.runs]
    follower = Follower(plan, store, plain, DETAILED)
    with follower.progress as progress:
        for stage in stages[:2]:
            progress.start(stage)
        progress.note_round(stages[:2], RESULT)
        progress.start(stages[2])
        progress.note_round(stages[2:], RESULT | {"round": 4})
        follower.complete(stages[0])
    numbers = "train_loss 0.1235, test_accuracy 0.75"
    *lines, end = follower.lines()
    assert lines == [
        "classifier 1/2 none seed 0: begins",
        "classifier 1/2 none seed 1: begins",
        f"classifier 1/2 none seed 0 and 1 more seeds: round 3/30, 24.0 s: {numbers}",
        "classifier 1/2 none seed 2: begins",
        f"classifier 1/2 none seed 2: round 4/30, 24.0 s: {numbers}",
    ]
    assert end.startswith("1/3 classifier 1/2 none seed 0: accuracy 0.800 in 65 s; ")


def test_a_round_of_several_seeds_is_one_of_each(store: Store) -> None:
    plan = make_plan(NONE, num_seeds=2)
    stages = [run.stage for run in plan.runs]
    follower = Follower(plan, store, plain)
    with follower.progress as progress:
        for stage in stages:
            progress.start(stage)
        progress.note_round(stages, RESULT)
        assert progress.share == pytest.approx(3 / 30)
        # Three of 30 rounds in half of 24 s: 120 s a stage, of which one is trained at a time.
        assert progress.seconds_left() == pytest.approx(2 * 120 * 27 / 30)
    assert follower.lines() == []


@pytest.mark.parametrize("verbosity", LEVELS)
def test_log_has_no_escape_codes_and_no_carriage_returns(
    store: Store, verbosity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which asks for colours, and for no cursor that moves
    plan = make_plan(NONE, CGAN, num_seeds=2)
    follower = Follower(plan, store, make_console, verbosity)
    with follower.progress as progress:
        for run in plan.runs[:2]:
            progress.start(run.stage)
            progress.note_round([run.stage], RESULT)
            progress.tick()
        follower.complete(plan.runs[0].stage, affected=(0,))
        follower.fail(plan.runs[1].stage, "OSError: disk\r\x1b[2Kfull")
    shown = follower.screen.getvalue()
    assert "failed, OSError: disk" in shown
    assert "\r" not in shown and "\x1b" not in shown


# The live table


@pytest.mark.parametrize("verbosity", [NORMAL, DETAILED])
@pytest.mark.parametrize("width", [60, 80])
def test_live_progress_fits_the_width_and_has_no_colour_where_none_is_wanted(
    store: Store, width: int, verbosity: int
) -> None:
    plan = make_plan(NONE, CGAN, num_seeds=2)
    stage = plan.runs[0].stage
    environment = {"TERM": "xterm-256color", "COLUMNS": str(width), "NO_COLOR": "1"}
    narrow = lambda screen: terminal(screen, width=None, _environ=environment)  # noqa: E731
    follower = Follower(plan, store, narrow, verbosity)
    with follower.progress as progress:
        progress.start(stage)
        progress.note_round([stage], RESULT)
        follower.complete(stage)
    lines = [line for line in follower.lines() if not re.search(r": begins$|: round 3/30, ", line)]
    assert any(line.startswith("  none ") for line in lines)
    assert max(map(len, lines)) <= width
    assert sum("round 3/30" in line for line in follower.lines()) == (verbosity == DETAILED)
    codes = re.findall(r"\x1b\[([0-9;]*)m", follower.screen.getvalue())
    assert {each for code in codes for each in code.split(";")} <= {"", "0", "1", "22"}  # bold, and its end


def test_live_progress_shows_cells_counts_and_running_stages(store: Store) -> None:
    plan = make_plan(NONE, CGAN, num_seeds=3)
    follower = Follower(plan, store, terminal)
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        progress.advance(plan.runs[0].stage, 3, 30, 1.0)
        screen = "\n".join(follower.lines())
        assert re.search(r"running: classifier 1/2 none seed 0 \(\d+ s, 3/30\)", screen)
        assert re.search(rf"sound, C = 1/2\s(?s:.*) {SMALL} +0/3 ", screen)
        assert "test study" in screen
        assert "0/9 stages done" in screen
        assert "planned=6 complete=0 failed=0 diverged=0 missing=6" in screen
        assert "0.800" not in screen
        follower.complete(plan.runs[0].stage)
    screen = "\n".join(follower.lines())
    assert re.search(r"\n  none +1/3 +0.800 +0.800 +0", screen)
    assert "1/9 stages done" in screen
    assert "planned=6 complete=1 failed=0 diverged=0 missing=5" in screen


def test_live_progress_shows_a_stage_no_longer_after_its_end(store: Store) -> None:
    plan = make_plan(NONE, num_seeds=2)
    follower = Follower(plan, store, terminal)
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        before = len(follower.lines())
        follower.complete(plan.runs[0].stage)
    last = "\n".join(follower.lines()[before:])
    assert "1/2 stages done" in last
    assert "running: classifier 1/2 none seed 0" not in last


def test_live_progress_paints_ages_that_move_and_a_bar(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time.monotonic()]
    monkeypatch.setattr("lt_rebalance.stages.progress.time.monotonic", lambda: clock[0])
    plan = make_plan(NONE, num_seeds=2)
    follower = Follower(plan, store, terminal)
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        progress.advance(plan.runs[0].stage, 15, 30, 1.0)
        shown = "\n".join(follower.lines())
        assert "█" * 5 + "░" * 15 + " 25 %, 0/2 stages done" in shown
        for seconds, ages in ((0.5, []), (40.0, ["40 s, 15/30"])):
            before = len(follower.screen.getvalue())
            clock[0] += seconds
            progress.tick()
            assert re.findall(r"seed 0 \((.*?)\)", follower.screen.getvalue()[before:]) == ages


def test_live_progress_on_a_terminal_of_24_lines_still_shows_what_runs(store: Store) -> None:
    arguments = ["--preset", "full", "--seeds", "1"]
    study = full_grid.build_study(full_grid.make_grid_parser().parse_args(arguments))
    assert len(study.cells) > 24
    plan = compile_study(study, EXECUTION)
    follower = Follower(plan, store, lambda screen: terminal(screen, height=24))
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        assert any(line.startswith("running: classifier original none seed 0") for line in follower.lines())
        assert any("stages done" in line for line in follower.lines())


def test_progress_on_a_terminal_without_cursor_prints_plain_lines(store: Store) -> None:
    plan = make_plan(NONE)
    follower = Follower(plan, store, lambda screen: terminal(screen, _environ={"TERM": "dumb"}))
    with follower.progress as progress:
        progress.start(plan.runs[0].stage)
        follower.complete(plan.runs[0].stage)
        assert len(follower.lines()) == 1
        assert follower.lines()[0].startswith("1/1 classifier 1/2 none seed 0: accuracy 0.800 in 65 s")


# The table itself


# Warnings


def test_progress_warns_once_for_all_seeds_of_a_cell_and_counts_the_rest(store: Store) -> None:
    plan = make_plan(NONE, CGAN, num_seeds=2)
    follower = Follower(plan, store, plain)
    with follower.progress:
        for stage in plan.stages.values():
            follower.complete(stage, affected=(4, 6))
    warnings = [line for line in follower.lines() if line.startswith("warning: ")]
    dead, classes = "has dead classes: no test image is recognised of", "Coat, Shirt"
    collapsed = "collapsed: it draws almost the same image for"
    assert warnings == [
        f"warning: classifier 1/2 none seed 0: {dead} {classes}",
        f"warning: generator 1/2 {SMALL} seed 0: {collapsed} {classes}",
        f"warning: classifier 1/2 {SMALL} seed 0: {dead} {classes}",
    ]
    assert follower.lines()[-1] == "warnings in all: collapsed generator: 2, dead classes: 4"


def test_progress_of_healthy_results_warns_of_nothing(store: Store) -> None:
    plan = make_plan(NONE, CGAN)
    follower = Follower(plan, store, plain)
    with follower.progress:
        for stage in plan.stages.values():
            follower.complete(stage)
    assert not [line for line in follower.lines() if "warning" in line]


def test_render_cells_shows_dashes_where_there_is_no_number(store: Store) -> None:
    plan = make_plan(NONE, make_sound_cell("undersample"), num_seeds=2)
    follower = Follower(plan, store, plain)
    for run, hits in zip(plan.runs[::2], (50, 70), strict=True):
        record = make_record(store, run.stage, affected=(3,), hits=hits)
        store.commit(record)
        follower.ledger.refresh(run.key)
    plain(follower.screen).print(render_cells(cells_frame(runs_frame(follower.ledger)), "a title"))
    lines = follower.lines()
    assert lines[0].strip() == "a title"
    rows = [re.split(" {2,}", line.strip()) for line in lines[1:5]]
    assert rows == [
        ["n", "accuracy", "macro F1", "dead class"],
        ["sound, C = 1/2"],
        ["none", "2/2", "0.540 ± 0.127", "0.526 ± 0.122", "2/2"],
        ["undersample", "0/2", "-", "-", "-"],
    ]
    said = " ".join(" ".join(lines).split())
    assert "The paper's numbers are shown for none of these cells: its runs differ in" in said


def test_names_that_differ_at_their_ends_alone_are_told_apart_in_a_narrow_table(store: Store) -> None:
    cells = [dataclasses.replace(NONE, protocol=f"sound+classifier.learning_rate=0.00{n}") for n in (1, 2)]
    changed = dataclasses.replace(NONE.classifier, learning_rate=0.002)
    cells[1] = dataclasses.replace(cells[1], classifier=changed)
    frame = cells_frame(runs_frame(Ledger(make_plan(*cells), store)))
    screen = io.StringIO()
    Console(file=screen, width=30).print(render_cells(frame, "a title"))
    folded = "".join(line.strip() for line in screen.getvalue().splitlines())
    assert all(cell.protocol in folded for cell in cells) and "\u2026" not in screen.getvalue()


def test_render_cells_names_the_data_sets_where_there_are_several(store: Store) -> None:
    cells = cells_frame(runs_frame(Ledger(make_plan(NONE), store)))
    both = pd.concat([cells, cells.assign(dataset="mnist")])
    for frame, named in ((cells, False), (both, True)):
        screen = io.StringIO()
        plain(screen).print(render_cells(frame, "a title"))
        assert ("sound, mnist, C = 1/2" in screen.getvalue()) == named


def test_render_cells_says_what_diverged_and_shows_names_as_they_are(store: Store) -> None:
    cell = dataclasses.replace(make_sound_cell("none"), protocol="sound+[red]x[/red]")
    plan = make_plan(cell, num_seeds=2)
    follower = Follower(plan, store, plain)
    for run, state in zip(plan.runs, ("complete", "diverged"), strict=True):
        store.commit(make_record(store, run.stage, state))
        follower.ledger.refresh(run.key)
    plain(follower.screen).print(render_cells(cells_frame(runs_frame(follower.ledger)), "[bold]mine[/bold]"))
    said = " ".join(" ".join(follower.lines()).split())
    assert "[bold]mine[/bold]" in said and "[red]x[/red]" in said
    assert "1/2 (1 diverged)" in said
    assert "1 diverged, left out of the means: their absence depends on the outcome." in said
