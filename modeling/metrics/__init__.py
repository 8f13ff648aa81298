"""Ranking and text metrics with bootstrap confidence intervals."""
