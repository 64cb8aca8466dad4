"""Rebalancing methods and losses."""
