"""The store: records, files, buckets, and the lease on them."""

from lt_rebalance.files.archive import require_outside
from lt_rebalance.files.joined import JoinedFiles
from lt_rebalance.store.place import join_stores, open_store
from lt_rebalance.store.store import Store, StoreError

__all__ = ["JoinedFiles", "Store", "StoreError", "join_stores", "open_store", "require_outside"]
