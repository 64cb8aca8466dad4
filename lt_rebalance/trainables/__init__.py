"""Trainables for a user's Tuner."""
