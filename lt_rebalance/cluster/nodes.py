"""Ask every node of a Ray cluster whether it can run trials and sees the store, before a run."""

import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lt_rebalance.cluster.ray_watch import check_ray
from lt_rebalance.cluster.rungs import PopulationTrainable, RungTrainable
from lt_rebalance.cluster.trainable import StageTrainable
from lt_rebalance.ground.errors import ClusterError
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
    nodes = _list_alive()
    path, token = f"running/seen-{uuid.uuid4().hex}", uuid.uuid4().bytes
    store.files.replace(path, token)
    try:
        # Any: Ray's decorator hides what it decorates.
        remote: Any = ray.remote(num_cpus=0, max_retries=0)(_find_fault)
        asked = {}
        for node_id in nodes:
            strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
            task = remote.options(scheduling_strategy=strategy).remote(store.location, path, token)
            asked[task] = _name(nodes[node_id])
        unable, unseen = _collect(asked)
    finally:
        store.files.remove(path)
    alive = {_name(node) for node in _list_alive().values()}  # a dead node is not an error
    _raise_for_unable({name: fault for name, fault in unable.items() if name in alive})
    _raise_for_unseen(store, {name: fault for name, fault in unseen.items() if name in alive})


def _collect(asked: Mapping[Any, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return, by node, why it cannot run the task, and why it does not see the store.

    Args:
        asked: by task, the name of its node.
    """
    unable, unseen = {}, {}
    left, waiting, deadline_s = list(asked), Waiting(), time.monotonic() + ANSWER_S
    while left and time.monotonic() < deadline_s:
        answered, left = ray.wait(left, num_returns=1, timeout=_LOOK_EVERY_S)
        for task in answered:
            try:
                if fault := ray.get(task):
                    unseen[asked[task]] = fault
            except ray.exceptions.RayError as error:
                unable[asked[task]] = _last_line(error)
        check_ray()
        waiting.look(partial(_name_waited_for, [asked[task] for task in left]))
    return unable | {asked[task]: f"did not answer for {ANSWER_S:g} s" for task in left}, unseen


def _name_waited_for(nodes: Sequence[str]) -> str:
    return f"for nodes to check that they see the store: {', '.join(sorted(nodes))}"


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
