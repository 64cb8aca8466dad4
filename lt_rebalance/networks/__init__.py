"""Classifiers, generators and their initial weights."""
