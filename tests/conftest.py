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


# The longest of the slow tests. Begun last, one would run alone while other processes are idle.
LONGEST_FIRST = (
    "test_worker_that_gets_no_processor_for_two_minutes_is_not_lost",
    "test_chaos_of_5_kills_loses_nothing_and_does_nothing_twice",
    "test_sweep_waits_for_a_frozen_bucket_ends_without_one_and_goes_on_to_what_a_directory_holds",
    "test_searches_of_methods_go_on_where_they_stopped_and_methods_are_compared_with_their_choices",
    "test_member_whose_workers_die_more_often_than_code_may_raise_still_ends_complete",
    "test_search_killed_at_work_goes_on_with_the_same_study_and_confirms_its_choice",
    "test_log_of_a_search_has_more_from_level_to_level",
    "test_study_is_registered_run_published_and_verified_on_real_ray",
    "test_command_that_is_asked_to_stop_says_how_to_go_on",
    "test_command_on_a_disk_that_fills_up_says_so_and_goes_on_when_there_is_room",
    "test_methods_and_networks_of_ones_own_run_on_nodes_that_have_no_such_file_and_their_errors_are_told",
    "test_slow_blocks_run_one_after_another",
    "test_every_kind_of_damage_to_every_document_ends_no_command_in_a_traceback",
    "test_worker_that_dies_more_often_than_code_may_raise_still_ends_with_its_result",
    "test_trial_elsewhere_learns_what_a_sweep_has_put_into_the_store",
    "test_sweeps_of_wheel_and_checkout_run_their_own_code_in_workers_too",
    "test_log_of_a_sweep_has_nothing_of_its_stages_or_all_of_them",
    "test_second_command_is_refused_until_the_first_is_killed_which_leaves_no_process",
    "test_example_searches_with_a_tuner_of_its_own_under_uv_run_with_ray_imported_first",
    "test_command_whose_ray_dies_says_so_lets_go_of_the_store_and_leaves_no_process",
    "test_interrupt_ends_a_run_and_the_next_one_finishes_it",
    "test_search_that_was_stopped_goes_on_as_if_it_had_not_been",
    "test_node_that_dies_gives_its_work_to_the_other",
    "test_benchmark_measures_at_its_smallest_size",
)


def deal(names: list[str], num_workers: int) -> list[int]:
    """Return the places of tests in an order whose equal parts, one for each worker, begin with long tests.

    Args:
        names: of the functions, one for each test.
    """
    longest = [place for long in LONGEST_FIRST for place, name in enumerate(names) if name == long]
    others = [place for place, name in enumerate(names) if name not in LONGEST_FIRST]
    dealt: list[int] = []
    for worker in range(num_workers):
        size = (len(names) - len(dealt)) // (num_workers - worker)
        share = longest[worker::num_workers]
        num_others = max(size - len(share), 0)
        dealt += [*share, *others[:num_others]]
        others = others[num_others:]
    return dealt + others


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the longest of the slow tests; turn the order round where that is asked for."""
    names = [getattr(item, "originalname", item.name) for item in items]
    items[:] = [items[place] for place in deal(names, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))]
    if config.getoption("--backwards"):
        items.reverse()


def pytest_collection_finish() -> None:
    """Collect garbage again, of what tests make alone."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Release at the end what was kept out of collections, because extension modules require it."""
    gc.unfreeze()
