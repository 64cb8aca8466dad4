"""Fixtures that several test modules share."""

import contextlib
import dataclasses
import functools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lt_rebalance.cluster.resources import ClusterSize
from lt_rebalance.data.spec import DATA_DIR_VARIABLE
from lt_rebalance.files.private_directory import private_directory
from lt_rebalance.search.search import Search
from lt_rebalance.store import Store
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.protocols import PROTOCOLS, Protocol, make_cell
from lt_rebalance.studies.stage import ClassifierStage, GeneratorStage
from lt_rebalance.training.configs import Budget, Execution
from lt_rebalance.training.device import resolve_execution
from tests.places import BucketPlace, DirectoryPlace, Place
from tests.s3_server import S3Server, environment, serve
from tests.tiny import TINY, tiny_dataset

START = 20231130
"""what every test begins to draw from; no test seeds with it, so that seeding again is seen"""


@pytest.fixture(scope="session", autouse=True)
def _unsynced() -> Iterator[None]:
    """Let nothing wait for the disk, milliseconds at each of many thousand files: no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _closed_ray() -> Iterator[None]:
    """Put the files of clusters that tests start with Ray itself where no other user can look, too."""
    with private_directory(40) as path:
        os.environ["RAY_TMPDIR"] = str(path)
        yield


def _list_leading() -> dict[str, str]:
    """Return the variables that say where files and buckets are."""
    names = ("HOME", "TMPDIR", "RAY_TMPDIR", "AWS_")
    return {name: value for name, value in os.environ.items() if name.startswith(names)}


@pytest.fixture(autouse=True)
def _equal_environment() -> Iterator[None]:
    """Let no test lead the next one to a directory or a bucket of its own, which is gone by then."""
    before = _list_leading()
    yield
    assert _list_leading() == before, "restore the environment"


@pytest.fixture(autouse=True)
def _equal_start() -> None:
    """Let every test draw the same numbers, whichever ran before it in its process."""
    random.seed(START)
    np.random.seed(START)  # noqa: NPY002  # tests and libraries may draw from it unasked
    torch.manual_seed(START)


@pytest.fixture(scope="session", autouse=True)
def _tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with tiny_dataset(tmp_path_factory.mktemp("tiny")):
        yield


@pytest.fixture(scope="session")
def full_data_dir() -> Path:
    """Return the data directory with the full Fashion-MNIST; skip where the variable names none."""
    data_dir = Path(os.environ.get(DATA_DIR_VARIABLE) or "data").absolute()
    if not any((data_dir / "FashionMNIST" / "raw").glob("train-images-idx3-ubyte*")):
        pytest.skip(
            f"full Fashion-MNIST not found: set {DATA_DIR_VARIABLE} to a directory with FashionMNIST/raw"
        )
    return data_dir


@pytest.fixture(scope="session")
def small_protocol() -> Protocol:
    """Return a protocol that trains everything in seconds: six steps in three rounds, batches of eight."""
    budget = Budget(steps=6, rounds=3)
    return dataclasses.replace(
        PROTOCOLS["sound"],
        name="small",
        classifier_budget=budget,
        classifier_batch_size=8,
        generator_budget=budget,
        generator_batch_size=8,
    )


@pytest.fixture(scope="session")
def cpu_execution() -> Execution:
    """Return plain float32 on one thread."""
    return resolve_execution("cpu", "float32", 1, has_cuda=False)


@pytest.fixture(scope="session")
def small_search(small_protocol: Protocol, cpu_execution: Execution) -> Search:
    """Return a search that trains a trial in a second: four steps, measured after one, two and four."""
    protocol = dataclasses.replace(
        small_protocol,
        validation_per_class=5,
        classifier_batch_size=25,
        classifier_budget=Budget(steps=4, rounds=4),
    )
    return Search(
        name="small",
        component="classifier",
        base=make_cell(protocol, dataset=TINY, c="1/2", method="undersample", generator=None),
        objectives=("macro_f1",),
        seeds=(1000, 1001),
        scheduler="asha",
        reduction=2,
        sampler_seed=0,
        execution=cpu_execution,
    )


@pytest.fixture(scope="session")
def small_cgan_search(small_protocol: Protocol, cpu_execution: Execution) -> Search:
    """Return a search over CGANs: four steps, measured after one, two and four, by a short classifier."""
    protocol = dataclasses.replace(
        small_protocol,
        validation_per_class=5,
        classifier_budget=Budget(steps=2, rounds=1),
        generator_batch_size=64,
        generator_budget=Budget(steps=4, rounds=4),
    )
    generator = "small_mlp_cgan_leaky"
    return Search(
        name="small-cgan",
        component="generator",
        base=make_cell(protocol, dataset=TINY, c="1/2", method="cgan", generator=generator),
        objectives=("macro_f1",),
        seeds=(1000, 1001),
        scheduler="asha",
        reduction=2,
        sampler_seed=0,
        execution=cpu_execution,
    )


@pytest.fixture
def classifier_stage(small_protocol: Protocol, cpu_execution: Execution) -> ClassifierStage:
    """Return the stage of a classifier on an oversampled set, at seed 0."""
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method="oversample", generator=None)
    return cell.stage(0, cpu_execution)


@pytest.fixture
def generator_stage(small_protocol: Protocol, cpu_execution: Execution) -> GeneratorStage:
    """Return the stage of a small CGAN, at seed 0."""
    cell = make_cell(
        small_protocol,
        dataset=TINY,
        c="1/2",
        method="cgan",
        generator="small_mlp_cgan_leaky",
    )
    stage = cell.stage(0, cpu_execution).generator_stage
    assert stage is not None
    return stage


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Return a server of the S3 protocol that all tests share; each makes buckets of its own."""
    import botocore.loaders  # here, so that tests without a bucket do not need it

    with pytest.MonkeyPatch.context() as patch, serve() as server:
        # Every client would read its descriptions again, which takes longer than the requests of a test.
        patch.setattr("botocore.session.create_loader", functools.cache(botocore.loaders.create_loader))
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Return the server, which the environment of the test leads to."""
    for name, value in environment(s3_server.url).items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty place for a store, with a space and a letter beyond ASCII in its name."""
    if request.param == "directory":
        return DirectoryPlace(tmp_path / "röot with space")
    request.getfixturevalue("s3")
    return BucketPlace("röot with space")


@pytest.fixture
def unprinted_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports draw their figures and print none, which is half of the work, for tests of the rest."""
    for name in ("to_svg", "to_png"):
        monkeypatch.setattr(f"analysis.embedding.{name}", lambda drawn: b'<svg viewBox="0 0 1 1"></svg>')


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, whatever ran before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands run their stages one by one in this process, for tests that are not about Ray."""
    # Ray is imported where it is used, as by all fixtures.
    from lt_rebalance.cluster import session
    from lt_rebalance.commands import running
    from lt_rebalance.stages.kinds import run_stage

    @contextlib.contextmanager
    def no_ray(address: str | None) -> Iterator[ClusterSize]:
        yield {}

    def run_here(ledger: Ledger, store: Store, data_dir: str | None, *_: object) -> None:
        while pending := ledger.pending():
            for key, stage in pending.items():
                if not {each.key for each in stage.upstreams} & set(pending):
                    run_stage(stage, store, data_dir)
                    ledger.refresh(key)

    monkeypatch.setattr(session, "ray_cluster", no_ray)
    monkeypatch.setattr(running, "run_plan", run_here)
