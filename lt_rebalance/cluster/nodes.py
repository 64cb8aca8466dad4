"""Ask every node of a Ray cluster before a run: can it run trials, see the store, and read the data?"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lt_rebalance.cluster.ray_watch import check_ray
from lt_rebalance.cluster.rungs import PopulationTrainable, RungTrainable
from lt_rebalance.cluster.trainable import StageTrainable
from lt_rebalance.data.files import load_dataset
from lt_rebalance.ground.errors import ClusterError, DataError
from lt_rebalance.monitoring.waiting import Waiting
from lt_rebalance.store import Store, StoreError
from lt_rebalance.store.place import find_place

TRAINABLES = (StageTrainable, RungTrainable, PopulationTrainable)
"""module that a node must be able to import; to answer it imports this module"""

ANSWER_S = 300.0
"""time limit for all nodes together; the first task on a node starts a worker"""
_LOOK_EVERY_S = 1.0


def require_store_on_all_nodes(store: Store) -> None:
    """Check that every live node can run trials, and can read a file just written to the store.

    These tasks request no CPU, so they run on busy nodes, too.

    Raises:
        ClusterError: some cannot import a module that trials need, or do not answer; it names them.
        StoreError: some do not see the store; it names them and what they see.
    """
    path, token = f"running/seen-{uuid.uuid4().hex}", uuid.uuid4().bytes
    store.files.replace(path, token)
    try:
        unseen = _ask(_list_alive(), _find_fault, store.location, path, token)
    finally:
        store.files.remove(path)
    _raise_for_unseen(store, unseen)


def require_data_on_all_nodes(datasets: Sequence[str], data_dir: str) -> None:
    """Check that every live node with CPUs for trials has the files of data sets in a directory.

    Raises:
        ClusterError: as `require_store_on_all_nodes`.
        DataError: some have not; it names them and what they lack.
    """
    nodes = {name: node for name, node in _list_alive().items() if node["Resources"].get("CPU", 0) > 0}
    if faults := _ask(nodes, _find_missing, datasets, data_dir):
        raise DataError(
            f"not all nodes of the cluster have the data ({_list(faults)}); every node needs it, under the "
            "--data-dir of this command"
        )


def _ask(
    nodes: Mapping[str, Mapping[str, Any]], find_fault: Callable[..., str], *arguments: object
) -> dict[str, str]:
    """Return what a function returns on each live node where that is not empty; a dead node is not an error.

    Raises:
        ClusterError: as `require_store_on_all_nodes`.
    """
    # Any: Ray's decorator hides what it decorates.
    remote: Any = ray.remote(num_cpus=0, max_retries=0)(find_fault)
    asked = {}
    for node_id, node in nodes.items():
        strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
        asked[remote.options(scheduling_strategy=strategy).remote(*arguments)] = _name(node)
    unable, faults = _collect(asked)
    alive = {_name(node) for node in _list_alive().values()}
    _raise_for_unable({name: fault for name, fault in unable.items() if name in alive})
    return {name: fault for name, fault in faults.items() if name in alive}


def _collect(asked: Mapping[Any, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return, by node, why it cannot run the task, and what the task has found wrong.

    Args:
        asked: by task, the name of its node.
    """
    unable, faults = {}, {}
    left, waiting, deadline_s = list(asked), Waiting(), time.monotonic() + ANSWER_S
    while left and time.monotonic() < deadline_s:
        answered, left = ray.wait(left, num_returns=1, timeout=_LOOK_EVERY_S)
        for task in answered:
            try:
                if fault := ray.get(task):
                    faults[asked[task]] = fault
            except ray.exceptions.RayError as error:
                unable[asked[task]] = _last_line(error)
        check_ray()
        waiting.look(partial(_name_waited_for, [asked[task] for task in left]))
    return unable | {asked[task]: f"did not answer for {ANSWER_S:g} s" for task in left}, faults


def _name_waited_for(nodes: Sequence[str]) -> str:
    return f"for nodes to check the store and the data: {', '.join(sorted(nodes))}"


def _last_line(error: Exception) -> str:
    """Return the error at the end of a traceback of Ray."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), repr(error))


def _list_alive() -> dict[str, Mapping[str, Any]]:
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _raise_for_unable(faults: Mapping[str, str]) -> None:
    if faults:
        raise ClusterError(
            f"not all nodes of the cluster can run this ({_list(faults)})",
            remedy="every node needs this version of lt_rebalance and all that it imports",
        )


def _raise_for_unseen(store: Store, faults: Mapping[str, str]) -> None:
    if faults:
        remedy = (
            "name a directory that every node mounts under this path, or s3://BUCKET/PREFIX"
            if store.directory is not None
            else "every node needs boto3, credentials and access to the bucket"
        )
        raise StoreError(
            f"not all nodes of the cluster see --storage {store.location} ({_list(faults)}); {remedy}"
        )


def _list(faults: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {fault}" for name, fault in sorted(faults.items()))


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


def _find_missing(datasets: Sequence[str], data_dir: str) -> str:
    """Return what this node lacks of some data sets; empty if it has all."""
    try:
        for name in datasets:
            load_dataset(name, data_dir)
    except DataError as error:
        return str(error)
    return ""


def _find_fault(location: str, path: str, token: bytes) -> str:
    """Return why this node does not see a file in the store with its content; empty if it does."""
    try:
        if find_place(location).files.read(path) == token:
            return ""
    except FileNotFoundError:
        return "it sees another directory, or none, under this path"
    except (OSError, StoreError) as error:
        return str(error)
    return "it sees another file under this path"
