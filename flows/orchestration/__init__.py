"""Prefect's settings, server and messages."""
