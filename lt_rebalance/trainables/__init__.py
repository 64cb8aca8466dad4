"""Trainables for a Tuner of a user's own."""
