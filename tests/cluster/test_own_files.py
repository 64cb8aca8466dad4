"""A user's method on a Ray of two nodes whose workers cannot see its file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from lt_rebalance.cli.main import main as look
from lt_rebalance.commands.sweep import main
from lt_rebalance.store import open_store
from lt_rebalance.studies.stage import RESULTS_VERSION
from sweeps import full_grid
from tests.ray_nodes import started_head

pytestmark = pytest.mark.slow

SOURCE = """\
import sys
import time
from pathlib import Path

import numpy as np
import ray
from torch import nn

from lt_rebalance.methods.contract import Method, RebalancePlan


def plan_five(counts_K, draw, rng, options):
    if in_a_worker():
        node = ray.get_runtime_context().get_node_id()
        (Path(SEEN) / node).write_text(str(Path(__file__).exists()))
        until = time.monotonic() + 120
        while len(list(Path(SEEN).iterdir())) < 2 and time.monotonic() < until:
            time.sleep(0.1)
    kept = tuple(np.arange(min(5, count)) for count in counts_K)
    return RebalancePlan(positions_by_class=kept, num_synthetic_K=(0,) * len(counts_K))


def in_a_worker():
    return sys.argv[0].endswith("default_worker.py")


class MyOwnError(Exception):
    def __init__(self, first, second):  # as no pickle can make it again
        super().__init__(f"{first} and {second}")


def plan_nothing(counts_K, draw, rng, options):
    if in_a_worker():
        raise MyOwnError("this", "that")
    return plan_five(counts_K, draw, rng, options)


five = Method(description="five of each", draws=(), needs_generator=False, plan=plan_five)
nothing = Method(description="raises in workers", draws=(), needs_generator=False, plan=plan_nothing)


def linear(num_classes, image_shape):
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))
"""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start two nodes whose processes have other working directories than this process."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    for name in ("head", "worker", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "head")
    with started_head() as started:
        monkeypatch.chdir(tmp_path / "worker")
        started.add_node(num_cpus=1)
        monkeypatch.chdir(tmp_path / "here")
        yield started.address
        ray.shutdown()


def test_methods_and_networks_of_ones_own_run_on_nodes_that_have_no_such_file_and_their_errors_are_told(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    Path("mine.py").write_text(SOURCE.replace("SEEN", repr(str(seen))))
    # One path that names another file in every process.
    mine = "/proc/self/cwd/mine.py"
    place = str(tmp_path / "store")
    where = ["--address", address, "--storage", place, "--device", "cpu", "--precision", "float32"]
    small = ["--c", "1/2", "--steps", "6", "--set", f"classifier.architecture={mine}:linear"]

    def sweep(num_seeds: int, *methods: str) -> tuple[int, str]:
        asked = ["--seeds", str(num_seeds), "--methods", *methods, "--name", methods[-1].rpartition(":")[2]]
        arguments = [*where, *small, *asked]
        code = main(full_grid.make_grid_parser(), full_grid.build_study, arguments)
        return code, "".join(capsys.readouterr())

    code, said = sweep(2, f"{mine}:five")
    assert code == 0, said
    assert "planned=2 complete=2" in said and "mine.py:five@" in said
    nodes = {path.name: path.read_text() for path in seen.iterdir()}
    assert len(nodes) == 2 and set(nodes.values()) == {"False"}

    code, said = sweep(1, "none", f"{mine}:nothing")
    line = SOURCE.partition('raise MyOwnError("this", "that")')[0].count("\n") + 1
    told = f"{mine}:{line}: MyOwnError: this and that"
    assert code == 1
    assert "planned=2 complete=1 failed=1" in said and "failed runs by cause: own file 1" in said
    assert "lost" not in said and "lost" not in caplog.text
    assert f"{told}; it is retried" in caplog.text
    store = open_store(place, RESULTS_VERSION, create=False, is_read_only=True)
    assert store is not None
    failures = [store.load_failure(run.key) for run in store.load_study("nothing").runs]
    assert {failure.error for failure in failures if failure is not None} == {told}
    assert look(["show", store.load_study("nothing").runs[-1].key, "--storage", place]) == 0
    assert told in capsys.readouterr().out
