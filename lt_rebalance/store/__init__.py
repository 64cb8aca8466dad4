"""The store: records, files, buckets, and the lease on them."""

from lt_rebalance.files.archive import require_outside
from lt_rebalance.store.place import open_store
from lt_rebalance.store.store import Store, StoreError

__all__ = ["Store", "StoreError", "open_store", "require_outside"]
