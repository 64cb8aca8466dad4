"""`lt-rebalance`: what looks at a store, tidies it, and runs again what it names."""
