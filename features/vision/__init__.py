"""Finds, decodes, preprocesses and batches photos."""
