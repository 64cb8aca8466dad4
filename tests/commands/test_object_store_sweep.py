"""A sweep with its store in a bucket equals one in a directory, though the bucket fails midway."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lt_rebalance.cli.main import main
from lt_rebalance.commands import sweep
from lt_rebalance.files.bucket import PATIENCE_VARIABLE
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.store.records import Record
from lt_rebalance.studies.overrides import change_study, read_overrides
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.configs import Execution
from sweeps import full_grid
from tests import linear_network
from tests.gate import Gate, open_gate
from tests.places import BucketPlace
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CELLS = ["--preset", "quick", "--c", "1/2", "--methods", "none", "cgan", "--seeds", "1"]
GENERATOR = ["--generators", "small_mlp_cgan_leaky", "--generator-steps", "200"]
SHORT = ["--steps", "200", *linear_network.OPTIONS]
OPTIONS = [*CELLS, *GENERATOR, *SHORT, "--device", "cpu", "--precision", "float32"]
PATIENCE_S = "20"
END_S = 300


def start(location: str) -> "subprocess.Popen[str]":
    """Start the sweep with its store at a location."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "sweeps" / "full_grid.py"), *OPTIONS, "--storage", location],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    """Wait for the end of a sweep and return what it printed to stdout and stderr."""
    try:
        out, err = process.communicate(timeout=END_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, f"{out}\n{err}"
    assert "Traceback" not in err
    return out, err


def read_records(location: str) -> dict[str, Record]:
    store = open_store(location, RESULTS_VERSION, create=False)
    assert store is not None
    found = {key: store.read_record(key) for key in store.list_keys()}
    return {key: record for key, record in found.items() if record is not None}


def assert_equal(records: dict[str, Record], expected: dict[str, Record]) -> None:
    assert records.keys() == expected.keys()
    for key, record in records.items():
        assert record.deterministic() == expected[key].deterministic()
        assert record.timing.num_errors == 0


def wait_for_checkpoint(place: BucketPlace) -> None:
    """Wait until some stage is being trained."""
    deadline = time.monotonic() + END_S
    while not any("/checkpoints/" in key for key in place.list_keys()):
        assert time.monotonic() < deadline, "nothing was trained"
        time.sleep(0.1)


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    """Wait until a sweep says some words on stderr, and return the line; one that never does ends instead."""
    assert process.stderr is not None
    line = next((line for line in process.stderr if words in line), None)
    assert line is not None, f"it never said {words!r}"
    return line


def list_stages(place: BucketPlace) -> dict[str, bytes]:
    return {path: content for path, content in place.read_all().items() if path.startswith("stages/")}


@pytest.fixture(scope="module")
def expected(cpu_execution: Execution, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Return the records of the sweep's stages, run one by one, with their store in a directory."""
    location = str(tmp_path_factory.mktemp("local") / "store")
    store = open_store(location, RESULTS_VERSION, create=True)
    assert store is not None
    options = full_grid.make_grid_parser().parse_args(OPTIONS)
    study = change_study(full_grid.build_study(options), read_overrides(None, options.set))
    for stage in compile_study(study, cpu_execution).stages.values():
        run_stage(stage, store)
    return read_records(location)


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Return a gate before the server, to which the environment leads from now on."""
    with open_gate(s3.port) as opened:
        monkeypatch.setenv("AWS_ENDPOINT_URL", opened.url)
        yield opened


def test_sweep_waits_for_a_frozen_bucket_ends_without_one_and_goes_on_to_what_a_directory_holds(
    expected: dict[str, Record],
    gate: Gate,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = BucketPlace("störe")
    monkeypatch.setenv(PATIENCE_VARIABLE, PATIENCE_S)
    process = start(place.location)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    wait_for_checkpoint(place)
    s3.freeze()
    try:
        waits = read_until(process, "has not answered since")
    finally:
        s3.thaw()
    assert "waiting for it, up to 20 s in all" in waits
    read_until(process, "answers again, after")
    gate.shut()
    _, err = finish(process, code=1)
    assert f"error: s3://{place.bucket} has not answered since" in err
    assert "finished results are kept. To resume once that is fixed:" in err
    gate.open()
    store = open_store(place.location, RESULTS_VERSION, create=False)
    assert store is not None
    assert not any(store.load_failure(key) for key in store.list_keys())

    out, err = finish(start(place.location))
    assert "planned=2 complete=2 failed=0 diverged=0 missing=0" in out
    assert f"records: {place.location}" in out and f"table: {place.location}/tables/" in out
    # These lines may appear on a busy machine and are not faults.
    slow = ("waiting for ", "Ray is slow to start", "Ray did not start")
    assert [line for line in err.splitlines() if not line.startswith(slow)] == []
    assert_equal(read_records(place.location), expected)

    before = list_stages(place)
    again = [*OPTIONS, "--storage", place.location]
    assert sweep.main(full_grid.make_grid_parser(), full_grid.build_study, again) == 0
    assert "stages to run" not in capsys.readouterr().out
    assert list_stages(place) == before
    generator = next(key for key, record in expected.items() if record.kind == "generator")
    assert main(["verify", generator, "--storage", place.location]) == 0
    assert "equal, bit for bit" in capsys.readouterr().out
    assert main(["show", generator, "--storage", place.location, "--log"]) == 0
    assert "round 1/" in capsys.readouterr().out
