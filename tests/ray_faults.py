"""Faults of Ray that several tests bring about."""

BROKEN_WORKER = """
import sys
if any("default_worker" in argument for argument in sys.orig_argv):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "lt_rebalance":
                raise ModuleNotFoundError("No module named 'lt_rebalance'")
    sys.meta_path.insert(0, Finder())
"""
"""a `sitecustomize` with which a worker's Python does not find the project"""
