"""A store that only some nodes of a real cluster see is refused before anything is run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from lt_rebalance.cluster.nodes import require_data_on_all_nodes, require_store_on_all_nodes
from lt_rebalance.commands.sweep import main
from lt_rebalance.ground.errors import ClusterError, DataError
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.studies.stage import RESULTS_VERSION
from sweeps import full_grid
from tests.places import BucketPlace
from tests.ray_faults import BROKEN_WORKER
from tests.ray_nodes import started_head
from tests.s3_server import S3Server, environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start two nodes whose processes have different working directories, and point both to the S3 server."""
    here = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(s3_server.url).items():
            patch.setenv(name, value)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(here))
        patch.chdir(tmp_path_factory.mktemp("head"))
        with started_head() as started:
            patch.chdir(tmp_path_factory.mktemp("worker"))
            started.add_node(num_cpus=1)
            patch.chdir(here)
            ray.init(address=started.address, log_to_driver=False)
            yield started
            ray.shutdown()


def open_at(location: str) -> Store:
    store = open_store(location, RESULTS_VERSION, create=True)
    assert store is not None
    return store


@pytest.mark.usefixtures("cluster")
def test_store_that_all_nodes_see_passes_and_nothing_is_left(tmp_path: Path) -> None:
    require_store_on_all_nodes(open_at(str(tmp_path)))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["store.json"]


def test_data_that_some_node_lacks_is_refused_with_its_name(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path leads to another directory on each node, and the set is in none."""
    require_data_on_all_nodes(["fashion_mnist_mini"], "/proc/self/cwd/data")
    with pytest.raises(DataError, match="not all nodes of the cluster have the data") as error:
        require_data_on_all_nodes(["mnist"], "/proc/self/cwd/data")
    for node in cluster.list_all_nodes():
        assert f"{node.node_id[:8]}): mnist: " in str(error.value)


@pytest.mark.usefixtures("cluster", "s3")
def test_bucket_that_all_nodes_reach_passes() -> None:
    place = BucketPlace("store")
    require_store_on_all_nodes(open_at(place.location))
    assert list(place.read_all()) == ["store.json"]


def test_directory_that_lies_elsewhere_on_each_node_is_refused_with_their_names(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One path that is another directory in every process: its working directory.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StoreError, match="not all nodes of the cluster see --storage /proc/self/cwd"
    ) as error:
        require_store_on_all_nodes(open_at("/proc/self/cwd/store"))
    for node in cluster.list_all_nodes():
        assert node.node_id[:8] in str(error.value)
    assert "it sees another directory, or none" in str(error.value)
    assert "every node mounts under this path, or s3://BUCKET/PREFIX" in str(error.value)


def test_only_the_nodes_that_do_not_see_it_are_named(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, worker = cluster.head_node, next(iter(cluster.worker_nodes))
    monkeypatch.chdir(os.readlink(f"/proc/{_raylet_pid(head)}/cwd"))
    with pytest.raises(StoreError) as error:
        require_store_on_all_nodes(open_at("/proc/self/cwd/store"))
    assert worker.node_id[:8] in str(error.value)
    assert head.node_id[:8] not in str(error.value)


def _raylet_pid(node: object) -> int:
    (process,) = node.all_processes["raylet"]  # type: ignore[attr-defined]
    return int(process.process.pid)


def test_sweep_on_a_store_that_is_not_shared_is_refused_before_anything_is_run(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.shutdown()
    monkeypatch.chdir(tmp_path)
    arguments = ["--address", cluster.address, "--storage", "/proc/self/cwd/store", "--device", "cpu"]
    assert (
        main(full_grid.make_grid_parser(), full_grid.build_study, [*arguments, "--max-concurrent", "1"]) == 2
    )
    assert "not all nodes of the cluster see --storage" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["store.json"]
    ray.init(address=cluster.address, log_to_driver=False)


def test_node_that_cannot_import_the_project_is_refused_by_its_error(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN_WORKER)
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    broken = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": path})
    try:
        with pytest.raises(
            ClusterError, match="ModuleNotFoundError: No module named 'lt_rebalance'"
        ) as error:
            require_store_on_all_nodes(open_at(str(tmp_path / "store")))
    finally:
        cluster.remove_node(broken)
    assert broken.node_id[:8] in str(error.value)
    assert cluster.head_node.node_id[:8] not in str(error.value)
    assert not error.value.was_lost and "this version of lt_rebalance" in error.value.remedy
