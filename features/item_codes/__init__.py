"""Semantic and collaborative item codes."""
