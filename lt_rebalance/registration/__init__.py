"""Preregistered studies: their plans, and what was run held against them."""
