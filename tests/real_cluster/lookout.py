"""What can be seen of a cluster and of the work on it, and what is reported about it."""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
from hosts import Host
from sandbox import LAB

BUCKET = "drill"
PREFIX = "results/"
PROMPT_S = 240.0
"""within which everything that is waited for has to happen, on a machine that does other things as well"""


@dataclass
class Story:
    """What was seen, and when."""

    facts: dict[str, Any] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)

    def tell(self, text: str) -> float:
        """Print what has just happened; return the seconds since 1970."""
        print(f"{time.monotonic() - self.started_s:6.1f} s  {text}", flush=True)
        return time.time()

    def wait(self, what: str, happened: Callable[[], bool], timeout_s: float = PROMPT_S) -> float:
        """Wait until something has happened, tell it and return how many seconds that took.

        Raises:
            TimeoutError: it has not.
        """
        start = time.monotonic()
        while not happened():
            if time.monotonic() - start > timeout_s:
                raise TimeoutError(f"waited {timeout_s:g} s in vain: {what}")
            time.sleep(0.1)
        took_s = time.monotonic() - start
        self.tell(f"{what} (after {took_s:.1f} s)")
        return round(took_s, 1)


class Nodes:
    """Which nodes Ray takes for alive, as the head sees it."""

    def __init__(self, head: Host) -> None:
        self.alive: dict[str, bool] = {}
        script = "~/lt_rebalance-cluster/code/tests/real_cluster/watch_nodes.py"
        command = head.ssh(f". ~/.bashrc; exec python {script}")
        with (LAB / "watch_nodes.log").open("wb") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # Ray says things there, too
                self.alive = json.loads(line)

    def has(self, host: Host) -> bool:
        """Whether a host is a living node."""
        return self.alive.get(host.address, False)


class Work:
    """Which host was seen at which stage, and which stages are done, as the store shows it."""

    def __init__(self) -> None:
        self.seen: dict[str, list[dict[str, Any]]] = {}
        """by key of a stage: host, pid, round, and since when it was seen"""
        self.done: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        client = boto3.client("s3")
        while not self._stop.wait(0.3):
            listed = client.list_objects_v2(Bucket=BUCKET, Prefix=PREFIX).get("Contents", ())
            for key in (each["Key"].removeprefix(PREFIX) for each in listed):
                parts = key.split("/")
                if parts[0] == "stages" and parts[2] == "result.json":
                    self.done.setdefault(parts[1], time.time())
                if parts[0] == "running" and parts[1].startswith("trial-"):
                    with contextlib.suppress(client.exceptions.NoSuchKey):
                        note = client.get_object(Bucket=BUCKET, Key=PREFIX + key)["Body"].read()
                        self._take(json.loads(note))

    def _take(self, note: Mapping[str, Any]) -> None:
        sighting = {name: note[name] for name in ("host", "pid", "round", "num_rounds")}
        for key in note["keys"]:
            before = self.seen.setdefault(key, [])
            if not before or {name: before[-1][name] for name in sighting} != sighting:
                before.append(sighting | {"seen_s": time.time()})

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def list_midway(self, host: Host) -> list[str]:
        """Return the stages that a host is at, with a checkpoint and with more than a round to go."""
        last = {key: seen[-1] for key, seen in list(self.seen.items()) if key not in self.done}
        return [
            key
            for key, at in last.items()
            if at["host"] == host.name and 1 <= at["round"] < at["num_rounds"] - 1
        ]

    def has_worked(self, host: Host, after_s: float) -> bool:
        """Whether a host was seen at work since a moment."""
        sightings = [at for seen in list(self.seen.values()) for at in seen]
        return any(at["host"] == host.name and at["seen_s"] > after_s for at in sightings)
