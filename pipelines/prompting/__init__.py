"""Samples and renders the examples of the prompt tables."""
