"""Print the nodes of the Ray cluster whenever they change, as JSON: state by address. Runs on the head."""

import json
import time

import ray

PERIOD_S = 0.2


def main() -> None:
    """Watch until this process is ended."""
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    seen: dict[str, bool] = {}
    while True:
        # A node that comes back does so under another id: an address lives when one of its nodes does.
        alive: dict[str, bool] = {}
        for node in ray.nodes():
            address = node["NodeManagerAddress"]
            alive[address] = alive.get(address, False) or node["Alive"]
        if alive != seen:
            print(json.dumps(alive), flush=True)
            seen = alive
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main()
