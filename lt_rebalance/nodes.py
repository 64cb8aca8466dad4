"""Ask every node of a Ray cluster whether it sees the store, before anything is run there."""

import uuid
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lt_rebalance.store import Store, StoreError
from lt_rebalance.store_location import find_place

ANSWER_S = 300.0
"""how long nodes may take, all together; the first task on one starts a worker there"""


def require_store_on_all_nodes(store: Store) -> None:
    """Check that every node that is alive now reads a file that was just written to the store.

    The tasks that look hold no CPU, so they run on nodes that are busy, too.

    Raises:
        StoreError: some do not, or do not answer; it names them and what they saw.
    """
    nodes = _list_alive()
    if len(nodes) < 2:
        return
    path, token = f"running/seen-{uuid.uuid4().hex}", uuid.uuid4().bytes
    store.files.replace(path, token)
    try:
        # Any: Ray's decorator hides what it decorates.
        remote: Any = ray.remote(num_cpus=0, max_retries=0)(_find_fault)
        asked = {}
        for node_id in nodes:
            strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
            task = remote.options(scheduling_strategy=strategy).remote(store.location, path, token)
            asked[task] = node_id
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
        faults = {asked[task]: f"did not answer for {ANSWER_S:g} s" for task in asked}
        faults |= {asked[task]: _get(task) for task in answered}
    finally:
        store.files.remove(path)
    alive = _list_alive()  # a node that has died meanwhile is nobody's fault
    _raise_for(store, {_name(alive[node]): faults[node] for node in faults if node in alive and faults[node]})


def _list_alive() -> dict[str, Mapping[str, Any]]:
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _raise_for(store: Store, faults: Mapping[str, str]) -> None:
    if not faults:
        return
    listed = "; ".join(f"{name}: {fault}" for name, fault in sorted(faults.items()))
    remedy = (
        "name a directory that every node mounts under this path, or s3://BUCKET/PREFIX"
        if store.directory is not None
        else "every node needs boto3, credentials and a way to the bucket"
    )
    raise StoreError(f"not all nodes of the cluster see --storage {store.location} ({listed}); {remedy}")


def _get(task: Any) -> str:
    try:
        fault: str = ray.get(task)
    except ray.exceptions.RayError as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return fault


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


def _find_fault(location: str, path: str, token: bytes) -> str:
    """Return why this node does not see a file in the store as it is; empty when it does."""
    try:
        if find_place(location).files.read(path) == token:
            return ""
    except FileNotFoundError:
        return "it sees another directory, or none, under this path"
    except (OSError, StoreError) as error:
        return str(error)
    return "it sees another file under this path"
