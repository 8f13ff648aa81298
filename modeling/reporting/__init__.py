"""Renders the model page and its plots."""
