"""`lt-rebalance`: inspect a store, clean it up, and rerun stages."""
