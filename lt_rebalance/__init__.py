"""Sweeps over rebalancing methods for long-tailed image classification."""
