"""The command lines: sweeps, searches, lt-rebalance."""
