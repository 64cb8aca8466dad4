"""Settings of the tests, and where their fixtures are: in tests/fixtures.py."""

import gc
import os
import sys
from pathlib import Path

import pytest

# This precedes the import of torch, which reads its number of threads here. Two test processes with two
# threads each would slow each other on two cores. A test that computes with more threads says so.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests start hundreds of processes. If Python is configured to write no bytecode, each process would compile
# torch, Ray and pandas again, which takes longer than all its other work. So bytecode is kept, in a directory
# of the tests.
if sys.dont_write_bytecode and sys.pycache_prefix is None:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

# Commands that are started here are not typed behind `uv run`, however the tests are.
os.environ.pop("UV_RUN_RECURSION_DEPTH", None)

# Ray makes its workers yield to all else; beside other tests that would be most of the time.
os.environ.setdefault("RAY_worker_niceness", "0")

# What is imported and collected stays to the end: to look for garbage among a million objects is lost time.
gc.disable()


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures, and torch with them, but in the process that only hands tests to others."""
    hands_on = config.getoption("dist", "no") != "no" and not config.getoption("collectonly")
    if not hands_on or hasattr(config, "workerinput"):
        config.pluginmanager.import_plugin("tests.fixtures")
    if hasattr(config, "workerinput") and config.option.markexpr == SLOW:
        _keep_to_one_cpu(config.workerinput["workerid"])


SLOW = "slow or chaos"
"""selects the tests that start commands, as CONTRIBUTING and CI write it"""


def _keep_to_one_cpu(worker: str) -> None:
    """Have this process, "gw3", and all that it starts use one CPU.

    Each Ray then has one worker. With two, both would import what takes longer than the work of most tests.
    """
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[int(worker.removeprefix("gw")) % len(cpus)]})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the order that shows tests which count on others that ran before them."""
    parser.addoption("--backwards", action="store_true", help="run the last test first")


LONGEST_NAME = 60
"""longest parameter that names a test, in characters; a longer one is replaced by its number"""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name tests of whole documents by number, as some versions of pytest do, so that no process names them
    by an identifier or a time that another process does not have."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_NAME else None


# Where a slow test takes a minute and more. Begun last, one would run alone while other processes are idle.
LONGEST_FIRST = (
    "commands/test_chaos.py",
    "commands/test_object_store_sweep.py",
    "commands/test_tune_sweeps.py",
    "test_documentation.py",
    "commands/test_resume.py",
    "test_benchmarks.py",
    "commands/test_verbosity.py",
    "commands/test_publish.py",
    "cluster/test_installed.py",
    "cluster/test_population.py",
    "cluster/test_fresh_ray.py",
)


def _find_turn(item: pytest.Item) -> int:
    """Return 0 for a test of the first module of those whose slow tests are long; their number for others."""
    path = item.path.relative_to(Path(__file__).parent).as_posix()
    is_slow = any(item.get_closest_marker(name) for name in ("slow", "chaos"))
    return LONGEST_FIRST.index(path) if is_slow and path in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest of the slow tests; turn the order round where that is asked for."""
    items.sort(key=_find_turn)
    if config.getoption("--backwards"):
        items.reverse()


def pytest_collection_finish() -> None:
    """Collect garbage again, of what tests make alone."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Release at the end what was kept out of collections, because extension modules require it."""
    gc.unfreeze()
