"""What only reads changes nothing, whatever it finds; it works where nothing can be written."""

import argparse
import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.__main__ import main as analyse
from lt_rebalance.cli.main import main
from lt_rebalance.commands.sweep import open_results
from lt_rebalance.search.search import Search
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from tests.commands.test_deletion import snapshot
from tests.made_up import make_up
from tests.places import Place
from tests.search.test_owners import begin_and_stop
from tests.store.test_store import make_checkpoint, make_failure

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "store"
WRITERS = {
    "lt_rebalance/cluster/trainable.py": "a worker trains",
    "lt_rebalance/cli/stores.py": "open_existing says it with its own argument",
}
"""files that open a store that exists, and may change it"""
CHANGERS = {"lt_rebalance/cli/gc.py", "lt_rebalance/cli/tensorboard.py"}
ON_A_DISK = """
import json, sys
from lt_rebalance.cli.main import main
print(json.dumps([[main(command), command] for command in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def plan(small_protocol: Protocol, cpu_execution: Execution) -> Plan:
    common = {"dataset": "fashion_mnist_mini", "c": "1/2"}
    cells = (
        make_cell(small_protocol, method="none", generator=None, **common),
        make_cell(small_protocol, method="cgan", generator="small_mlp_cgan_leaky", **common),
    )
    return compile_study(Study(name="study", cells=cells, seeds=(0, 1)), cpu_execution)


def damage(store: Store, plan: Plan, search: Search) -> None:
    """Leave a store in which every kind of file that a sweep sets aside is damaged."""
    store.write_study(describe_plan(plan))
    begin_and_stop(store, search)
    first, _, second, third, *_ = plan.stages
    store.mark_failed(make_failure(first))
    store.files.replace(f"stages/{first}/errors/0000-a.json", b"{")
    store.files.replace(f"stages/{second}/result.json", b"{")
    store.files.replace(f"stages/{third}/failed.json", b"{")
    store.save_checkpoint(third, make_checkpoint(1))
    store.files.replace(f"stages/{third}/checkpoints/000002-{'0' * 64}.safetensors", b"damaged")
    store.files.append(f"logs/{first}.log", b"a line\n")


def list_reading_commands(location: str, key: str) -> list[list[str]]:
    return [
        ["status", location],
        ["status", location, "--json"],
        ["plan", location],
        ["show", key, "--storage", location],
        ["show", key, "--storage", location, "--log"],
        ["verify", key, "--storage", location],
        ["retry", location, "--failed", "--dry-run"],
        ["gc", location, "--dry-run"],
        ["gc", location, "--orphans", "--dry-run"],
        ["export", location],
    ]


@pytest.mark.slow
def test_commands_that_read_leave_a_damaged_store_as_it_is(
    plan: Plan, small_search: Search, place: Place, tmp_path: Path
) -> None:
    store = open_store(place.location, RESULTS_VERSION, create=True)
    assert store is not None
    damage(store, plan, small_search)
    before = place.read_all()
    assert any(path.endswith("failed.json") for path in before)
    asked = [command for key in plan.stages for command in list_reading_commands(place.location, key)]
    for command in dict.fromkeys(map(tuple, asked)):  # most name no stage
        assert main([*command]) in (0, 1, 2), command
        assert place.read_all() == before, command
    for options in ([], ["--partial"]):
        assert analyse([place.location, *options, "--out", str(tmp_path / "report")]) in (0, 2)
        assert place.read_all() == before


@pytest.mark.slow
def test_plan_of_a_sweep_reads_a_damaged_store_and_counts_as_a_run_would(
    plan: Plan, small_search: Search, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(place.location, RESULTS_VERSION, create=True)
    assert store is not None
    damage(store, plan, small_search)
    generator = next(key for key, stage in plan.stages.items() if stage.kind == "generator")
    weights = store.write_artifact(generator, "weights", ".safetensors", b"weights")
    store.commit(make_up(plan.stages[generator], artifacts={"weights": weights}))
    place.write(f"stages/{generator}/{weights.file}", b"altered")
    before = place.read_all()
    opened = open_results(argparse.Namespace(storage=place.location, plan=True, address=None))
    assert opened is not None and opened.is_read_only
    ledger = Ledger(plan, opened)
    states = {key: ledger.state(key) for key in plan.stages}
    pending = set(ledger.pending())
    assert generator in pending
    assert opened.load_errors(next(iter(plan.stages))) == []
    checkpoint = opened.load_checkpoint(list(plan.stages)[3])
    assert checkpoint is not None and checkpoint.round == 1
    assert place.read_all() == before and "counts as missing" in caplog.text
    # The same by the store of a run, which sets aside what it cannot read.
    ledger = Ledger(plan, store)
    assert {key: ledger.state(key) for key in plan.stages} == states and set(ledger.pending()) == pending
    assert place.read_all() != before


def test_plan_where_there_is_no_store_makes_none(tmp_path: Path) -> None:
    options = argparse.Namespace(storage=str(tmp_path / "none"), plan=True, address=None)
    assert open_results(options) is None and list(tmp_path.iterdir()) == []


@pytest.fixture
def read_only(plan: Plan, small_search: Search, tmp_path: Path) -> tuple[str, list[str]]:
    """Return a directory of stores, and the start of a command line to which the directory is read-only."""
    disk = tmp_path / "disk"
    store = open_store(str(disk / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    damage(store, plan, small_search)
    for name in ("unseen", "seen"):
        shutil.copytree(GOLDEN, disk / name)
    assert main(["tensorboard", str(disk / "seen"), "--no-server"]) == 0
    mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    command = ["unshare", "--mount", "bash", "-c", mount, str(disk)]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here: that takes root")
    return str(disk), command


@pytest.mark.slow
def test_on_a_disk_that_cannot_be_written_reading_works_and_writing_is_refused_in_words(
    read_only: tuple[str, list[str]], plan: Plan
) -> None:
    disk, command = read_only
    location = f"{disk}/store"
    reading = list_reading_commands(location, next(iter(plan.stages)))
    expected = [main(each) for each in reading]
    writing = [
        ["gc", location],
        ["gc", location, "--orphans"],
        ["retry", location, "--failed"],
        ["tensorboard", f"{disk}/unseen", "--no-server"],
    ]
    before = snapshot(Path(disk))
    shown = ["tensorboard", f"{disk}/seen", "--no-server"]
    asked = json.dumps([*reading, *writing, shown])
    done = subprocess.run(
        [*command, sys.executable, "-c", ON_A_DISK, asked],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert [code for code, _ in answers] == [*expected, *([2] * len(writing)), 0]
    assert done.stderr.count("Read-only file system") == len(writing) + 1
    assert "; existing events are shown" in done.stderr and "Traceback" not in done.stderr
    assert snapshot(Path(disk)) == before


@pytest.mark.slow
def test_every_command_that_opens_a_store_says_whether_it_changes_it() -> None:
    for path in [*(ROOT / "lt_rebalance").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")]:
        name = path.relative_to(ROOT).as_posix()
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            said = {each.arg: ast.unparse(each.value) for each in call.keywords}
            if call.func.id == "open_store" and said["create"] != "True" and name not in WRITERS:
                assert said.get("is_read_only") in ("True", "options.plan"), f"{name}: {ast.unparse(call)}"
            if call.func.id == "open_existing" and name not in CHANGERS:
                assert "is_read_only" not in said, f"{name}: {ast.unparse(call)}"
