"""Constrained and unconstrained search for items."""
