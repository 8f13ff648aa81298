"""Rank, compare, detect leaks, write the results."""
