"""Prefect: environment, local server and run messages."""
