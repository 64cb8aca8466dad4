"""Hyperparameter search: its question, its journal and its account."""
