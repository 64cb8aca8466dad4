"""The command `lt-rebalance`: look at a store, check it, tidy it. One module a command."""
